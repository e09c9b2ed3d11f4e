"""Choose the phrases that describe a person best: those under which photos are least surprising.

A diffusion model is a classifier, too: of several prompts the right one lowers its loss (Li et al. 2023, 2303.16203).
Groups are decided one after the other, twice, each given what the others say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from faceid.description.phrases import Phrases, join_phrases
from faceid.logs import progress

Losses = Callable[[Sequence[str], int], Tensor]
"""Losses [P, n] of P prompts on the first n samples. Samples are the same for every prompt, noise included."""

ROUNDS = 2
# All phrases are tried on the first eighth of the samples, the best quarter of them on a quarter, and so on.
CUTS = ((1 / 8, 1 / 4), (1 / 4, 1 / 4))
# Fewer are not worth cutting.
FEWEST = 4
# A phrase has to lower the loss by so many standard errors of its pairs. Else it says what no photo shows.
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Found:
    """phrases: by group, those that help. loss_before, loss_after: of the opening alone, and with them."""

    phrases: dict[str, str]
    loss_before: float
    loss_after: float


def find_phrases(phrases: Phrases, opening: str, losses: Losses, num_samples: int) -> Found:
    """Choose a phrase of each group, or none where none helps. num_samples: how many there are, two at least."""
    chosen = dict.fromkeys(phrases.groups, "")
    (before,) = losses([opening], num_samples).mean(1).tolist()
    steps = [name for _ in range(ROUNDS) for name in phrases.groups]
    for name in progress(steps, "phrases", total=len(steps), unit="group"):
        tried = ["", *phrases.groups[name]]
        prompts = {phrase: join_phrases(opening, (chosen | {name: phrase}).values()) for phrase in tried}
        chosen[name] = _best(prompts, losses, num_samples)
    (after,) = losses([join_phrases(opening, chosen.values())], num_samples).mean(1).tolist()
    return Found({name: phrase for name, phrase in chosen.items() if phrase}, before, after)


def _best(prompts: dict[str, str], losses: Losses, num_samples: int) -> str:
    """The phrase whose prompt has the least loss; "" where none is clearly better than none."""
    left = [phrase for phrase in prompts if phrase]
    for share, kept in CUTS:
        count = max(math.ceil(kept * len(left)), FEWEST)
        if len(left) > count:
            means = losses([prompts[phrase] for phrase in left], math.ceil(share * num_samples)).mean(1)
            left = [left[place] for place in means.argsort(stable=True)[:count].tolist()]
    of_all = losses([prompts[phrase] for phrase in ("", *left)], num_samples)
    place = int(of_all[1:].mean(1).argmin()) + 1
    gains = of_all[0] - of_all[place]
    error = gains.std() / math.sqrt(num_samples)
    return left[place - 1] if bool(gains.mean() > STANDARD_ERRORS * error) and torch.isfinite(error) else ""
