"""Train the embedded world's base: the real WanVACETransformer3DModel at a tiny size, from pose to video.

No identity goes in. The base learns to draw somebody dancing, and the noise decides who that is. The path, the target,
the noise levels and the control are the product's own (flow.py, wan_vace/control.py). Single frames (portraits, without
a pose) are part of training, as images are of Wan's. Prompts are part of it, too. They say nothing here, and must
change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faceid import flow
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.photo_latents import PhotoLatent
from faceid.logs import progress
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.base.latent_codec import LatentStatistics
from faceid.models.wan_vace.control import pose_control
from faceid.models.wan_vace.transformer import forward_inputs
from toy_factory.schedule import rate_factor


@dataclass(frozen=True)
class TransformerTraining:
    """How the base is trained. A step is one batch."""

    num_steps: int = 3000
    batch_size: int = 8
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    shift: float = 3.0
    logit_normal_share: float = 0.5
    photo_share: float = 0.12
    """Share of the batches that are portraits, four times as many as clips."""
    head_weight: float = 0.5
    """Weight of the loss inside the head, which is added to the mean over everything."""
    ema: float = 0.998
    """Decay of the running mean of the weights. The running mean is kept."""
    seed: int = 0


@dataclass(frozen=True)
class BaseData:
    """Everything in memory, normalised, float32.

    video, pose: [N, C, f, h, w]. masks: [N, f, h, w]. photos: [M, C, 1, h, w]. photo_masks: [M, 1, h, w].
    prompts: [3, L, D]: the caption, the empty prompt, the default negative one.
    """

    video: Tensor
    pose: Tensor
    masks: Tensor
    inactive: Tensor
    photos: Tensor
    photo_masks: Tensor
    photo_inactive: Tensor
    prompts: Tensor


def read_base_data(latents: LatentSet, photos: Sequence[PhotoLatent], statistics: LatentStatistics) -> BaseData:
    """Read all clips and portraits into memory."""
    samples = [latents[number] for number in progress(range(len(latents)), "latents", unit="clip")]
    size = samples[0].video.shape[2:]
    texts = [latents.caption, "", DEFAULT_NEGATIVE_PROMPT]

    def ready(raw: Sequence[Tensor]) -> Tensor:
        return statistics.normalise(torch.stack(list(raw)))

    return BaseData(
        video=ready([sample.video for sample in samples]),
        pose=ready([sample.pose for sample in samples]),
        masks=torch.stack([sample.head_mask for sample in samples]).float(),
        inactive=ready([samples[0].inactive]),
        photos=ready([photo.latent for photo in photos]),
        photo_masks=torch.stack([photo.head_mask for photo in photos]).float(),
        photo_inactive=ready([latents.inactive(1, *size)]),
        prompts=torch.stack([latents.prompt(text) for text in texts]).float(),
    )


def train_transformer(
    transformer: Any,
    data: BaseData,
    geometry: Any,
    settings: TransformerTraining,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train in place. Afterwards `transformer` holds the running mean. on_step: called with (steps done, loss)."""
    transformer.requires_grad_(True).train()
    generator = torch.Generator().manual_seed(settings.seed)
    parameters = list(transformer.parameters())
    mean = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(
        parameters, settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    for step in progress(range(settings.num_steps), "base", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(
                step, settings.num_steps, settings.warmup_steps, least=0.01
            )
        loss = base_loss(transformer, data, geometry, settings, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        # Early weights know nothing yet, so the decay is low at first.
        decay = min(settings.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(mean, [parameter.detach() for parameter in parameters], 1 - decay)
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    for parameter, kept in zip(parameters, mean, strict=True):
        parameter.data.copy_(kept)
    transformer.requires_grad_(False).eval()


def base_loss(
    transformer: Any, data: BaseData, geometry: Any, settings: TransformerTraining, generator: torch.Generator
) -> Tensor:
    """The flow-matching loss of one batch drawn from `generator`, float32 scalar."""
    if torch.rand(1, generator=generator).item() < settings.photo_share:
        chosen = torch.randint(len(data.photos), (4 * settings.batch_size,), generator=generator)
        x0, masks, inactive = data.photos[chosen], data.photo_masks[chosen], data.photo_inactive
        pose = inactive.expand_as(x0)
    else:
        chosen = torch.randint(len(data.video), (settings.batch_size,), generator=generator)
        x0, masks, pose, inactive = data.video[chosen], data.masks[chosen], data.pose[chosen], data.inactive
    # One sample in five has another prompt than the caption.
    text = data.prompts[(torch.rand(len(x0), generator=generator) * 10 - 7).clamp_min(0).long()]
    sigma = flow.stratified_sigmas(len(x0), settings.shift, settings.logit_normal_share, generator)
    noise = torch.randn(x0.shape, generator=generator)
    control = pose_control(pose, inactive, geometry)
    inputs = forward_inputs(flow.add_noise(x0, noise, sigma), flow.model_timestep(sigma), text, control)
    prediction = transformer(**inputs)[0]
    error = flow.flow_loss(prediction, flow.velocity_target(x0, noise))
    return error.mean() + settings.head_weight * (error * masks).sum() / masks.sum().clamp_min(1)
