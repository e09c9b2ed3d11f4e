"""Latent samples by number: what training reads.

Everything comes from a folder written by `faceid.data.latent_shards`, verified before it is used. Latents are raw
VAE means; the reader does not normalise them. Safe to use from several workers: nothing but plain values is kept.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from faceid.data.index import NOT_FINITE, UNREADABLE, DamagedError, ShardIndex
from faceid.data.latent_shards import CONSTANTS_NAME, PROMPTS_NAME, inactive_name
from faceid.errors import DataError
from faceid.geometry import Geometry
from faceid.models.prompts import pad
from faceid.provenance import sha256_file


@dataclass
class LatentSample:
    """One clip, encoded.

    video, pose: raw VAE means [C, f, h, w] bf16. inactive: raw [C, f, h, w] float32, constant for the size.
    head_mask: uint8 [f, h, w]. prompt_embeds: [L, D]. clip: what it is a view of; its own key for the whole clip.
    """

    key: str
    video: Tensor
    pose: Tensor
    inactive: Tensor
    head_mask: Tensor
    prompt_embeds: Tensor
    dancer: str
    clip: str


class LatentSet:
    """A folder of latent shards. sha256 names its content; base_fingerprint the base it was encoded with."""

    def __init__(self, index: ShardIndex):
        self.index = index
        self.sha256 = index.sha256
        try:
            self.base_fingerprint: str = index.header["base"]["fingerprint"]
            self.base_name: str = index.header["base"]["name"]
            geometry = dict(index.header["geometry"])
            self.geometry = Geometry(**{**geometry, "patch_thw": tuple(geometry["patch_thw"])})
            self._prompt_names: dict[str, str] = index.header["prompts"]
            self._prompt_of: dict[str, str] = index.header["prompt_of"]
            self._caption: str | None = index.header.get("caption")
            if not isinstance(self._caption, str | None):
                raise TypeError("a caption that is a text")
            self._text_tokens: int | None = index.header.get("text_tokens")
            self._clip_of: dict[str, str] = index.header.get("clip_of", {})
            files: dict[str, str] = index.header["files"]
            self._prompts = _load_verified(index.folder / PROMPTS_NAME, files[PROMPTS_NAME])
            self._constants = _load_verified(index.folder / CONSTANTS_NAME, files[CONSTANTS_NAME])
        except (KeyError, TypeError) as error:
            raise DataError(f"{index.folder}: its index lacks {error}; encode the clips again") from error

    @classmethod
    def open(cls, folder: Path) -> LatentSet:
        """Open a folder of latent shards. Raises: DataError when it is missing, unfinished or damaged."""
        return cls(ShardIndex.load(folder, "latents"))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> LatentSample:
        """Read one sample. Raises: DamagedError when its shard is not what the index says, or it holds no latents."""
        sample = self.index.samples[number]
        where = f"{self.index.folder}: {sample.key}"
        try:
            tensors = load(self.index.read(number, "safetensors"))
        except SafetensorError as error:
            raise DamagedError(f"{where}: not safetensors ({error}); encode it again", UNREADABLE) from error
        missing = {"video", "pose", "head_mask"} - set(tensors)
        if missing:
            raise DamagedError(f"{where} has no {', '.join(sorted(missing))}; encode it again", UNREADABLE)
        for name in ("video", "pose"):
            # Of NaN and of infinity this is false; one pass, where isfinite makes a mask of bf16 in ten times the time.
            if not tensors[name].abs().max() < math.inf:
                raise DamagedError(f"{where}: {name} holds values that are not finite; encode it again", NOT_FINITE)
        _, f, h, w = tensors["video"].shape
        return LatentSample(
            key=sample.key,
            video=tensors["video"],
            pose=tensors["pose"],
            inactive=self.inactive(f, h, w),
            head_mask=tensors["head_mask"],
            prompt_embeds=self.prompt(self._prompt_of[sample.key]),
            dancer=sample.dancer,
            clip=self._clip_of.get(sample.key, sample.key),
        )

    def head_boxes(self, number: int) -> list[tuple[float, float, float, float] | None]:
        """Where the head is in each frame, (x0, y0, x1, y1) in pixels of what was encoded; none known: empty.

        Raises: DamagedError.
        """
        try:
            boxes = json.loads(self.index.read(number, "json")).get("head_boxes") or []
            return [None if box is None else (box[0], box[1], box[2], box[3]) for box in boxes]
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            where = f"{self.index.folder}: {self.index.samples[number].key}"
            raise DamagedError(f"{where}: its description is damaged ({error}); encode it again", UNREADABLE) from error

    @property
    def settings(self) -> dict[str, Any]:
        """How its clips were cut: num_frames, height, width, fps."""
        return self.index.header["settings"]

    @property
    def keys(self) -> list[str]:
        """The key of each sample, by number."""
        return [sample.key for sample in self.index.samples]

    @property
    def clips(self) -> list[str]:
        """The key of the clip that each sample is a view of, by number."""
        return [self._clip_of.get(sample.key, sample.key) for sample in self.index.samples]

    @property
    def caption(self) -> str:
        """What clips and photos without a caption of their own are trained with."""
        return self._prompt_of[self.index.samples[0].key] if self._caption is None else self._caption

    @property
    def num_captioned(self) -> int:
        """How many clips have a caption of their own, as far as it differs from the others'."""
        own = [key for key, text in self._prompt_of.items() if self._caption is not None and text != self._caption]
        return len({self._clip_of.get(key, key) for key in own})

    @property
    def dancers(self) -> list[str]:
        """The dancer of each sample, by number; nothing is read."""
        return [sample.dancer for sample in self.index.samples]

    def prompt(self, text: str) -> Tensor:
        """Embedding [L, D] of a stored prompt: a clip's, "" or the default negative one."""
        if text not in self._prompt_names:
            raise DataError(f"{self.index.folder}: prompt {text!r} is not stored; only {sorted(self._prompt_names)}")
        embedding = self._prompts[self._prompt_names[text]]
        # Where there are many they are stored without the zeros after their end.
        return embedding if self._text_tokens is None else pad(embedding, self._text_tokens)

    def inactive(self, f: int, h: int, w: int) -> Tensor:
        """The inactive half for a latent size, raw [C, f, h, w] float32; stored for clips and for single frames."""
        name = inactive_name(f, h, w)
        if name not in self._constants:
            raise DataError(f"{self.index.folder}: {name} is not stored; only {sorted(self._constants)}")
        return self._constants[name]


def _load_verified(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    if not path.is_file() or sha256_file(path) != sha256:
        raise DataError(f"{path}: missing or not what the index says; encode the clips again")
    return load(path.read_bytes())
