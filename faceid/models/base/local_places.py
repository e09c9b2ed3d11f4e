"""Where on this machine a base or an encoder lies, and what it is called where that is published.

An adapter file is what people give away: it names its base and its encoder, never a folder of its author. Where they
lie is in the run folder's config.yaml, which stays; and in the usual place, `models/`. What is found is held against
the fingerprint before it is used, as what a flag names is.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from faceid.files.documents import read_text

# Whose models are commonly kept in a folder of their name, as `hf download` is told to: part of a model's name then.
_ORGANISATIONS = ("Wan-AI", "alibaba-pai")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
EMBEDDED = "toy"
_MOST_BYTES, _LONGEST = 1 << 18, 4096


def published_name(given: str, is_base: bool = True) -> str:
    """What a model that was given as a folder, a file or a hub id is called elsewhere: its last part, or the hub id.

    is_base: a base is always a folder; an encoder may be a hub id.
    """
    path = Path(given)
    cached = [match for part in path.parts if (match := _CACHED.fullmatch(part)) is not None]
    if cached:
        return f"{cached[-1][1]}/{cached[-1][2]}"
    is_place = is_base or given.startswith(("/", "./", "../", "~")) or given.count("/") > 1 or path.exists()
    if not is_place and _NAME.fullmatch(given):
        return given
    name = path.name if path.name not in ("", "..") else path.resolve().name
    return f"{path.parent.name}/{name}" if path.parent.name in _ORGANISATIONS else name


def place_of(name: str, adapter: Path, key: str) -> str:
    """Where on this machine the model of a published name lies; the name itself where that is not known.

    adapter: the file that names it. key: what the run folder's config calls it.
    """
    # Files from before held places; those are taken as they are, and so is what comes with faceid.
    if name == EMBEDDED or not _NAME.fullmatch(name) or ".." in name.split("/"):
        return name
    recorded = _recorded(adapter.parent / "config.yaml", key)
    if recorded is not None and published_name(recorded, is_base=key == "model_path") == name:
        return recorded
    usual = Path("models") / name
    return str(usual) if usual.is_dir() and not Path(name).exists() else name


def _recorded(config: Path, key: str) -> str | None:
    """What a run's config says; None without one, whatever else the file is.

    The one line, with its continuations: a whole file of somebody's may take a YAML reader minutes.
    """
    try:
        found = re.search(rf"^{key}: ([^\[{{&*!|>\s].*(?:\n[ ]+.*)*)", read_text(config, _MOST_BYTES), re.MULTILINE)
        value = yaml.safe_load(found[1]) if found is not None and len(found[1]) < _LONGEST else None
    except (OSError, yaml.YAMLError, ValueError):
        return None
    return value if isinstance(value, str) and value else None
