"""Train the embedded world's base: the real WanVACETransformer3DModel at a tiny size.

It learns what Wan-VACE can do. A prompt describes a person, or says nothing of anybody. Reference frames show the
person, in half of the samples. A pose video says how somebody moves; portraits and some pictures have none. The path,
the target, the noise levels and the control are the product's own (flow.py, wan_vace/control.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faceid import flow
from faceid.logs import progress
from faceid.models.base.prompts import text_length
from faceid.models.wan_vace.control import assemble_control, mask_channels
from faceid.models.wan_vace.transformer import forward_inputs
from faceid.toy.people import Person, generator
from toy_factory.base_data import BaseData
from toy_factory.schedule import rate_factor
from toy_factory.train_text import CLIP_OPENINGS, NEUTRAL, PHOTO_OPENINGS, draw_description


@dataclass(frozen=True)
class TransformerTraining:
    """How the base is trained. A step is one batch of about `tokens` tokens."""

    num_steps: int = 7000
    tokens: int = 2048
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    level_until: float = 0.4
    """Share of the training after which the rate falls."""
    weight_decay: float = 0.01
    shift: float = 3.0
    logit_normal_share: float = 0.5
    clip_share_first: float = 0.15
    """Share of the batches that are clips, at the beginning. The others are single pictures."""
    clip_share_last: float = 0.6
    """The same at the end; it grows evenly."""
    portrait_share: float = 0.35
    """Share of the pictures that are portraits."""
    small_share: float = 0.2
    """Share of the portraits that are of half the side. They get no reference, which would be of another size."""
    without_pose: float = 0.2
    """Share of the batches of other pictures that get no pose."""
    reference_shares: tuple[float, float, float] = (0.5, 0.4, 0.1)
    """Shares of the batches with none, one and two references."""
    neutral_share: float = 0.3
    """Share of the samples whose prompt describes nobody."""
    head_weight: float = 2.0
    """Weight of the loss inside the head, which is added to the mean over everything."""
    reference_weight: float = 0.1
    """Weight of the loss of reference frames, which are only to be repeated."""
    ema: float = 0.999
    """Decay of the running mean of the weights. The running mean is kept."""
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """x0: [B, C, f, h, w]; pose: the same, or None; masks: [B, f, h, w]; references: each [B, C, 1, h, w].

    grey: the normalised latent of a grey clip of that size, [1, C, f, h, w].
    """

    x0: Tensor
    pose: Tensor | None
    masks: Tensor
    references: list[Tensor]
    grey: Tensor
    prompts: list[str]


class Prompts:
    """Embeds prompts as WanVACEPipeline does, many at once."""

    def __init__(self, tokenizer: Any, text_encoder: Any) -> None:
        self._tokenizer, self._encoder, self._length = tokenizer, text_encoder, text_length(tokenizer.model_max_length)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D], zeros after the end token."""
        words = self._tokenizer(
            list(prompts), padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
        )
        hidden = self._encoder(words.input_ids, words.attention_mask).last_hidden_state
        return hidden * words.attention_mask[..., None]


class Batches:
    """Draws batches: what is shown, who is told and how."""

    def __init__(self, data: BaseData, people: Sequence[Person], settings: TransformerTraining) -> None:
        self._data, self._people, self._settings = data, people, settings
        self._rng = generator(settings.seed, "base batches")
        self._of_person: dict[int, list[int]] = {}
        for place, who in enumerate(data.portrait_who.tolist()):
            self._of_person.setdefault(who, []).append(place)

    def draw(self, share: float) -> Batch:
        """One batch. share: how much of the training is done."""
        settings, rng, data = self._settings, self._rng, self._data
        kind = self._kind(share)
        num_references = 0 if kind == "small" else int(rng.choice(3, p=settings.reference_shares))
        all_x0, all_who = getattr(data, f"{kind}s"), getattr(data, f"{kind}_who")
        _, _, frames, height, width = all_x0.shape
        # A token is two by two cells.
        size = max(4, settings.tokens // (height * width // 4 * (frames + num_references)))
        chosen = torch.from_numpy(rng.choice(len(all_x0), size))
        has_pose = kind == "clip" or (kind == "picture" and rng.random() >= settings.without_pose)
        who = all_who[chosen].tolist()
        shown = chosen.tolist() if kind == "portrait" else [-1] * size
        places = [
            rng.choice(self._others(person, place), num_references, replace=False)
            for person, place in zip(who, shown, strict=True)
        ]
        grey = data.small_inactive if kind == "small" else data.inactive[:, :, :frames]
        return Batch(
            all_x0[chosen].float(),
            getattr(data, f"{kind}_poses")[chosen].float() if has_pose else None,
            getattr(data, f"{kind}_masks")[chosen].float(),
            [data.portraits[[int(row[k]) for row in places]].float() for k in range(num_references)],
            grey.float(),
            [self._prompt(person, kind in ("portrait", "small")) for person in who],
        )

    def _kind(self, share: float) -> str:
        """What a batch shows, by the beginning of its names in `BaseData`."""
        settings, rng = self._settings, self._rng
        growth = settings.clip_share_last - settings.clip_share_first
        if rng.random() < settings.clip_share_first + share * growth:
            return "clip"
        if rng.random() >= settings.portrait_share:
            return "picture"
        return "small" if rng.random() < settings.small_share else "portrait"

    def _others(self, person: int, place: int) -> list[int]:
        """A person's portraits but for that at `place`."""
        return [other for other in self._of_person[person] if other != place]

    def _prompt(self, who: int, is_portrait: bool) -> str:
        rng = self._rng
        if rng.random() < self._settings.neutral_share:
            return NEUTRAL[rng.integers(len(NEUTRAL))]
        return draw_description(rng, self._people[who], PHOTO_OPENINGS if is_portrait else CLIP_OPENINGS)[0]


def train_transformer(
    transformer: Any,
    batches: Batches,
    prompts: Prompts,
    geometry: Any,
    settings: TransformerTraining,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train in place. Afterwards `transformer` holds the running mean. on_step: called with (steps done, loss)."""
    transformer.requires_grad_(True).train()
    noise = torch.Generator().manual_seed(settings.seed)
    parameters = list(transformer.parameters())
    mean = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(
        parameters, settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    for step in progress(range(settings.num_steps), "base", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(
                step, settings.num_steps, settings.warmup_steps, settings.level_until, least=0.01
            )
        batch = batches.draw(step / settings.num_steps)
        loss = base_loss(transformer, batch, prompts(batch.prompts), geometry, settings, noise)
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
    transformer: Any,
    batch: Batch,
    text: Tensor,
    geometry: Any,
    settings: TransformerTraining,
    noise_generator: torch.Generator,
) -> Tensor:
    """The flow-matching loss of one batch, float32 scalar."""
    count, grey = len(batch.x0), batch.grey.expand_as(batch.x0)
    mask = grey.new_ones(count, mask_channels(geometry), *grey.shape[2:])
    control = assemble_control(grey, grey if batch.pose is None else batch.pose, mask, batch.references)
    # The last reference comes first (assemble_control).
    x0 = torch.cat([*reversed(batch.references), batch.x0], dim=2)
    sigma = flow.stratified_sigmas(count, settings.shift, settings.logit_normal_share, noise_generator)
    noise = torch.randn(x0.shape, generator=noise_generator)
    inputs = forward_inputs(flow.add_noise(x0, noise, sigma), flow.model_timestep(sigma), text, control)
    error = flow.flow_loss(transformer(**inputs)[0], flow.velocity_target(x0, noise))
    shown, repeated = error[:, len(batch.references) :], error[:, : len(batch.references)]
    loss = shown.mean() + settings.head_weight * (shown * batch.masks).sum() / batch.masks.sum().clamp_min(1)
    return loss + settings.reference_weight * repeated.mean() if len(batch.references) else loss
