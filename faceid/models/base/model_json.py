"""Read a JSON object of bounded size from anybody's file, or refuse it in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceid.errors import ModelError
from faceid.files import documents

# The longest real one is an index of weights: 100 bytes for each of some thousand tensors.
MOST_BYTES = 16 << 20
# Limits: for blocks, heads and stages; for widths, vocabularies, and positions, which are computed as a table.
MOST_LAYERS = 1000
MOST_SIZE = {"": 1 << 24, "rope_max_seq_len": 1 << 16}


def read_model_json(file: Path) -> dict[str, Any]:
    """Read a file. Raises: ModelError naming the file when it is missing, too large, or not a JSON object."""
    try:
        return parse_model_json(documents.read_bytes(file, MOST_BYTES), str(file))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from error
    except documents.DocumentError as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error


def parse_model_json(text: str | bytes, source: str, most: int = MOST_BYTES) -> dict[str, Any]:
    """Parse a text. source: its name for the message. most: bytes.

    Raises: ModelError when it is too long, too deep, or not a JSON object.
    """
    try:
        # NaN and infinity pass here. They are refused where their key is read.
        return documents.parse_json(text, largest_bytes=most, nan=True)
    except documents.DocumentError as error:
        raise ModelError(f"{source}: cannot be read: {error}") from error


def read_config(file: Path) -> dict[str, Any]:
    """A model's config.

    Raises: ModelError naming a number that no model has; building such a model would take hours.
    """
    config = read_model_json(file)
    for key, value in config.items():
        most = MOST_LAYERS if key.startswith("num_") else MOST_SIZE.get(key, MOST_SIZE[""])
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not abs(number) <= most:
                raise ModelError(f"{file}: {key}={str(number)[:40]}: must be at most {most}; not the config of a model")
        if isinstance(value, list) and len(value) > MOST_LAYERS:
            raise ModelError(f"{file}: {key}: {len(value)} entries, at most {MOST_LAYERS} are read; damaged")
    return config
