"""Real workers of sample.py: each a process of its own that can be killed or stopped, started in tenths of a second.

They are forked from a server that has imported torch and faceid and has no threads (multiprocessing's forkserver):
importing anew would take 8 CPU seconds a worker. What they are given is a command line of sample.py, and a manner: how
a worker differs from a plain one. Also here: the poses, people and adapter that they render.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import REPOSITORY
from faceid.claims import STALE_BEATS, Claims
from faceid.errors import run_entry_point
from faceid.faces.identities.identity_folder import write_manifest
from faceid.media.video import write_video
from faceid.models.adapter.adapter_file import AdapterMetadata, save_adapter
from faceid.models.adapter.face_adapter import adapter_tensors, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.wan import load_wan
from faceid.toy.shipped import resolve_model_path

EMBEDDING_DIM = 24
ENCODER_FINGERPRINT = "e" * 64
SMALL_ADAPTER = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4)
HEIGHT, WIDTH, NUM_FRAMES, FPS = 32, 48, 5, 16.0
# For the others, until all have started.
LONGEST_WAIT_S = 120.0
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["faceid.sampling.sampling_run", "benchmarks.faults.sampling_workers"])


@dataclass(frozen=True)
class Manner:
    """How a worker differs from a plain one.

    slowness: times as long for every denoising. lease_s: its claims', when not the shipped one. wait_s_per_frame: when
    given, denoising is a wait of so long for each latent frame. start: a file that all wait for once they are ready.
    rank: number and count, for `--static`.
    """

    slowness: float = 1.0
    lease_s: float | None = None
    wait_s_per_frame: float | None = None
    start: Path | None = None
    rank: tuple[int, int] | None = None


def begin_worker(words: Sequence[object], log: Path, manner: Manner | None = None) -> BaseProcess:
    """Start sample.py with these words; its log is added to `log`."""
    process = _SERVER.Process(target=_work, args=([str(word) for word in words], log, manner or Manner()), daemon=True)
    process.start()
    return process


def _work(words: list[str], log: Path, manner: Manner) -> None:
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.chdir(REPOSITORY)
    if manner.rank is not None:
        os.environ["RANK"], os.environ["WORLD_SIZE"] = map(str, manner.rank)
    _change_denoising(manner)
    _change_lease(manner.lease_s)
    if manner.start is not None:
        _wait_before_work(manner.start)
    # As the program's own file does it; the heavy imports are done.
    sample = importlib.import_module("sample")
    run_entry_point(lambda: sample.main(words))


def _change_denoising(manner: Manner) -> None:
    from faceid.models.rendering import pipeline

    denoise = pipeline.denoise

    def slow(transformer: Any, scheduler: Any, adapter: Any, noise: torch.Tensor, *others: Any) -> torch.Tensor:
        began = time.perf_counter()
        if manner.wait_s_per_frame is None:
            latents = denoise(transformer, scheduler, adapter, noise, *others)
            seconds = time.perf_counter() - began
        else:
            latents, seconds = noise, manner.wait_s_per_frame * noise.shape[2]
            time.sleep(seconds)
        time.sleep((manner.slowness - 1) * seconds)
        return latents

    pipeline.denoise = slow  # type: ignore[assignment]


def _change_lease(lease_s: float | None) -> None:
    from faceid.sampling.jobs.job_folder import JobFolder

    if lease_s is not None:
        JobFolder.claims = lambda folder: Claims(  # type: ignore[method-assign, assignment]
            folder.folder / "claims", beat_s=lease_s / STALE_BEATS, stale_s=lease_s
        )


def _wait_before_work(start: Path) -> None:
    """Planned and loaded, a worker says so by a file, and waits for the start's."""
    from faceid.sampling.jobs.worker import Worker

    def after_start(work: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            start.with_name(f"{start.name}.ready.{os.getpid()}").touch()
            until = time.monotonic() + LONGEST_WAIT_S
            while not start.exists():
                # Whoever started this may have been killed.
                if time.monotonic() > until:
                    raise TimeoutError(f"{start}: not there after {LONGEST_WAIT_S:g} s")
                time.sleep(0.005)
            work(*arguments)

        return run

    Worker.work, Worker.work_share = (  # type: ignore[method-assign]
        after_start(Worker.work),
        after_start(Worker.work_share),
    )


def holders(output_dir: Path) -> dict[int, str]:
    """Which job each process id holds a claim of, as the claims say."""
    held = {}
    for path in (output_dir / ".jobs" / "claims").glob("[0-9a-f]*"):
        try:
            held[int(json.loads(path.read_text(encoding="utf-8").splitlines()[0])["pid"])] = path.name
        except (FileNotFoundError, ValueError, IndexError):
            continue
    return held


def write_pose(path: Path, seed: int, num_frames: int = NUM_FRAMES, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A video of noise: for the workers one pose is as good as another. Its path."""
    frames = np.random.default_rng(seed).integers(0, 255, (num_frames, *size_hw, 3), dtype=np.uint8)
    write_video(path, frames, FPS)
    return path


def write_person(folder: Path, seed: int, size: int = EMBEDDING_DIM, fingerprint: str = ENCODER_FINGERPRINT) -> Path:
    """An identity folder of a person of whom no photo is known. Its path."""
    folder.mkdir(parents=True)
    embedding = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    torch.save(torch.nn.functional.normalize(embedding, dim=0), folder / "identity_embedding.pt")
    about = {"name": folder.name, "encoder": "clip", "encoder_fingerprint": fingerprint}
    torch.save({**about, "photos": []}, folder / "metadata.pt")
    write_manifest(folder, about)
    return folder


def write_adapter(path: Path, seed: int = 2, fingerprint: str | None = None, metadata_rank: int | None = None) -> Path:
    """An adapter of the toy base, every tensor moved as training would. Its path.

    fingerprint: of another base. metadata_rank: a rank that the file says and its tensors have not.
    """
    wan = load_wan(resolve_model_path("toy"), ("transformer",))
    adapter = install_adapter(wan.transformer, SMALL_ADAPTER, EMBEDDING_DIM)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    settings = SMALL_ADAPTER.__class__(**{**vars(SMALL_ADAPTER), "lora_rank": metadata_rank or SMALL_ADAPTER.lora_rank})
    metadata = AdapterMetadata(
        base_name="toy",
        base_fingerprint=fingerprint or wan.fingerprint,
        face_embedding_dim=EMBEDDING_DIM,
        encoder="clip",
        encoder_fingerprint=ENCODER_FINGERPRINT,
        settings=settings,
        height=HEIGHT,
        width=WIDTH,
        num_frames=NUM_FRAMES,
        fps=FPS,
    )
    save_adapter(path, adapter_tensors(adapter), metadata)
    return path
