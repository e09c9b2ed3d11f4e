"""The embedding-swap gap: does the model use the face it is given? Measured without rendering anything.

The loss inside the head with a wrong person's embedding, minus the loss with the right one, on the same clips, the same
noise and the same noise levels. Zero or less: the face is ignored. Positive: the right face helps to predict the head.
benchmarks/records/swap_gap_checkpoints*.json say how well it predicts who is recognised in rendered videos.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faceid import flow
from faceid.data.face_bank import FaceBank
from faceid.data.index import DamagedError
from faceid.data.latents import LatentSet
from faceid.data.order import seed_for
from faceid.models.face_tokens import face_input
from faceid.models.latents import LatentStatistics
from faceid.vace import pose_control

log = logging.getLogger(__name__)

# Where a face is decided: nearly clean latents show it anyway, nearly pure noise hides it.
NOISE_LEVELS = (0.35, 0.55, 0.75, 0.9)


@dataclass(frozen=True)
class SwapGap:
    """Mean losses inside the head, and their difference per noise level."""

    right: float
    wrong: float
    gap_at: dict[float, float]

    @property
    def gap(self) -> float:
        """wrong - right."""
        return self.wrong - self.right


@dataclass(frozen=True)
class FacePair:
    """One clip by number, with its own dancer's embedding and another's, [D] each."""

    number: int
    right: Tensor
    wrong: Tensor


def pair_faces(latents: LatentSet, faces: FaceBank, dancers: Sequence[str], limit: int) -> list[FacePair]:
    """Clips of `dancers` with a known face; wrong is the next dancer's, in sorted order. Empty with fewer than two.

    The right face comes from the dancer's other performances where there are some.
    """
    of: dict[str, list[int]] = {}
    clips = latents.clips
    for number, dancer in enumerate(latents.dancers):
        if dancer in dancers and faces.of_dancer(dancer) is not None:
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
    # Evenly over the dancers, the same for every checkpoint.
    count = min(limit, len(pairs))
    return [pairs[place * len(pairs) // count] for place in range(count)]


@torch.no_grad()
def swap_gap(
    transformer: Any, latents: LatentSet, statistics: LatentStatistics, pairs: Sequence[FacePair], seed: int
) -> SwapGap:
    """Measure on `pairs`; the transformer has its adapter on. Under ZeRO-3 every rank must call."""
    losses = {level: torch.zeros(2, dtype=torch.float64) for level in NOISE_LEVELS}
    device, dtype = transformer.device, transformer.dtype
    counted = 0
    for pair in pairs:
        try:
            sample = latents[pair.number]
        except DamagedError as damage:
            log.warning("left out of the swap gap: %s", damage)
            continue
        counted += 1
        x0 = statistics.normalise(sample.video.unsqueeze(0))
        pose, inactive = (statistics.normalise(raw.unsqueeze(0)) for raw in (sample.pose, sample.inactive))
        control = pose_control(pose, inactive, latents.geometry).expand(2, -1, -1, -1, -1)
        face = face_input(torch.stack([pair.right, pair.wrong]).float())
        mask = sample.head_mask.float()
        for level in NOISE_LEVELS:
            generator = torch.Generator().manual_seed(seed_for(seed, pair.number, f"swap gap {level}"))
            noise = torch.randn(x0.shape, generator=generator)
            sigma = torch.tensor([level])
            prediction = transformer(
                hidden_states=flow.add_noise(x0, noise, sigma).expand(2, -1, -1, -1, -1).to(device, dtype),
                timestep=flow.model_timestep(sigma).expand(2).to(device),
                encoder_hidden_states=sample.prompt_embeds.expand(2, -1, -1).to(device, dtype),
                encoder_hidden_states_image=face.to(device),
                control_hidden_states=control.to(device, dtype),
                return_dict=False,
            )[0]
            error = flow.flow_loss(prediction.cpu(), flow.velocity_target(x0, noise).expand(2, -1, -1, -1, -1))
            losses[level] += ((error * mask).sum((1, 2, 3)) / mask.sum().clamp_min(1)).double()
    means = {level: value / max(counted, 1) for level, value in losses.items()}
    right, wrong = (float(torch.stack(list(means.values())).mean(0)[side]) for side in (0, 1))
    return SwapGap(right, wrong, {level: float(value[1] - value[0]) for level, value in means.items()})
