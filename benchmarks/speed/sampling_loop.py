"""Twelve jobs by one batch, and by loops that call a pipeline once a job: encodes, CPU seconds, peak memory, videos.

    python -m benchmarks.speed.sampling_loop WAY FOLDER STEPS     one way, in a process of its own; prints its figures

Ways: `batch_base` and `batch_face`, sample.py over a job list at face_scale 0 and 1; `diffusers`, a plain loop over its
WanVACEPipeline; `calls`, a loop over our own pipeline's call, with the face. The mp4s are compared byte by byte.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import WanVACEPipeline
from measured_memory import peak_bytes

from benchmarks import REPOSITORY
from benchmarks.faults.sampling_workers import FPS, write_adapter, write_person, write_pose
from faceid.faces.identities.identity import load_identity
from faceid.media.video import read_video, write_video
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.base.prompts import text_length
from faceid.models.base.wan import WanModel, load_wan
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.toy.shipped import resolve_model_path

PROMPTS = ("a dance", "a slow dance", "a jump")
NUM_POSES, SEED, CFG_SCALE = 4, 5, 5.0
# Large enough that encoding is seen beside what a call of Python costs.
HEIGHT, WIDTH, NUM_FRAMES = 96, 96, 9
WAYS = ("batch_base", "diffusers", "batch_face", "calls")


@dataclass(frozen=True)
class Way:
    """What one way took. videos: sha256 of the mp4 of each pose and prompt. cpu_s: without the imports."""

    video_encodes: int
    text_encodes: int
    cpu_s: float
    peak_mib: float
    videos: dict[str, str]


def compare_ways(folder: Path, num_steps: int) -> dict[str, Way]:
    """Each way in a process of its own, one after the other."""
    for seed in range(NUM_POSES):
        write_pose(folder / "poses" / f"p{seed}_pose.mp4", seed, NUM_FRAMES, (HEIGHT, WIDTH))
    write_person(folder / "people" / "anna", 1)
    write_adapter(folder / "adapter.safetensors")
    job = {"pose": [path.name for path in _poses(folder)], "prompt": list(PROMPTS), "identity": "anna"}
    (folder / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    found = {}
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.speed.sampling_loop", way, str(folder), str(num_steps)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{way}: exit {done.returncode}\n{done.stderr[-3000:]}")
        found[way] = Way(**json.loads(done.stdout.splitlines()[-1]))
    return found


def main(argv: list[str]) -> None:
    """Go one way and print its figures."""
    way, folder, num_steps = argv[0], Path(argv[1]), int(argv[2])
    torch.set_num_threads(1)
    # Imported before the clock starts: no way pays for it.
    for module in ("sample", "faceid.sampling.sampling_run"):
        importlib.import_module(module)
    before_s = _cpu_s()
    counted: Counter[str] = Counter()
    run = {"diffusers": _diffusers, "calls": _calls}.get(way, _batch)
    videos = run(way, folder, num_steps, counted)
    figures = {"video_encodes": counted["videos"], "text_encodes": counted["texts"], "videos": videos}
    peak_mib = peak_bytes() / 2**20
    print(json.dumps({**figures, "cpu_s": round(_cpu_s() - before_s, 2), "peak_mib": round(peak_mib, 1)}))


def _batch(way: str, folder: Path, num_steps: int, counted: Counter[str]) -> dict[str, str]:
    load = FaceIdentityPipeline.from_pretrained

    def load_and_count(*arguments: Any) -> FaceIdentityPipeline:
        pipeline = load(*arguments)
        _count(pipeline.wan, counted)
        return pipeline

    FaceIdentityPipeline.from_pretrained = load_and_count  # type: ignore[method-assign, assignment]
    # The text encoder is loaded by itself.
    texts = importlib.import_module("faceid.sampling.one_video.texts")
    load_text = texts.load_wan

    def load_text_and_count(*arguments: Any) -> WanModel:
        wan = load_text(*arguments)
        _count(wan, counted)
        return wan

    texts.load_wan = load_text_and_count  # type: ignore[attr-defined]
    out = folder / way
    words = f"--batch --jobs {folder}/jobs.jsonl --pose_videos_dir {folder}/poses --output_dir {out} --device cpu "
    words += f"--face_lora_path {folder}/adapter.safetensors --identities_dir {folder}/people --gallery false "
    words += f"--height {HEIGHT} --width {WIDTH} --num_frames {NUM_FRAMES} --window_frames 0 "
    words += f"--num_inference_steps {num_steps} --cfg_scale {CFG_SCALE} --seed {SEED} "
    words += f"--face_scale {0 if way == 'batch_base' else 1}"
    if importlib.import_module("sample").main(words.split()):
        raise RuntimeError(f"{out}: some of the batch failed")
    rows = [json.loads(line) for line in (out / "jobs.jsonl").read_text(encoding="utf-8").splitlines()]
    return {_name(row["pose"], row["prompt"]): row["sha256"] for row in rows}


def _diffusers(way: str, folder: Path, num_steps: int, counted: Counter[str]) -> dict[str, str]:
    wan = load_wan(resolve_model_path("toy"))
    _count(wan, counted)
    pipeline = WanVACEPipeline(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)
    pipeline.set_progress_bar_config(disable=True)

    return _loop(partial(stock_video, pipeline, num_steps=num_steps), folder, folder / way)


def stock_video(pipeline: WanVACEPipeline, frames: np.ndarray, prompt: str, num_steps: int) -> np.ndarray:
    """A pose video by diffusers' own pipeline, as its user calls it. frames, and the result: uint8 [T, H, W, 3]."""
    num_frames, height, width = frames.shape[:3]
    video = pipeline(
        prompt=prompt,
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


def _calls(way: str, folder: Path, num_steps: int, counted: Counter[str]) -> dict[str, str]:
    wan = load_wan(resolve_model_path("toy"), name="toy")
    _count(wan, counted)
    face = load_identity(folder / "people" / "anna").embedding
    loaded = FaceIdentityPipeline(wan)
    loaded.use_adapter(folder / "adapter.safetensors")

    def render(frames: np.ndarray, prompt: str) -> np.ndarray:
        # A new one over the same modules: nothing is kept from call to call.
        pipeline = FaceIdentityPipeline(loaded.wan, loaded.adapter, loaded.metadata)
        return pipeline(frames, face, prompt=prompt, cfg_scale=CFG_SCALE, num_inference_steps=num_steps, seed=SEED)  # type: ignore[return-value]

    return _loop(render, folder, folder / way)


def _loop(render: Callable[[np.ndarray, str], np.ndarray], folder: Path, out: Path) -> dict[str, str]:
    """Every pose with every prompt, one call each."""
    videos: dict[str, str] = {}
    for pose in _poses(folder):
        for prompt in PROMPTS:
            video = out / f"{len(videos)}.mp4"
            write_video(video, render(read_video(pose).frames, prompt), FPS)
            videos[_name(pose.name, prompt)] = hashlib.sha256(video.read_bytes()).hexdigest()
    return videos


def _count(wan: WanModel, counted: Counter[str]) -> None:
    """Count what is encoded from now on."""
    if wan.text_encoder is not None:
        wan.text_encoder.register_forward_hook(lambda *_: counted.update(texts=1))
    if wan.vae is None:
        return
    encode = wan.vae.encode

    def encode_counted(*arguments: Any, **named: Any) -> Any:
        counted["videos"] += 1
        return encode(*arguments, **named)

    wan.vae.encode = encode_counted


def _poses(folder: Path) -> list[Path]:
    return sorted((folder / "poses").glob("*.mp4"))


def _name(pose: str, prompt: str) -> str:
    return f"{pose}: {prompt}"


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
