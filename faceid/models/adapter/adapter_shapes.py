"""Check which tensors an adapter file has to hold, by its description.

The check comes before memory of their size is allocated. The names and shapes come from `install_adapter` on a
transformer of two blocks without numbers (on the meta device). The base decides how many blocks there are and how wide
they are. Both are read off the tensors, and each tensor has to agree. Whether the tensors fit a base is checked once it
is loaded (`adapter_file.load_tensors`).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from faceid.errors import ModelError
from faceid.models.adapter.adapter_metadata import LOW_NOISE, AdapterMetadata
from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.wan_vace.transformer import HINT_BLOCKS, of_two_blocks

Shapes = Mapping[str, tuple[int, ...]]
# The part of a tensor's name that says which block it belongs to. No block has a number of four digits.
_HINTS = f"transformer.{HINT_BLOCKS}"
_OF_BLOCK = re.compile(rf"(face_attention|face_modulation|transformer\.blocks|{re.escape(_HINTS)})\.(\d{{1,3}})\.")
# Far beyond the width of any transformer.
_MOST_WIDTH = 1 << 20


def check_shapes(path: Path, metadata: AdapterMetadata, shapes: Shapes, key: str = "face_lora_path") -> None:
    """Compare a file's tensors with its description. shapes: by name, as in the file.

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
    """The shapes for an adapter of one transformer with the width and the number of blocks that the tensors show."""
    settings = metadata.settings
    width, inner = _width(shapes, r"face_attention\.\d+\."), _width(shapes, r".*\.ffn\.net\.0\.proj\.lora_B\.")
    text_dim = _width({name: shape[::-1] for name, shape in shapes.items()}, r"target_words\.")
    num_main, num_hints = (_num_blocks(shapes, is_hint) for is_hint in (False, True))
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in _of_two_blocks(settings, metadata.face_embedding_dim, width, inner, text_dim).items():
        of_block = _OF_BLOCK.match(name)
        if of_block is None:
            found[name] = shape
            continue
        root, number, rest = of_block[1], int(of_block[2]), name[of_block.end() :]
        if root == _HINTS:
            # Only the first hint block has a projection in. All others have the second block's shapes.
            blocks = range(1) if number == 0 else range(1, num_hints)
        else:
            blocks = range(num_main) if number == 0 else range(0)
        for block in blocks:
            if root != "face_attention" or settings.has_face_attention(block):
                found[f"{root}.{block}.{rest}"] = shape
    return found


def _num_blocks(shapes: Shapes, is_hint: bool) -> int:
    """How many blocks of a kind the tensors belong to, at least one. A block with a single tensor is a stray."""
    blocks = (match for name in shapes if (match := _OF_BLOCK.match(name)) is not None)
    seen = Counter(int(match[2]) for match in blocks if (match[1] == _HINTS) == is_hint)
    return max((block + 1 for block, count in seen.items() if count > 1), default=1)


def _width(shapes: Shapes, pattern: str) -> int:
    """The most frequent first side among tensors whose names match; 2, which no base has, if that is no width."""
    sides = Counter(shape[0] for name, shape in shapes.items() if len(shape) == 2 and re.match(pattern, name))
    side = sides.most_common(1)[0][0] if sides else 0
    return side if 0 < side <= _MOST_WIDTH and side % 2 == 0 else 2


@functools.lru_cache(maxsize=16)
def _of_two_blocks(settings: AdapterSettings, face_embedding_dim: int, width: int, inner: int, text_dim: int) -> Shapes:
    """Shapes for the adapter of a transformer with two main and two hint blocks. inner: the feed-forward's width."""
    with torch.device("meta"):
        transformer = of_two_blocks(width, inner, text_dim)
        adapter = install_adapter(transformer, settings, face_embedding_dim)
    return {name: tuple(parameter.shape) for name, parameter in adapter.parameters().items()}
