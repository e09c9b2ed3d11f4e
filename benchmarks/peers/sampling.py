"""One video: our pipeline with an adapter loaded and face_scale 0, beside WanVACEPipeline itself on the same toy base.

The videos are compared bit for bit first. With the face on, ours does more: what that costs stands beside. Each call
begins with nothing kept from the one before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
from diffusers import WanVACEPipeline

from benchmarks.costs import by_turns, cost_of, cpu_s_of, in_a_fork, least_and_median
from benchmarks.faults.sampling_workers import write_adapter, write_person
from benchmarks.peers.ratios import Ratio, give_freed_memory_back, largest_error
from faceid.faces.identities.identity import load_identity
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from faceid.models.base.prompts import text_length
from faceid.models.base.wan import load_wan
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.toy.shipped import resolve_model_path

Render = Callable[[], np.ndarray]
SEED, CFG_SCALE = 5, 5.0


@dataclass(frozen=True)
class VideoSize:
    """Of the video that is rendered, and in how many steps."""

    height: int
    width: int
    frames: int
    steps: int


MIDDLE = VideoSize(height=96, width=96, frames=9, steps=2)
TINY = VideoSize(height=32, width=32, frames=5, steps=1)


def compare_sampling(folder: Path, rounds: int, size: VideoSize) -> tuple[list[Ratio], dict[str, Any]]:
    """CPU seconds and peak memory of a video, and every measurement. folder: an adapter and a person are made there."""
    in_a_fork(partial(_write, folder))
    makers: dict[str, Callable[[], Render]] = {
        "ours": partial(_ours, folder, 0.0, size),
        "theirs": partial(_theirs, size),
    }
    makers["with the face"] = partial(_ours, folder, 1.0, size)
    outputs = in_a_fork(partial(_compare_videos, makers))
    seconds = in_a_fork(partial(_seconds, makers, rounds))
    costs = by_turns({name: partial(_load_and_render, make) for name, make in makers.items()}, 1, cost_of)
    memory = {name: [cost.peak_mib for cost in found] for name, found in costs.items()}
    peer = f"diffusers {diffusers.__version__} WanVACEPipeline"
    ratios = []
    for ours, what, said in (
        ("ours", f"one video, {size.steps} steps, adapter loaded, face_scale 0", outputs),
        (
            "with the face",
            f"one video, {size.steps} steps, face_scale 1 (ours), no face (theirs)",
            "another video: with the face",
        ),
    ):
        for row, unit, found in (("sampling", "CPU s", seconds), ("A11", "MiB at most", memory)):
            mine, other = least_and_median(found[ours]), least_and_median(found["theirs"])
            ratios.append(Ratio(row, what, peer, mine, other, unit, said))
    return ratios, {"base": "toy", "size": asdict(size), "cpu_s": seconds, "peak_mib": memory}


def _write(folder: Path) -> None:
    write_adapter(folder / "adapter.safetensors")
    write_person(folder / "anna", 1)


def _compare_videos(makers: dict[str, Callable[[], Render]]) -> str:
    videos = {name: torch.from_numpy(make()()) for name, make in makers.items()}
    largest_error({"video": videos["ours"]}, {"video": videos["theirs"]}, 0.0)
    # A face_scale of 0 that is always obeyed would prove little.
    assert not torch.equal(videos["with the face"], videos["theirs"])
    return "videos equal to the bit"


def _seconds(makers: dict[str, Callable[[], Render]], rounds: int) -> dict[str, list[float]]:
    renders = {name: make() for name, make in makers.items()}
    for render in renders.values():
        render()
    return by_turns(renders, rounds, cpu_s_of)


def _load_and_render(make: Callable[[], Render]) -> np.ndarray:
    give_freed_memory_back()
    return make()()


def _pose(size: VideoSize) -> np.ndarray:
    """Noise: [T, H, W, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (size.frames, size.height, size.width, 3), dtype=np.uint8)


def _ours(folder: Path, face_scale: float, size: VideoSize) -> Render:
    loaded = FaceIdentityPipeline(load_wan(resolve_model_path("toy"), name="toy"))
    loaded.use_adapter(folder / "adapter.safetensors")
    face, pose = load_identity(folder / "anna").embedding, _pose(size)

    def render() -> np.ndarray:
        # A new one over the same modules: the grey half and the texts of the last call are not there.
        pipeline = FaceIdentityPipeline(loaded.wan, loaded.adapter, loaded.metadata)
        video = pipeline(pose, face, face_scale, cfg_scale=CFG_SCALE, num_inference_steps=size.steps, seed=SEED)
        return np.asarray(video)

    return render


def _theirs(size: VideoSize) -> Render:
    wan = load_wan(resolve_model_path("toy"))
    pipeline = WanVACEPipeline(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)
    pipeline.set_progress_bar_config(disable=True)
    return partial(_stock_video, pipeline, _pose(size), size.steps)


def _stock_video(pipeline: WanVACEPipeline, frames: np.ndarray, num_steps: int) -> np.ndarray:
    """A pose video by diffusers' own pipeline, as its user calls it. frames, and the result: uint8 [T, H, W, 3]."""
    num_frames, height, width = frames.shape[:3]
    video = pipeline(
        prompt=DEFAULT_PROMPT,
        negative_prompt=DEFAULT_NEGATIVE_PROMPT,
        video=[PIL.Image.fromarray(frame) for frame in frames],
        height=height,
        width=width,
        num_frames=num_frames,
        num_inference_steps=num_steps,
        guidance_scale=CFG_SCALE,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="np",
        max_sequence_length=text_length(pipeline.tokenizer),
    ).frames[0]
    return (video * 255).round().astype(np.uint8)
