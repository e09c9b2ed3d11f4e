"""Seconds and memory of a denoising step as `sample.py` takes it: the prompt with the face, and the negative prompt.

Timed is the product's own loop (`FaceIdentityPipeline.sample_latents`), from one step's end to the next's. Each way's
prediction is compared with the plain one's before it is timed, and that with float32's on a short clip.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Figures, largest_error, relative_error, spread
from benchmarks.gpu.model import FACE_DIM, model_around, random_adapter, random_transformer, random_vae
from benchmarks.gpu.training import LEAST_TOLERANCE, PRECISION, graphs_made
from faceid.models.adapter.face_tokens import face_input
from faceid.models.compute.execution import offload_blocks, set_attention_backend
from faceid.models.costs.flops import step_flops
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.models.rendering.video_inputs import VideoInputs
from faceid.models.wan_vace.control import control_channels

SECTION, OFFLOAD, VIDEO = "sampling", "offload", "video"
STEPS = 50


@dataclass(frozen=True)
class Way:
    """One way to compute the same."""

    is_compiled: bool = False
    is_offloaded: bool = False

    @property
    def name(self) -> str:
        """In words."""
        words = ["compiled" if self.is_compiled else "eager", "native"]
        return ", ".join([*words, *(["offloaded"] if self.is_offloaded else [])])


PLAIN, COMPILED = Way(), Way(is_compiled=True)
WAYS = (PLAIN, COMPILED)


@dataclass
class Predictions:
    """The plain way's, by length; and how far others may be."""

    known: dict[int, Tensor] = field(default_factory=dict)
    tolerance: float = LEAST_TOLERANCE


def measure_sampling(bench: Bench, predictions: Predictions, frames: int) -> None:
    """Eager and compiled."""
    if not any((row["section"], row["name"]) == (SECTION, PRECISION) for row in bench.rows):
        bench.attempt(SECTION, PRECISION, lambda: _precision(bench, predictions))
    for way in WAYS:
        _attempt(bench, predictions, frames, way, SECTION)


def measure_offload(bench: Bench, predictions: Predictions, frames: int) -> None:
    """Blocks that wait in the host's memory."""
    if frames not in predictions.known:
        _attempt(bench, predictions, frames, PLAIN, OFFLOAD)
    _attempt(bench, predictions, frames, replace(PLAIN, is_offloaded=True), OFFLOAD)


def measure_video(bench: Bench, frames: int) -> None:
    """One video from noise to frames, every step of it, in the fastest way that was right."""
    ways = [way for way in WAYS if bench.find(SECTION, _name(frames, way))]
    way = min(ways, key=lambda way: bench.find(SECTION, _name(frames, way))["step_s"], default=COMPILED)
    bench.attempt(VIDEO, _name(frames, way), lambda: _video(bench, frames, way))


def _name(frames: int, way: Way) -> str:
    return f"{frames} frames, {way.name}"


def _attempt(bench: Bench, predictions: Predictions, frames: int, way: Way, section: str) -> None:
    bench.attempt(section, _name(frames, way), lambda: _measure(bench, predictions, frames, way))


@torch.no_grad()
def _measure(bench: Bench, predictions: Predictions, frames: int, way: Way) -> Figures:
    pipeline, inputs = make_pipeline(bench, way), make_inputs(bench, frames)
    found: list[Tensor] = []
    first_s = bench.seconds(lambda: found.append(predict(pipeline, inputs, bench.device)))
    figures = {"first_pass_s": round(first_s, 2), **graphs_made()}
    if frames not in predictions.known:
        predictions.known[frames] = found[0]
        figures |= {"is_reference": True, "wrong": not bool(torch.isfinite(found[0]).all())}
    else:
        error = relative_error(found[0], predictions.known[frames])
        figures |= {"error": error, "largest_error": largest_error(found[0], predictions.known[frames])}
        figures |= {"tolerance": predictions.tolerance, "wrong": not error <= predictions.tolerance}
    if figures["wrong"]:
        return figures
    bench.forget_peak()
    # Offloaded steps take seconds each, and are told apart from others by that alone.
    count = 2 if way.is_offloaded else 1 + bench.repeats
    times = _step_times(bench, pipeline, inputs, count)[1:]
    bill = step_flops(
        bench.scale.transformer,
        bench.scale.adapter_settings(),
        bench.scale.tokens(frames),
        "none",
        FACE_DIM,
        bench.scale.text_tokens,
    )
    figures |= {**spread(times, "step_s"), **bench.peak()}
    rate = 2 * bill.forward / figures["step_s"] / 1e12
    return {
        **figures,
        "denoising_s_of_50_steps": round(STEPS * figures["step_s"], 3),
        "tflops": round(rate, 1),
        "mfu": round(rate / bench.peak_tflops, 4),
    }


def _step_times(bench: Bench, pipeline: FaceIdentityPipeline, inputs: VideoInputs, count: int) -> list[float]:
    times: list[float] = []
    last = time.perf_counter()

    def tick(done: int, total: int) -> None:
        nonlocal last
        bench.wait()
        now = time.perf_counter()
        times.append(now - last)
        last = now

    sampling = Sampling(num_inference_steps=count)
    pipeline.sample_latents(inputs, sampling, on_step=tick)
    return times


@torch.no_grad()
def _video(bench: Bench, frames: int, way: Way) -> Figures:
    pipeline, inputs = make_pipeline(bench, way, has_vae=True), make_inputs(bench, frames)
    steps = 3 if bench.scale.is_tiny else STEPS
    # Compiled, and kernels found.
    _step_times(bench, pipeline, inputs, 2)
    bench.forget_peak()
    latents: list[Tensor] = []

    def denoise() -> None:
        latents.append(pipeline.sample_latents(inputs, Sampling(num_inference_steps=steps)))

    denoising_s = bench.seconds(denoise)
    denoising = bench.peak()
    bench.forget_peak()
    decoding_s = bench.seconds(lambda: pipeline.decode(latents[0]))
    return {
        "steps": steps,
        "denoising_s": round(denoising_s, 2),
        "decoding_s": round(decoding_s, 2),
        "video_s": round(denoising_s + decoding_s, 2),
        **denoising,
        "decoding_peak_gb": bench.peak()["peak_gb"],
    }


def make_pipeline(
    bench: Bench, way: Way, dtype: torch.dtype = torch.bfloat16, has_vae: bool = False
) -> FaceIdentityPipeline:
    """As `FaceIdentityPipeline.from_pretrained` and `sample.py` put it together, around random weights."""
    transformer = random_transformer(bench.scale, bench.device, dtype)
    adapter = random_adapter(bench.scale, transformer)
    for parameter in adapter.parameters().values():
        # As a loaded one is; float32 beside it keeps the numbers that bf16 can hold.
        parameter.data = parameter.data.bfloat16().to(transformer.dtype)
    if way.is_offloaded:
        # Made on the device and brought here: drawing two billion numbers on the CPU takes its time.
        offload_blocks(transformer.to("cpu"), bench.device)
    vae = random_vae(bench.scale, bench.device) if has_vae else None
    pipeline = FaceIdentityPipeline(model_around(bench.scale, transformer, vae), adapter)
    # diffusers remembers the last one for all models of the process.
    set_attention_backend(transformer, "native")
    pipeline.set_execution(None, way.is_compiled)
    return pipeline


def make_inputs(bench: Bench, frames: int) -> VideoInputs:
    """Random, of the true sizes."""
    scale, generator = bench.scale, torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    _, f, h, w = scale.latent(frames)
    text = (scale.text_tokens, scale.transformer["text_dim"])
    return VideoInputs(
        control=normal(1, control_channels(scale.geometry), f, h, w),
        text=normal(*text),
        negative_text=normal(*text),
        face=torch.nn.functional.normalize(normal(FACE_DIM), dim=0),
    )


@torch.no_grad()
def predict(pipeline: FaceIdentityPipeline, inputs: VideoInputs, device: torch.device) -> Tensor:
    """The velocity at a middle noise level, in the host's memory."""
    transformer: Any = pipeline.wan.transformer
    dtype = transformer.dtype
    control = inputs.control.to(device, dtype)
    channels = pipeline.wan.geometry.latent_channels
    x_t = torch.randn(1, channels, *control.shape[2:], generator=torch.Generator().manual_seed(3))
    assert inputs.face is not None
    face = face_input(inputs.face.unsqueeze(0)).to(device)
    return (
        transformer(
            hidden_states=x_t.to(device, dtype),
            timestep=torch.full((1,), 600.0, device=device),
            encoder_hidden_states=inputs.text.unsqueeze(0).to(device, dtype),
            encoder_hidden_states_image=face,
            control_hidden_states=control,
            control_hidden_states_scale=control.new_ones(len(transformer.config.vace_layers)),
            return_dict=False,
        )[0]
        .float()
        .cpu()
    )


def _precision(bench: Bench, predictions: Predictions) -> Figures:
    """What bf16 costs in one prediction for a short clip; sets the tolerance of all that follows."""
    inputs = make_inputs(bench, bench.scale.check_frames)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        exact = predict(make_pipeline(bench, PLAIN, torch.float32), inputs, bench.device)
    error = relative_error(predict(make_pipeline(bench, PLAIN), inputs, bench.device), exact)
    predictions.tolerance = max(LEAST_TOLERANCE, 2 * error)
    return {"error": error, "tolerance": predictions.tolerance, "wrong": not error < 0.1}
