"""Denoise noise to latents.

This file decides which steps there are, what the model is asked at each, and how its answers are combined. The model is
asked for the prompt with the face. Guidance by text adds the negative prompt with the null face, and without reference
frames if it guides by them too (`reference_guidance`). Guidance by the face (`face_guidance`, as in Lynx) adds the
prompt with the null face. Outside `face_start` to `face_end` the adapter is off,
which is the whole base model. Longer videos than a window are denoised window by window in every step. Their velocities
are blended where windows overlap (MultiDiffusion, Bar-Tal et al. 2023, over time).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from faceid.errors import ConfigError
from faceid.flow import NUM_TRAIN_TIMESTEPS
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.compute.context_parallel import TokenShare
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.schedulers import SCHEDULERS
from faceid.models.rendering.step_cache import StepCache
from faceid.models.wan_vace.transformer import forward_inputs, scaled_hints

log = logging.getLogger(__name__)

# Called with (steps done, total steps).
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class LatentWindows:
    """How a long video is cut into windows, in latent frames. Raises: ConfigError for an impossible overlap.

    size: frames denoised at once; None for all. overlap: frames that neighbours share at least.
    """

    size: int | None = None
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size is not None and not 0 <= self.overlap < self.size:
            raise ConfigError(f"overlap={self.overlap} latent frames: must be less than the window's {self.size}")


@dataclass(frozen=True)
class Conditions:
    """The inputs of every denoising step, on the transformer's device. B: 1 in rendering.

    text, negative_text: [B, L, D]. face, null_face: [B, D + 1], or [B, R + f, D + 1] where the face changes over the
    video; None without an adapter. control: [B, channels, R + f, h, w]. num_references: R.
    """

    text: Tensor
    negative_text: Tensor
    face: Tensor | None
    null_face: Tensor | None
    control: Tensor
    num_references: int


@dataclass(frozen=True)
class Window:
    """Latent frames `start` to `end` (without references), and the weight of each, [end - start]."""

    start: int
    end: int
    weights: Tensor


@dataclass(frozen=True)
class Predictor:
    """Predicts a step's velocity: a transformer and the adapter on it.

    share: this process's share of the tokens, where other processes compute the rest. low_noise: for a base with two
    transformers, the predictor that takes over below `boundary` (a sigma).
    """

    transformer: Any
    adapter: FaceAdapter | None = None
    share: TokenShare | None = None
    low_noise: Predictor | None = None
    boundary: float = 0.0

    def at(self, timestep: float) -> Predictor:
        """The predictor for a timestep."""
        if self.low_noise is None or timestep >= self.boundary * NUM_TRAIN_TIMESTEPS:
            return self
        return self.low_noise


ALL_AT_ONCE = LatentWindows()


def denoise(
    predictor: Predictor,
    scheduler: Any,
    noise: Tensor,
    conditions: Conditions,
    sampling: Sampling,
    windows: LatentWindows = ALL_AT_ONCE,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise noise [B, C, R + f, h, w] to clean latents of that shape, as WanVACEPipeline's loop does.

    scheduler: from `make_scheduler`, by sampling's name.
    """
    latents = noise.to(predictor.transformer.device)
    SCHEDULERS[sampling.scheduler].set_steps(scheduler, sampling.num_inference_steps, latents.device)
    parts = list(_windows(latents.shape[2] - conditions.num_references, windows, latents.device))
    with ExitStack() as stack:
        asked = predictor.at(float(scheduler.timesteps[0]))
        cache = stack.enter_context(_cache_on(asked, sampling.step_cache))
        for index, timestep in enumerate(scheduler.timesteps):
            if predictor.at(float(timestep)) is not asked:
                asked = predictor.at(float(timestep))
                cache = stack.enter_context(_cache_on(asked, sampling.step_cache))
            shows_face = asked.adapter is not None and sampling.shows_face(index)
            with _adapter_as(asked.adapter, shows_face):
                step = _Step(asked, sampling, timestep.expand(len(latents)), index, shows_face, cache)
                if len(parts) == 1:
                    velocity = step.velocity(latents, conditions)
                else:
                    velocity = _blended(step, latents, conditions, parts)
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if on_step is not None:
                on_step(index + 1, sampling.num_inference_steps)
    return latents


@contextmanager
def _cache_on(predictor: Predictor, threshold: float) -> Iterator[StepCache | None]:
    if not threshold:
        yield None
        return
    cache = StepCache(predictor.transformer, threshold, predictor.share)
    try:
        yield cache
    finally:
        cache.remove()
        log.info("step cache: %d of %d passes left out", cache.skipped, cache.skipped + cache.computed)


def _adapter_as(adapter: FaceAdapter | None, is_on: bool) -> AbstractContextManager[None]:
    return nullcontext() if adapter is None or is_on else adapter.off()


@dataclass(frozen=True)
class _Step:
    """One step's questions to the model. timestep: [B]."""

    predictor: Predictor
    sampling: Sampling
    timestep: Tensor
    index: int
    shows_face: bool
    cache: StepCache | None = None

    def velocity(self, latents: Tensor, given: Conditions, window: int = 0) -> Tensor:
        """The guided prediction for latents [1, C, R + f, h, w]. window: its number."""
        adapter, x_t = self.predictor.adapter, latents.to(self.predictor.transformer.dtype)
        face, null_face = (given.face, given.null_face) if self.shows_face else (None, None)
        if adapter is not None and face is not None:
            adapter.set_num_faces(face.shape[1] if face.dim() == 3 else 1)
        with_face = self._predict("with face", window, x_t, given.text, face, given)
        by_face = self.sampling.face_guidance if self.shows_face else None
        by_text = with_face if by_face is None else self._predict("text", window, x_t, given.text, null_face, given)
        guided = by_text
        if self.sampling.is_guided(self.index):
            unconditional = self._unconditional(window, x_t, by_text, null_face, given)
            guided = unconditional + self.sampling.cfg_scale * (by_text - unconditional)
        return guided if by_face is None else guided + by_face * (with_face - by_text)

    def _unconditional(
        self, window: int, x_t: Tensor, by_text: Tensor, null_face: Tensor | None, given: Conditions
    ) -> Tensor:
        """The prediction that guidance leads away from. Reference frames that it is not given stay as `by_text`."""
        references = given.num_references
        if not (self.sampling.reference_guidance and references):
            return self._predict("negative", window, x_t, given.negative_text, null_face, given)
        alone = replace(_part(given, list(range(references, x_t.shape[2]))), num_references=0)
        adapter, face = self.predictor.adapter, null_face
        if face is not None and face.dim() == 3:
            face = face[:, references:]
            assert adapter is not None
            adapter.set_num_faces(face.shape[1])
        of_video = self._predict("negative", window, x_t[:, :, references:], given.negative_text, face, alone)
        return torch.cat([by_text[:, :, :references], of_video], dim=2)

    def _predict(
        self, name: str, window: int, x_t: Tensor, text: Tensor, face: Tensor | None, given: Conditions
    ) -> Tensor:
        if self.cache is not None:
            # The first step lays everything out. After the last step nothing can be corrected. So both are computed.
            is_inner = 0 < self.index < self.sampling.num_inference_steps - 1
            self.cache.begin((name, window, self.shows_face), may_skip=is_inner)
        predictor, sampling = self.predictor, self.sampling
        scale = _hint_scale(predictor, given, sampling.control_scale, sampling.reference_scale)
        inputs = forward_inputs(x_t, self.timestep, text, given.control, scale)
        return predictor.transformer(encoder_hidden_states_image=face, **inputs)[0]


def _hint_scale(predictor: Predictor, given: Conditions, control_scale: float, reference_scale: float) -> Tensor:
    """`scaled_hints`, cut to this process's tokens where others have a share."""
    transformer, share = predictor.transformer, predictor.share
    scale = scaled_hints(transformer, given.control, given.num_references, control_scale, reference_scale)
    if share is None or scale.dim() == 1:
        return scale
    share.total = scale.shape[2]
    return share.take(scale, dim=2)


def _windows(num_frames: int, windows: LatentWindows, device: torch.device) -> Iterator[Window]:
    """The fewest windows of `windows.size` latent frames that overlap by at least `overlap`; else one for all."""
    size = windows.size
    if size is None or size >= num_frames:
        yield Window(0, num_frames, torch.ones(num_frames, device=device))
        return
    count = 1 + -(-(num_frames - size) // (size - windows.overlap))
    starts = [round(place * (num_frames - size) / (count - 1)) for place in range(count)]
    for place, start in enumerate(starts):
        weights = torch.ones(size, device=device)
        # Weights rise from the start while the previous window lasts, and fall from where the next one begins.
        if place:
            shared = starts[place - 1] + size - start
            weights[:shared] = torch.arange(1, shared + 1, device=device) / (shared + 1)
        if place + 1 < count:
            shared = start + size - starts[place + 1]
            down = torch.arange(shared, 0, -1, device=device) / (shared + 1)
            weights[size - shared :] = torch.minimum(weights[size - shared :], down)
        yield Window(start, start + size, weights)


def _part(given: Conditions, frames: list[int]) -> Conditions:
    """The conditions of some of the latent frames, references included."""
    faces = (face if face is None or face.dim() == 2 else face[:, frames] for face in (given.face, given.null_face))
    face, null_face = faces
    return replace(given, control=given.control[:, :, frames], face=face, null_face=null_face)


def _blended(step: _Step, latents: Tensor, given: Conditions, windows: Sequence[Window]) -> Tensor:
    """The weighted mean of the windows' velocities. Reference frames are in every window, and their mean is plain."""
    references = given.num_references
    total = torch.zeros_like(latents, dtype=torch.float32)
    weight = latents.new_zeros(latents.shape[2], dtype=torch.float32)
    for number, window in enumerate(windows):
        frames = [*range(references), *range(references + window.start, references + window.end)]
        part = _part(given, frames)
        weights = torch.cat([weight.new_ones(references), window.weights])
        total[:, :, frames] += step.velocity(latents[:, :, frames], part, number).float() * weights.view(1, 1, -1, 1, 1)
        weight[frames] += weights
    return (total / weight.view(1, 1, -1, 1, 1)).to(step.predictor.transformer.dtype)
