"""Choose the phrases that describe a person best: those under which photos are least surprising.

A diffusion model is a classifier, too: of several prompts the right one lowers its loss (Li et al. 2023, 2303.16203).
Groups are decided one after the other, each given what the others say. Few samples are enough to find the best of all
phrases; among these it is decided once more, with many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from faceid.description.phrases import Phrases
from faceid.logs import progress
from faceid.models.prompt_phrases import join_phrases

Losses = Callable[[Sequence[str]], Tensor]
"""Losses [P, S] of P prompts on S samples, which are the same for every prompt, noise included; two at least."""

# Phrases of a group that are tried again, when the other groups have spoken. To try all on few samples first would save
# more, but lost the right one.
KEPT = 8
# A phrase has to lower the loss by so many standard errors of its pairs. Else it says what no photo shows.
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Found:
    """phrases: by group, those that help. loss_before, loss_after: of the opening alone, and with them."""

    phrases: dict[str, str]
    loss_before: float
    loss_after: float


def find_phrases(phrases: Phrases, opening: str, quick: Losses, careful: Losses) -> Found:
    """Choose a phrase of each group, or none where none helps.

    quick: tells the best of all phrases. careful: of more samples, with noises of their own; decides among the best.
    """
    groups, chosen = {name: list(of) for name, of in phrases.groups.items()}, dict.fromkeys(phrases.groups, "")
    sure: dict[str, bool] = {}
    steps = [(name, losses) for losses in (quick, careful) for name in groups]
    for name, losses in progress(steps, "phrases", total=len(steps), unit="group"):
        prompts = [join_phrases(opening, (chosen | {name: phrase}).values()) for phrase in ("", *groups[name])]
        found = losses(prompts)
        order = found[1:].mean(1).argsort(stable=True).tolist()
        gains = found[0] - found[1 + order[0]]
        # Unsure phrases stay while others are chosen: left out, they made others wrong.
        chosen[name] = groups[name][order[0]] if gains.mean() > 0 else ""
        sure[name] = bool(gains.mean() > STANDARD_ERRORS * gains.std() / math.sqrt(len(gains)))
        groups[name] = [groups[name][place] for place in order[:KEPT]]
    chosen = {name: phrase for name, phrase in chosen.items() if phrase and sure[name]}
    before, after = careful([opening, join_phrases(opening, chosen.values())]).mean(1).tolist()
    return Found(chosen, before, after)
