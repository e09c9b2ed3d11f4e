"""Which tensors an adapter file has to hold: told from its description, before anything of their size is allocated.

The names and shapes are those that `install_adapter` makes, on a transformer of two blocks that holds no numbers (on
the meta device). How many blocks there are and how wide they are is the base's: that is read off the tensors, each of
which has to agree. Whether they fit a base is known once there is one (`adapter_file.load_tensors`).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import WanVACETransformer3DModel

from faceid.errors import ModelError
from faceid.models.adapter.adapter_metadata import LOW_NOISE, AdapterMetadata
from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter_settings import AdapterSettings

Shapes = Mapping[str, tuple[int, ...]]
# Where a tensor of a block says which block it is of; a number of four digits is no block's.
_OF_BLOCK = re.compile(r"(face_attention|face_modulation|transformer\.blocks|transformer\.vace_blocks)\.(\d{1,3})\.")
_VACE = "transformer.vace_blocks"
# Far beyond any transformer.
_MOST_WIDTH = 1 << 20


def check_shapes(path: Path, metadata: AdapterMetadata, shapes: Shapes, key: str = "face_lora_path") -> None:
    """Hold a file's tensors against its description. shapes: by name, as in the file.

    Raises: ModelError naming the first tensor that is missing, left over, or of another size.
    """
    halves = ("", LOW_NOISE) if metadata.expert == "both" else ("",)
    expected: dict[str, tuple[int, ...]] = {}
    for half in halves:
        of_half = {name.removeprefix(half): shape for name, shape in shapes.items() if name.startswith(half)}
        if half == "" and len(halves) > 1:
            of_half = {name: shape for name, shape in of_half.items() if not name.startswith(LOW_NOISE)}
        expected |= {f"{half}{name}": shape for name, shape in _expected(metadata, of_half).items()}
    for what, names in (("missing", expected.keys() - shapes.keys()), ("unknown", shapes.keys() - expected.keys())):
        if names:
            raise ModelError(
                f"{key}={path}: {len(names)} {what} keys, the first is {min(names)}; its settings and its tensors are "
                "not of one adapter: take the file as its training run wrote it"
            )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ModelError(
                f"{key}={path}: {name} is {list(shapes[name])}, its settings and its other tensors say {list(shape)} "
                f"(rank {metadata.settings.lora_rank}); take the file as its training run wrote it"
            )


def _expected(metadata: AdapterMetadata, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Of the adapter of one transformer that is as wide and has as many blocks as these tensors say."""
    settings = metadata.settings
    width, inner = _width(shapes, r"face_attention\.\d+\."), _width(shapes, r".*\.ffn\.net\.0\.proj\.lora_B\.")
    num_main, num_vace = (_num_blocks(shapes, is_vace) for is_vace in (False, True))
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in _of_two_blocks(settings, metadata.face_embedding_dim, width, inner).items():
        of_block = _OF_BLOCK.match(name)
        if of_block is None:
            found[name] = shape
            continue
        root, number, rest = of_block[1], int(of_block[2]), name[of_block.end() :]
        if root == _VACE:
            # The first alone has a projection in: the others are as the second.
            blocks = range(1) if number == 0 else range(1, num_vace)
        else:
            blocks = range(num_main) if number == 0 else range(0)
        for block in blocks:
            if root != "face_attention" or settings.has_face_attention(block):
                found[f"{root}.{block}.{rest}"] = shape
    return found


def _num_blocks(shapes: Shapes, is_vace: bool) -> int:
    """How many blocks of a kind the tensors are of, at least one. No block has one tensor alone: that is a stray."""
    blocks = (match for name in shapes if (match := _OF_BLOCK.match(name)) is not None)
    seen = Counter(int(match[2]) for match in blocks if (match[1] == _VACE) == is_vace)
    return max((block + 1 for block, count in seen.items() if count > 1), default=1)


def _width(shapes: Shapes, pattern: str) -> int:
    """The first side of most tensors whose names begin so; 2, which no base has, where that is no width."""
    sides = Counter(shape[0] for name, shape in shapes.items() if len(shape) == 2 and re.match(pattern, name))
    side = sides.most_common(1)[0][0] if sides else 0
    return side if 0 < side <= _MOST_WIDTH and side % 2 == 0 else 2


@functools.lru_cache(maxsize=16)
def _of_two_blocks(settings: AdapterSettings, face_embedding_dim: int, width: int, inner: int) -> Shapes:
    """Of the adapter of a transformer with two main and two VACE blocks. inner: width within the feed-forward."""
    with torch.device("meta"):
        transformer = WanVACETransformer3DModel(
            num_attention_heads=1,
            attention_head_dim=width,
            ffn_dim=inner,
            num_layers=2,
            vace_layers=[0, 1],
            # No tensor of an adapter depends on these.
            in_channels=1,
            out_channels=1,
            vace_in_channels=1,
            text_dim=1,
            freq_dim=2,
            rope_max_seq_len=1,
        )
        adapter = install_adapter(transformer, settings, face_embedding_dim)
    return {name: tuple(parameter.shape) for name, parameter in adapter.parameters().items()}
