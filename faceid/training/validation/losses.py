"""Measure the loss at fixed noise with the right face, a wrong one, none, and without the pose.

Nothing is rendered. The **embedding-swap gap** is the loss inside the head with a wrong person's embedding minus that
with the right one. Both losses use the same clips, the same noise and the same noise levels. At zero or less the face
is ignored. When it is positive, the right face helps to predict the head. benchmarks/records/swap_gap_checkpoints*.json
say how well the gap predicts who is recognised in rendered videos.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from faceid import flow
from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_reader import LatentSample, LatentSet
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.order import seed_for
from faceid.data.shards.index import DamagedError
from faceid.geometry import Geometry
from faceid.models.adapter.face_tokens import face_input
from faceid.models.base.latent_codec import LatentStatistics
from faceid.models.wan_vace.control import pose_control
from faceid.models.wan_vace.transformer import forward_inputs

log = logging.getLogger(__name__)

Condition = Literal["right_face", "wrong_face", "no_face", "no_pose"]
"""The inputs of the model. no_pose has the right face."""
SWAP: tuple[Condition, ...] = ("right_face", "wrong_face")
CONDITIONS: tuple[Condition, ...] = (*SWAP, "no_face", "no_pose")
# The levels where a face is decided. Nearly clean latents show it anyway, and nearly pure noise hides it.
NOISE_LEVELS = (0.35, 0.55, 0.75, 0.9)
HEAD, WHOLE = 0, 1


@dataclass(frozen=True)
class SwapGap:
    """Mean losses inside the head."""

    right: float
    wrong: float

    @property
    def gap(self) -> float:
        """The loss with the wrong face minus that with the right one."""
        return self.wrong - self.right


@dataclass(frozen=True)
class FacePair:
    """One clip by number, with its own dancer's embedding and another's, [D] each."""

    number: int
    right: Tensor
    wrong: Tensor
    target_share: float = 0.0
    """1 where the right face is the target's, who may have tokens of their own."""


def pair_faces(
    latents: LatentSet | LatentSets, faces: FaceBank, numbers: Collection[int], limit: int
) -> list[FacePair]:
    """Those clips with a known face. The wrong face is the next dancer's, in sorted order. Empty below two dancers.

    The right face comes from the dancer's other performances where there are some.
    """
    of: dict[str, list[int]] = {}
    clips = latents.clips
    dancers = latents.dancers
    for number in numbers:
        if faces.of_dancer(dancer := dancers[number]) is not None:
            of.setdefault(dancer, []).append(number)
    names, pairs = sorted(of), []
    for place, name in enumerate(names if len(names) > 1 else []):
        stranger = faces.of_dancer(names[(place + 1) % len(names)])
        assert stranger is not None
        for number in of[name]:
            own, others = faces.faces_for(clips[number], name)
            known = others or own
            assert known is not None
            pairs.append(FacePair(number, known.mean(), stranger.mean()))
    # The clips are spread evenly over the dancers, and are the same for every checkpoint.
    count = min(limit, len(pairs))
    return [pairs[place * len(pairs) // count] for place in range(count)]


@torch.no_grad()
def measure_losses(
    transformer: Any,
    latents: LatentSet | LatentSets,
    statistics: LatentStatistics,
    pair: FacePair,
    seed: int,
    levels: Sequence[float] = NOISE_LEVELS,
    conditions: Sequence[Condition] = CONDITIONS,
) -> Tensor | None:
    """Mean losses inside the head and over the whole of one clip, float64 [conditions, levels, 2]; None if damaged.

    The transformer has its adapter on. Under ZeRO-3 every rank must call, with the same clip.
    """
    try:
        sample = latents[pair.number]
    except DamagedError as damage:
        log.warning("left out of validation: %s", damage)
        return None
    shown = shown_clip(sample, statistics, latents.geometry)
    return measure_shown(transformer, shown, pair, seed, levels, conditions)


@torch.no_grad()
def measure_shown(
    transformer: Any,
    clip: ShownClip,
    pair: FacePair,
    seed: int,
    levels: Sequence[float] = NOISE_LEVELS,
    conditions: Sequence[Condition] = CONDITIONS,
) -> Tensor:
    """As `measure_losses`, of what is in memory: a clip, or a photo without a pose."""
    losses = torch.zeros(len(conditions), len(levels), 2, dtype=torch.float64)
    # Conditions go in twos where possible, because what they share is computed in one pass.
    for first in range(0, len(conditions), 2):
        some = conditions[first : first + 2]
        for place, level in enumerate(levels):
            errors = _errors(transformer, clip, pair, some, level, seed)
            mask = clip.mask
            in_head = (errors * mask).sum((1, 2, 3)) / mask.sum().clamp_min(1)
            losses[first : first + 2, place] = torch.stack([in_head, errors.mean((1, 2, 3))], dim=1).double()
    return losses


def swap_gap(
    transformer: Any,
    latents: LatentSet | LatentSets,
    statistics: LatentStatistics,
    pairs: Sequence[FacePair],
    seed: int,
) -> SwapGap:
    """Measure only the gap on `pairs`."""
    measured = [measure_losses(transformer, latents, statistics, pair, seed, conditions=SWAP) for pair in pairs]
    return gap_of([losses for losses in measured if losses is not None])


def gap_of(measured: Sequence[Tensor]) -> SwapGap:
    """The gap from losses whose first two conditions are the right face and the wrong one."""
    means = torch.stack(list(measured)).mean(0) if measured else torch.zeros(2, 1, 2, dtype=torch.float64)
    return SwapGap(float(means[0, :, HEAD].mean()), float(means[1, :, HEAD].mean()))


@dataclass(frozen=True)
class ShownClip:
    """A clip as model input. x0, pose, inactive: normalised latents, [1, C, f, h, w]; prompt_embeds: [L, D].

    mask: the head's, [f, h, w] float32.
    """

    x0: Tensor
    pose: Tensor
    inactive: Tensor
    prompt_embeds: Tensor
    mask: Tensor
    geometry: Geometry


def shown_clip(sample: LatentSample, statistics: LatentStatistics, geometry: Geometry) -> ShownClip:
    """A sample as model input."""
    x0, pose, inactive = (
        statistics.normalise(raw.unsqueeze(0)) for raw in (sample.video, sample.pose, sample.inactive)
    )
    return ShownClip(x0, pose, inactive, sample.prompt_embeds, sample.head_mask.float(), geometry)


def _errors(
    transformer: Any,
    clip: ShownClip,
    pair: FacePair,
    conditions: Sequence[Condition],
    level: float,
    seed: int,
) -> Tensor:
    """Squared error per cell under each condition, [conditions, f, h, w] on the CPU."""
    count, device, dtype = len(conditions), transformer.device, transformer.dtype
    faces = {"right_face": pair.right, "wrong_face": pair.wrong, "no_face": torch.zeros_like(pair.right)}
    face = torch.stack([faces.get(condition, pair.right) for condition in conditions]).float()
    shares = torch.tensor(
        [0.0 if condition in ("wrong_face", "no_face") else pair.target_share for condition in conditions]
    )
    # Without a pose the control is a grey video, as for a photo.
    grey = clip.inactive.expand_as(clip.pose)
    shown = torch.cat([grey if condition == "no_pose" else clip.pose for condition in conditions])
    control = pose_control(shown, clip.inactive, clip.geometry)
    noise_seed = seed_for(seed, pair.number, f"swap gap {level}")
    noise = torch.randn(clip.x0.shape, generator=torch.Generator().manual_seed(noise_seed))
    sigma = torch.tensor([level])
    inputs = forward_inputs(
        flow.add_noise(clip.x0, noise, sigma).expand(count, -1, -1, -1, -1).to(device, dtype),
        flow.model_timestep(sigma).expand(count).to(device),
        clip.prompt_embeds.expand(count, -1, -1).to(device, dtype),
        control.to(device, dtype),
    )
    face = face_input(face, target_share=shares).to(device)
    prediction = transformer(encoder_hidden_states_image=face, **inputs)[0]
    return flow.flow_loss(prediction.cpu(), flow.velocity_target(clip.x0, noise).expand(count, -1, -1, -1, -1))
