"""JSON from somebody's file: of a bounded size, an object, and refused in one line when it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from faceid.errors import ModelError

# The longest true one is an index of weights: 100 bytes for each of some thousand tensors.
MOST_BYTES = 16 << 20
# Of blocks, heads and stages; of widths and vocabularies, and of positions, which are computed as a table.
MOST_LAYERS = 1000
MOST_SIZE = {"": 1 << 24, "rope_max_seq_len": 1 << 16}


def read_json(file: Path) -> dict[str, Any]:
    """Raises: ModelError naming the file when it is missing, too large, or not a JSON object."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ModelError(f"{file}: {file.stat().st_size} bytes of JSON, at most {MOST_BYTES} are read; damaged")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    return parse_json(text, str(file))


def parse_json(text: str, source: str, most: int = MOST_BYTES) -> dict[str, Any]:
    """source: for the message. most: bytes. Raises: ModelError when it is too long, too deep, or not a JSON object."""
    if len(text) > most:
        raise ModelError(f"{source}: {len(text)} bytes of JSON, at most {most} are read; damaged")
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ModelError(f"{source}: cannot be read: nested too deep") from error
    except ValueError as error:
        raise ModelError(f"{source}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{source}: cannot be read: a {type(found).__name__}, not an object")
    return found


def read_config(file: Path) -> dict[str, Any]:
    """A model's config. Raises: ModelError naming a number in it that no model has: it would be built for hours."""
    config = read_json(file)
    for key, value in config.items():
        most = MOST_LAYERS if key.startswith("num_") else MOST_SIZE.get(key, MOST_SIZE[""])
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not abs(number) <= most:
                raise ModelError(f"{file}: {key}={str(number)[:40]}: must be at most {most}; not the config of a model")
        if isinstance(value, list) and len(value) > MOST_LAYERS:
            raise ModelError(f"{file}: {key}: {len(value)} entries, at most {MOST_LAYERS} are read; damaged")
    return config


def is_file_name(name: Any) -> bool:
    """Whether a name from a file is one of a file in the same folder, and leads nowhere else."""
    is_name = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\")
    # Without line breaks, zeros and halves of characters; 255 bytes is the most that file systems take.
    return is_name and name.isprintable() and len(name.encode()) <= 255
