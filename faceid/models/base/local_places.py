"""Find where a base or an encoder lies on this machine, and name it where the name is published.

People give adapter files away. So a file names its base and its encoder, never a folder of its author. Their places are
in the run folder's config.yaml, which stays, or in the usual folder `models/`. A model found there is checked against
the fingerprint before use, like a model that a flag names.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from faceid.files.documents import read_text

# People commonly keep these organisations' models in a folder of that name, as `hf download` is told to. The folder is
# then part of the model's name.
_ORGANISATIONS = ("Wan-AI", "alibaba-pai")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
EMBEDDED = "toy"
_MOST_BYTES, _LONGEST = 1 << 18, 4096


def published_name(given: str, is_base: bool = True) -> str:
    """The published name of a model given as a folder, a file or a hub id: its last part, or the hub id.

    is_base: whether it is a base, which is always a folder. An encoder may be a hub id.
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
    """Where on this machine the model of a published name lies; the name itself where the place is unknown.

    adapter: the file that names the model. key: the name of the setting in the run folder's config.
    """
    # Older files held places. Those are taken as they are, and so are models that come with faceid.
    if name == EMBEDDED or not _NAME.fullmatch(name) or ".." in name.split("/"):
        return name
    recorded = _recorded(adapter.parent / "config.yaml", key)
    if recorded is not None and published_name(recorded, is_base=key == "model_path") == name:
        return recorded
    usual = Path("models") / name
    return str(usual) if usual.is_dir() and not Path(name).exists() else name


def _recorded(config: Path, key: str) -> str | None:
    """The value in a run's config; None without one, whatever else the file is.

    Only the one line with its continuations is parsed. A whole file from somebody may take a YAML reader minutes.
    """
    try:
        found = re.search(rf"^{key}: ([^\[{{&*!|>\s].*(?:\n[ ]+.*)*)", read_text(config, _MOST_BYTES), re.MULTILINE)
        value = yaml.safe_load(found[1]) if found is not None and len(found[1]) < _LONGEST else None
    except (OSError, yaml.YAMLError, ValueError):
        return None
    return value if isinstance(value, str) and value else None
