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
from faceid.models.rendering.step_cache import StepCache

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """How one video is sampled, apart from what it is conditioned on. Raises: ConfigError for what cannot be."""

    face_scale: float = 1.0
    cfg_scale: float = 5.0
    num_inference_steps: int = 50
    seed: int = 42
    control_scale: float = 1.0
    cfg_start: float = 0.0
    """Share of the steps that are done before guidance begins, 0 to 1."""
    face_start: float = 0.0
    """Share of the steps that are done before the face is shown, 0 to 1."""
    face_end: float = 1.0
    """Share of the steps after which it is shown no more."""
    face_guidance: float | None = None
    """Guidance of the face alone, in place of the part that cfg_scale gives it; None: cfg_scale guides both."""
    face_block_scales: Sequence[float] | None = None
    """Strength of the face in each main block; None: as the adapter's blocks are set."""
    reference_scale: float = 1.0
    """Strength of the reference images' hints, as control_scale is of the pose's."""
    scheduler: SchedulerName = "unipc"
    shift: float | None = None
    """Of the noise levels; None: the model's own."""
    window: int | None = None
    """Latent frames denoised at once; None: all."""
    overlap: int = 0
    """Latent frames that neighbouring windows share at least."""
    step_cache: float = 0.0
    """How far the model's input may move before a step is computed again (StepCache); 0: all are."""

    def __post_init__(self) -> None:
        if self.face_scale < 0:
            raise ConfigError(f"face_scale={self.face_scale}: must be 0 (the base model) or more")
        if not 0 <= self.face_start < self.face_end <= 1:
            raise ConfigError(
                f"face_start={self.face_start}, face_end={self.face_end}: must be shares of the steps, 0 to 1, "
                "the first smaller"
            )
        if self.window is not None and not 0 <= self.overlap < self.window:
            raise ConfigError(f"overlap={self.overlap} latent frames: must be less than the window's {self.window}")

    def is_guided(self, index: int) -> bool:
        """Whether step `index` (from 0) has guidance by text."""
        return self.cfg_scale > 1.0 and index >= self.cfg_start * self.num_inference_steps

    def shows_face(self, index: int) -> bool:
        """Whether the adapter is on at step `index`."""
        steps = self.num_inference_steps
        return self.face_scale > 0 and self.face_start * steps <= index < self.face_end * steps


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
class LowNoise:
    """The second transformer of a base that has two: what is asked below `boundary` (a sigma)."""

    transformer: Any
    adapter: FaceAdapter | None
    share: TokenShare | None
    boundary: float


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
    transformer: Any,
    scheduler: Any,
    adapter: FaceAdapter | None,
    noise: Tensor,
    conditions: Conditions,
    sampling: Sampling,
    on_step: Callable[[int, int], None] | None = None,
    share: TokenShare | None = None,
    low_noise: LowNoise | None = None,
) -> Tensor:
    """Noise [B, C, R + f, h, w] to clean latents of that shape, as WanVACEPipeline's loop does it.

    scheduler: from `make_scheduler`. on_step: called with (steps done, steps in all). share: of the tokens, where other
    processes do the same with theirs. low_noise: who is asked in place of transformer and adapter in the later steps.
    """
    latents = noise.to(transformer.device)
    set_steps(scheduler, sampling.num_inference_steps, latents.device)
    windows = list(_windows(latents.shape[2] - conditions.num_references, sampling, latents.device))
    with ExitStack() as stack:
        cache = stack.enter_context(_cache_on(transformer, sampling, share))
        for index, timestep in enumerate(scheduler.timesteps):
            if low_noise is not None and float(timestep) < low_noise.boundary * NUM_TRAIN_TIMESTEPS:
                transformer, adapter, share = low_noise.transformer, low_noise.adapter, low_noise.share
                cache, low_noise = stack.enter_context(_cache_on(transformer, sampling, share)), None
            at = timestep.expand(len(latents))
            shows_face = adapter is not None and sampling.shows_face(index)
            with _adapter_as(adapter, shows_face):
                step = _Step(transformer, adapter, sampling, at, index, shows_face, cache, share)
                if len(windows) == 1:
                    velocity = step.velocity(latents, conditions)
                else:
                    velocity = _blended(step, latents, conditions, windows)
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if on_step is not None:
                on_step(index + 1, sampling.num_inference_steps)
    return latents


@contextmanager
def _cache_on(transformer: Any, sampling: Sampling, share: TokenShare | None) -> Iterator[StepCache | None]:
    if not sampling.step_cache:
        yield None
        return
    cache = StepCache(transformer, sampling.step_cache, share)
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

    transformer: Any
    adapter: FaceAdapter | None
    sampling: Sampling
    timestep: Tensor
    index: int
    shows_face: bool
    cache: StepCache | None = None
    share: TokenShare | None = None

    def velocity(self, latents: Tensor, given: Conditions, window: int = 0) -> Tensor:
        """The guided prediction for latents [1, C, R + f, h, w]. window: its number."""
        x_t = latents.to(self.transformer.dtype)
        face, null_face = (given.face, given.null_face) if self.shows_face else (None, None)
        if self.adapter is not None and face is not None:
            self.adapter.set_num_faces(face.shape[1] if face.dim() == 3 else 1)
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
        return self.transformer(
            hidden_states=x_t,
            timestep=self.timestep,
            encoder_hidden_states=text,
            encoder_hidden_states_image=face,
            control_hidden_states=given.control,
            control_hidden_states_scale=_hint_scale(self.transformer, given, self.sampling, self.share),
            return_dict=False,
        )[0]


def _hint_scale(transformer: Any, given: Conditions, sampling: Sampling, share: TokenShare | None) -> Tensor:
    """How much each VACE layer's hint counts: [layers], or [layers, 1, tokens, 1] where references count otherwise.

    The transformer unbinds the first dimension and multiplies: per token is as good as one number. A frame's tokens
    follow each other, references' first (facts: peers.md 5, VACE #27).
    """
    control = given.control
    scale = torch.full((len(transformer.config.vace_layers),), float(sampling.control_scale))
    scale = scale.to(control.device, control.dtype)
    if given.num_references == 0 or sampling.reference_scale == sampling.control_scale:
        return scale
    _, _, frames, height, width = control.shape
    p_t, p_h, p_w = transformer.config.patch_size
    of_frame = (height // p_h) * (width // p_w)
    scale = scale.view(-1, 1, 1, 1).repeat(1, 1, frames // p_t * of_frame, 1)
    scale[:, :, : given.num_references // p_t * of_frame] = sampling.reference_scale
    if share is None:
        return scale
    share.total = scale.shape[2]
    return share.take(scale, dim=2)


def _windows(num_frames: int, sampling: Sampling, device: torch.device) -> Iterator[Window]:
    """As few windows of `sampling.window` latent frames as overlap by `overlap` at least, evenly; else one for all."""
    size = sampling.window
    if size is None or size >= num_frames:
        yield Window(0, num_frames, torch.ones(num_frames, device=device))
        return
    count = 1 + -(-(num_frames - size) // (size - sampling.overlap))
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
    return (total / weight.view(1, 1, -1, 1, 1)).to(step.transformer.dtype)
