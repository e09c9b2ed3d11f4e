"""Measure what a base reads of people it has never seen: descriptions and references, of the person or of another.

The loss inside the head at a high noise level tells. There the picture holds hardly anything of who it is, so what the
base knows comes from its conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceid import flow
from faceid.models.adapter_settings import DEFAULT_PROMPT
from faceid.models.wan_vace.control import pose_control
from faceid.models.wan_vace.transformer import forward_inputs
from faceid.toy.descriptions import describe
from faceid.toy.people import Person, generator
from toy_factory.base_data import BaseData
from toy_factory.train_transformer import Prompts

LEVELS = (0.95, 0.8, 0.5)
# Pictures of so many people, at each of so many noises.
BATCH = 24


@torch.no_grad()
def read_base(
    transformer: Any, prompts: Prompts, data: BaseData, people: Sequence[Person], geometry: Any, num_noises: int = 4
) -> dict[str, dict[str, float]]:
    """The loss inside the head by condition and noise level, over single pictures with their pose.

    people: by the numbers in `data.picture_who`. Conditions: neutral, own_prompt, other_prompt, own_reference,
    other_reference, both.
    """
    rng = generator(0, "base reading")
    first_of = {who: place for place, who in reversed(list(enumerate(data.picture_who.tolist())))}
    portrait_of = {who: place for place, who in reversed(list(enumerate(data.portrait_who.tolist())))}
    numbers = sorted(first_of.keys() & portrait_of.keys())
    chosen = [numbers[place] for place in rng.permutation(len(numbers))[:BATCH]]
    others = [*chosen[1:], chosen[0]]
    places = torch.tensor([first_of[who] for who in chosen])
    x0, pose, mask = (rows[places].float() for rows in (data.pictures, data.picture_poses, data.picture_masks))
    own_prompt, other_prompt = ([describe(people[who], DEFAULT_PROMPT) for who in whose] for whose in (chosen, others))
    own_reference, other_reference = (
        data.portraits[torch.tensor([portrait_of[who] for who in whose])].float() for whose in (chosen, others)
    )
    neutral = [DEFAULT_PROMPT] * len(chosen)
    conditions: dict[str, tuple[list[str], Tensor | None]] = {
        "neutral": (neutral, None),
        "own_prompt": (own_prompt, None),
        "other_prompt": (other_prompt, None),
        "own_reference": (neutral, own_reference),
        "other_reference": (neutral, other_reference),
        "both": (own_prompt, own_reference),
    }
    grey = data.inactive[:, :, :1].float().expand_as(x0)
    found: dict[str, dict[str, float]] = {name: {} for name in conditions}
    for level in LEVELS:
        for name, (texts, reference) in conditions.items():
            losses = []
            for number in range(num_noises):
                noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(number))
                references = [] if reference is None else [reference]
                shown = torch.cat([*references, x0], dim=2)
                more = torch.Generator().manual_seed(1000 + number)
                all_noise = torch.cat([*(torch.randn(r.shape, generator=more) for r in references), noise], dim=2)
                sigma = torch.full((len(x0),), level)
                control = pose_control(pose, grey, geometry, references)
                inputs = forward_inputs(
                    flow.add_noise(shown, all_noise, sigma), flow.model_timestep(sigma), prompts(texts), control
                )
                error = flow.flow_loss(transformer(**inputs)[0], flow.velocity_target(shown, all_noise))
                error = error[:, len(references) :]
                losses.append(float((error * mask).sum() / mask.sum()))
            found[name][f"{level:g}"] = round(float(np.mean(losses)), 4)
    return found
