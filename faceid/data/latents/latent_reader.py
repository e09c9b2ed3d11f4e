"""Read latent samples by number, for training.

Everything comes from a folder written by `latent_shards`, and is verified before use. Latents are raw VAE means, which
the reader does not normalise. It is safe in several workers, since it keeps nothing but plain values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from faceid.data.latents.latent_shards import CONSTANTS_NAME, PROMPTS_NAME, inactive_name
from faceid.data.shards.index import NOT_FINITE, UNREADABLE, Cut, DamagedError, ShardIndex
from faceid.errors import DataError
from faceid.files.documents import fitted
from faceid.files.provenance import sha256_file
from faceid.geometry import Geometry
from faceid.models.base.prompts import pad

_LATENT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class _Base:
    name: str
    fingerprint: str


@dataclass(frozen=True)
class _Header:
    """The fields of a latents folder's index besides its samples."""

    base: _Base
    geometry: Geometry
    settings: Cut
    prompts: dict[str, str]
    prompt_of: dict[str, str]
    files: dict[str, str]
    clip_of: dict[str, str] = field(default_factory=dict)
    caption: str | None = None
    """The caption of clips without one of their own. Older folders do not hold it."""
    text_tokens: int | None = None
    """L, where embeddings are stored without the zeros after their end."""


@dataclass
class LatentSample:
    """One clip, encoded.

    video, pose: raw VAE means [C, f, h, w] bf16. inactive: raw [C, f, h, w] float32, constant for the size.
    head_mask: uint8 [f, h, w]. prompt_embeds: [L, D]. clip: key of the clip it is a view of; its own key for a whole
    clip.
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
    """A folder of latent shards. sha256: names its content. base_fingerprint: the base that encoded it."""

    def __init__(self, index: ShardIndex):
        self.index = index
        self.sha256 = index.sha256
        try:
            header = fitted(_Header, index.header)
            self.base_fingerprint, self.base_name = header.base.fingerprint, header.base.name
            self.geometry = header.geometry
            if min(self.geometry.spatial_factor, self.geometry.temporal_factor, *self.geometry.patch_thw) < 1:
                raise ValueError(f"geometry: {self.geometry}, which cannot be")
            self._caption, self._text_tokens = header.caption, header.text_tokens
            self._prompt_names, self._prompt_of, self._clip_of = header.prompts, header.prompt_of, header.clip_of
            without = next((sample.key for sample in index.samples if sample.key not in header.prompt_of), None)
            if without is not None:
                raise ValueError(f"prompt_of: no prompt of {without}")
            self._prompts = load_verified(index.folder / PROMPTS_NAME, header.files[PROMPTS_NAME])
            self._constants = load_verified(index.folder / CONSTANTS_NAME, header.files[CONSTANTS_NAME])
            for name, tensor in self._prompts.items():
                if tensor.dim() != 2 or tensor.dtype not in _LATENT_DTYPES:
                    raise ValueError(f"{PROMPTS_NAME}: {name} is {tensor.dtype} {list(tensor.shape)}, no embedding")
        except (KeyError, ValueError) as error:
            raise DataError(f"{index.folder}: its index lacks {error}; encode the clips again") from error
        if not len(index):
            raise DataError(f"{index.folder}: holds no clips; encode some")
        # How its clips were cut: num_frames, height, width, fps.
        self.settings: dict[str, Any] = index.header["settings"]
        # Of each sample, by number: its key, its dancer, and the key of the clip that it is a view of.
        self.keys = [sample.key for sample in index.samples]
        self.dancers = [sample.dancer for sample in index.samples]
        self.clips = [self._clip_of.get(key, key) for key in self.keys]

    @classmethod
    def open(cls, folder: Path) -> LatentSet:
        """Open a folder of latent shards. Raises: DataError when it is missing, unfinished or damaged."""
        return cls(ShardIndex.load(folder, "latents"))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> LatentSample:
        """Read one sample. Raises: DamagedError when its shard differs from the index, or holds no latents."""
        sample = self.index.samples[number]
        where = f"{self.index.folder}: {sample.key}"
        try:
            tensors = load(self.index.read(number, "safetensors"))
        except (SafetensorError, KeyError) as error:
            raise DamagedError(f"{where}: not safetensors ({error}); encode it again", UNREADABLE) from error
        missing = {"video", "pose", "head_mask"} - set(tensors)
        if missing:
            raise DamagedError(f"{where} has no {', '.join(sorted(missing))}; encode it again", UNREADABLE)
        _check_shapes(tensors, self.geometry.latent_channels, where)
        for name in ("video", "pose"):
            # This is false for NaN and infinity. It takes one pass; isfinite makes a mask of bf16 in ten times the
            # time.
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
            clip=self.clips[number],
        )

    def head_boxes(self, number: int) -> list[tuple[float, float, float, float] | None]:
        """Where the head is in each frame, (x0, y0, x1, y1) in pixels of the encoded picture; empty if unknown.

        Raises: DamagedError.
        """
        boxes = self.index.read_details(number).get("head_boxes") or []
        return [None if box is None else (box[0], box[1], box[2], box[3]) for box in boxes]

    @property
    def caption(self) -> str:
        """The caption with which clips and photos without one of their own are trained."""
        return self._prompt_of[self.index.samples[0].key] if self._caption is None else self._caption

    @property
    def num_captioned(self) -> int:
        """How many clips have a caption of their own that differs from the common one."""
        own = [key for key, text in self._prompt_of.items() if self._caption is not None and text != self._caption]
        return len({self._clip_of.get(key, key) for key in own})

    def prompt(self, text: str) -> Tensor:
        """Embedding [L, D] of a stored prompt: a clip's, "" or the default negative one."""
        if self._prompt_names.get(text, "") not in self._prompts:
            raise DataError(f"{self.index.folder}: prompt {text!r} is not stored; only {sorted(self._prompt_names)}")
        embedding = self._prompts[self._prompt_names[text]]
        # Where there are many embeddings, they are stored without the zeros after their end.
        return embedding if self._text_tokens is None else pad(embedding, self._text_tokens)

    def inactive(self, f: int, h: int, w: int) -> Tensor:
        """The inactive half for a latent size, raw [C, f, h, w] float32. It is stored for clips and single frames."""
        name = inactive_name(f, h, w)
        if name not in self._constants:
            raise DataError(f"{self.index.folder}: {name} is not stored; only {sorted(self._constants)}")
        inactive = self._constants[name]
        if inactive.shape != (self.geometry.latent_channels, f, h, w) or not inactive.is_floating_point():
            raise DataError(
                f"{self.index.folder / CONSTANTS_NAME}: {name} is {inactive.dtype} {list(inactive.shape)}; encode the "
                "clips again"
            )
        return inactive


def load_verified(path: Path, sha256: str, what: str = "clips") -> dict[str, torch.Tensor]:
    """The tensors of a file beside an index. what: was encoded. Raises: DataError when it is not the index's file."""
    if not path.is_file() or sha256_file(path) != sha256:
        raise DataError(f"{path}: missing or damaged (its sha256 is not the index's); encode the {what} again")
    try:
        return load(path.read_bytes())
    except (SafetensorError, KeyError, OSError) as error:
        raise DataError(f"{path}: damaged, not safetensors ({error}); encode the {what} again") from error


def _check_shapes(tensors: dict[str, Tensor], channels: int, where: str) -> None:
    video, pose, mask = (tensors[name] for name in ("video", "pose", "head_mask"))
    for name in ("video", "pose"):
        latents = tensors[name]
        if latents.dtype not in _LATENT_DTYPES or latents.dim() != 4 or latents.shape[0] != channels:
            found = f"{latents.dtype} {list(latents.shape)}"
            raise DamagedError(f"{where}: {name} is {found}, not latents of {channels} channels; encode it again")
    if not video.numel() or pose.shape != video.shape or mask.shape != video.shape[1:] or mask.dtype != torch.uint8:
        shapes = ", ".join(f"{name} {list(tensors[name].shape)}" for name in ("video", "pose", "head_mask"))
        raise DamagedError(f"{where}: {shapes} do not belong together; encode it again")
