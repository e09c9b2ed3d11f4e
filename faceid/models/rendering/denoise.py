"""Noise to latents: which steps there are, what the model is asked at each, and how its answers are put together.

What is asked: the prompt with the face; for guidance by text, the negative prompt with the null face; for guidance by
the face (`face_guidance`, as in Lynx), the prompt with the null face as well. Outside `face_start` to `face_end` the
adapter is off: the base model, whole. Longer videos than a window are denoised window by window in every step, and
their velocities blended where windows overlap (MultiDiffusion, Bar-Tal et al. 2023, over time).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from faceid.errors import ConfigError
from faceid.flow import NUM_TRAIN_TIMESTEPS
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.adapter_settings import SchedulerName
from faceid.models.compute.context_parallel import TokenShare
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.step_cache import StepCache

log = logging.getLogger(__name__)

# Called with (steps done, steps in all).
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class LatentWindows:
    """How a long video is cut into windows, in latent frames. Raises: ConfigError when they cannot overlap so much.

    size: those denoised at once; None for all. overlap: those that neighbours share at least.
    """

    size: int | None = None
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size is not None and not 0 <= self.overlap < self.size:
            raise ConfigError(f"overlap={self.overlap} latent frames: must be less than the window's {self.size}")


@dataclass(frozen=True)
class Conditions:
    """What every denoising step is given, on the transformer's device. B: 1 in rendering.

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
    """Latent frames `start` to `end` (without references), and how much each counts, [end - start]."""

    start: int
    end: int
    weights: Tensor


@dataclass(frozen=True)
class Predictor:
    """Who is asked for a step's velocity: a transformer and the adapter on it.

    share: of the tokens, where other processes do the same with theirs. low_noise: of a base that has two
    transformers, who is asked below `boundary` (a sigma) in its place.
    """

    transformer: Any
    adapter: FaceAdapter | None = None
    share: TokenShare | None = None
    low_noise: Predictor | None = None
    boundary: float = 0.0

    def at(self, timestep: float) -> Predictor:
        """Who is asked at a timestep."""
        if self.low_noise is None or timestep >= self.boundary * NUM_TRAIN_TIMESTEPS:
            return self
        return self.low_noise


ALL_AT_ONCE = LatentWindows()


def make_scheduler(own: Any, name: SchedulerName, shift: float | None) -> Any:
    """The scheduler to sample with. own: the model's; its shift is taken where none is given."""
    own_shift = own.config.flow_shift
    chosen = own_shift if shift is None else shift
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(NUM_TRAIN_TIMESTEPS, shift=chosen)
    if name not in get_args(SchedulerName):
        raise ConfigError(f"scheduler={name}: unknown; use {' or '.join(get_args(SchedulerName))}")
    return own if chosen == own_shift else UniPCMultistepScheduler.from_config(own.config, flow_shift=chosen)


def set_steps(scheduler: Any, count: int, device: torch.device) -> None:
    """Tell a scheduler how many steps there are. Both go through the noise levels that Wan's own does.

    Left alone, diffusers' Euler shifts its last level twice, and ends where UniPC has another step to go.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        levels = torch.linspace(1, 1 / NUM_TRAIN_TIMESTEPS, count + 1, dtype=torch.float64)[:-1]
        scheduler.set_timesteps(sigmas=levels.tolist(), device=device)
    else:
        scheduler.set_timesteps(count, device=device)


def denoise(
    predictor: Predictor,
    scheduler: Any,
    noise: Tensor,
    conditions: Conditions,
    sampling: Sampling,
    windows: LatentWindows = ALL_AT_ONCE,
    on_step: OnStep | None = None,
) -> Tensor:
    """Noise [B, C, R + f, h, w] to clean latents of that shape, as WanVACEPipeline's loop does it.

    scheduler: from `make_scheduler`.
    """
    latents = noise.to(predictor.transformer.device)
    set_steps(scheduler, sampling.num_inference_steps, latents.device)
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
            unconditional = self._predict("negative", window, x_t, given.negative_text, null_face, given)
            guided = unconditional + self.sampling.cfg_scale * (by_text - unconditional)
        return guided if by_face is None else guided + by_face * (with_face - by_text)

    def _predict(
        self, name: str, window: int, x_t: Tensor, text: Tensor, face: Tensor | None, given: Conditions
    ) -> Tensor:
        if self.cache is not None:
            # The first lays everything out, and after the last nothing is put right.
            is_inner = 0 < self.index < self.sampling.num_inference_steps - 1
            self.cache.begin((name, window, self.shows_face), may_skip=is_inner)
        return self.predictor.transformer(
            hidden_states=x_t,
            timestep=self.timestep,
            encoder_hidden_states=text,
            encoder_hidden_states_image=face,
            control_hidden_states=given.control,
            control_hidden_states_scale=_hint_scale(
                self.predictor, given, self.sampling.control_scale, self.sampling.reference_scale
            ),
            return_dict=False,
        )[0]


def _hint_scale(predictor: Predictor, given: Conditions, control_scale: float, reference_scale: float) -> Tensor:
    """How much each VACE layer's hint counts: [layers], or [layers, 1, tokens, 1] where references count otherwise.

    The transformer unbinds the first dimension and multiplies: per token is as good as one number. A frame's tokens
    follow each other, references' first (facts: peers.md 5, VACE #27).
    """
    control, transformer, share = given.control, predictor.transformer, predictor.share
    scale = torch.full((len(transformer.config.vace_layers),), float(control_scale))
    scale = scale.to(control.device, control.dtype)
    if given.num_references == 0 or reference_scale == control_scale:
        return scale
    _, _, frames, height, width = control.shape
    p_t, p_h, p_w = transformer.config.patch_size
    of_frame = (height // p_h) * (width // p_w)
    scale = scale.view(-1, 1, 1, 1).repeat(1, 1, frames // p_t * of_frame, 1)
    scale[:, :, : given.num_references // p_t * of_frame] = reference_scale
    if share is None:
        return scale
    share.total = scale.shape[2]
    return share.take(scale, dim=2)


def _windows(num_frames: int, windows: LatentWindows, device: torch.device) -> Iterator[Window]:
    """As few windows of `windows.size` latent frames as overlap by `overlap` at least, evenly; else one for all."""
    size = windows.size
    if size is None or size >= num_frames:
        yield Window(0, num_frames, torch.ones(num_frames, device=device))
        return
    count = 1 + -(-(num_frames - size) // (size - windows.overlap))
    starts = [round(place * (num_frames - size) / (count - 1)) for place in range(count)]
    for place, start in enumerate(starts):
        weights = torch.ones(size, device=device)
        # Up from the start while the window before lasts, down from where the one after begins.
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
