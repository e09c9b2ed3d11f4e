"""CPU seconds of a clip delivered as tensors: ours, and a loader that opens the mp4 in every step.

The naive loader reads as DiffSynth-Studio does by default (`LoadVideo` and `ImageCropAndResize` of
diffsynth/core/data/operators.py at fed7b18fac2e): imageio's reader, the frames counted twice, frame after frame to
PIL, resized until it covers the target, cut in the middle. torchvision's resize of a PIL picture is PIL's own, called
here directly. One process, by turns (A B B A). Times are the CPU seconds of this process and its children, so what
imageio's ffmpeg process spends is counted.
"""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.costs import cpu_s_by_turns, least_and_median
from benchmarks.speed.data_scale import write_latents
from benchmarks.speed.moving_pictures import FILM_FPS, FILM_FRAMES, FILM_HW, draw_pose, write_film
from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.shards.index import ShardIndex
from faceid.media.pixels.fit import fit_sizes
from faceid.media.video import decode_video_bytes, frame_indices, read_frames, write_video
from faceid.models.base.latent_codec import to_pixels

# For this comparison only, so installed beside the product.
IMAGEIO = ("imageio==2.38.1", "imageio-ffmpeg==0.8.1")
CLIP = ClipSettings(num_frames=65, height=480, width=832, fps=16, clips_per_shard=1)
# Poses may be smaller; this one is not measured.
POSE_HW = (270, 480)
LATENT_SIZE, NUM_LATENTS = (17, 60, 104), 8


class MissingError(Exception):
    """What the comparison needs cannot be had here."""


def import_imageio(folder: Path) -> Any:
    """imageio.v2, installed into `folder` when it is not there. Raises: MissingError with pip's last words."""
    if not (folder / "imageio").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *IMAGEIO]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingError(f"pip cannot install {', '.join(IMAGEIO)}: {done.stderr.strip()[-200:]}")
    sys.path.append(str(folder))
    return importlib.import_module("imageio.v2")


class Loaders:
    """A film, its ready clip and latents of that size, and the ways to read them."""

    def __init__(self, folder: Path, imageio: Any) -> None:
        """Draws and writes all of it into `folder`: about a minute."""
        self.imageio = imageio
        videos, poses, shards = folder / "videos", folder / "poses", folder / "shards"
        self.film, self.clip = videos / "film.mp4", folder / "clip.mp4"
        self.film_mbit_per_s = write_film(self.film)
        write_video(poses / "film_pose.mp4", draw_pose(FILM_FRAMES, POSE_HW), FILM_FPS)
        write_clip_shards(videos, poses, shards, CLIP)
        self.clips = ShardIndex.load(shards, "clips")
        self.clip.write_bytes(self.clips.read(0, "video.mp4"))
        write_latents(folder / "latents", NUM_LATENTS, LATENT_SIZE)
        self.latents = LatentSet.open(folder / "latents")
        self.num_read = 0

    def film_naively(self) -> Tensor:
        """The film at 16 frames a second, [1, 3, T, H, W] in [-1, 1]."""
        return load_naively(self.imageio, self.film, CLIP.fps)

    def film_in_one_pass(self) -> Tensor:
        """The naive loader without its two counts of all frames."""
        return load_naively(self.imageio, self.film, CLIP.fps, num_counts=0)

    def film_by_ours(self) -> Tensor:
        """The same frames as the clip maker reads them."""
        indices = frame_indices(FILM_FPS, CLIP.fps, CLIP.num_frames)
        return to_pixels(read_frames(self.film, indices, fit_sizes(FILM_HW, CLIP.height, CLIP.width).on_even_pixels()))

    def clip_naively(self) -> Tensor:
        """A ready clip, every frame."""
        return load_naively(self.imageio, self.clip, None)

    def clip_by_ours(self) -> Tensor:
        """The same clip from a shard."""
        return to_pixels(decode_video_bytes(self.clips.read(0, "video.mp4")).frames)

    def latents_by_ours(self) -> Tensor:
        """Latents of a clip and of its pose, [2, C, f, h, w] float32; another clip each time."""
        sample = self.latents[self.num_read % NUM_LATENTS]
        self.num_read += 1
        return torch.stack([sample.video, sample.pose]).float()

    def verify_latents(self) -> None:
        """What the first touch of a shard costs once in a run: the checksum of all its clips."""
        self.latents.index.verify_all()


def compare_loaders(loaders: Loaders, rounds: int) -> dict[str, Any]:
    """Figures: CPU seconds a clip by way (min and median), and the PSNR between what ours and naive deliver, dB."""
    figures: dict[str, Any] = {
        "film_mbit_per_s": round(loaders.film_mbit_per_s, 1),
        "film_s": FILM_FRAMES / FILM_FPS,
        "film_psnr_db": psnr_db(loaders.film_by_ours(), loaders.film_naively()),
        "film_psnr_db_one_frame_off": psnr_db(loaders.film_by_ours()[:, :, 1:], loaders.film_naively()[:, :, :-1]),
        "clip_psnr_db": psnr_db(loaders.clip_by_ours(), loaders.clip_naively()),
    }
    ways: dict[str, Callable[[], Any]] = {
        "film_naively": loaders.film_naively,
        "film_in_one_pass": loaders.film_in_one_pass,
        "film_by_ours": loaders.film_by_ours,
        "clip_naively": loaders.clip_naively,
        "clip_by_ours": loaders.clip_by_ours,
        "latents_by_ours": loaders.latents_by_ours,
        "verify_latents": loaders.verify_latents,
    }
    times = cpu_s_by_turns(ways, rounds)
    times["verify_latents"] = [seconds / NUM_LATENTS for seconds in times["verify_latents"]]
    both = {name: least_and_median(seconds) for name, seconds in times.items()}
    return figures | {"cpu_s": {name: {"min": least, "median": median} for name, (least, median) in both.items()}}


def load_naively(imageio: Any, path: Path, fps: float | None, num_counts: int = 2) -> Tensor:
    """As described above: [1, 3, T, H, W] float32 in [-1, 1]. fps: to sample by; None takes frame after frame."""
    reader = imageio.get_reader(str(path))
    source_fps = reader.get_meta_data()["fps"]
    for _ in range(num_counts):
        reader.count_frames()
    tensors = []
    for number in range(CLIP.num_frames):
        picture = Image.fromarray(reader.get_data(int(number / fps * source_fps + 0.5) if fps else number))
        values = torch.from_numpy(np.array(_cover_and_cut(picture, CLIP.height, CLIP.width), dtype=np.float32))
        tensors.append((values * (2 / 255) - 1).permute(2, 0, 1).unsqueeze(0))
    reader.close()
    return torch.stack(tensors, dim=2)


def psnr_db(ours: Tensor, theirs: Tensor) -> float:
    """The lowest of all frames, of pictures [1, 3, T, H, W] in [-1, 1]."""
    errors = (ours - theirs).double().square().mean(dim=(0, 1, 3, 4))
    return round(10 * math.log10(4 / max(errors.max().item(), 1e-12)), 1)


def _cover_and_cut(picture: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(width / picture.width, height / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    return resized.crop((left, top, left + width, top + height))
