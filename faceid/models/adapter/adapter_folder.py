"""Read and write an adapter folder in the Hugging Face hub's layout.

It holds README.md, adapter_config.json and the adapter file. Wherever an adapter file may be given, such a folder may
be given too, or the hub id of one in the local cache.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import jinja2
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from faceid.errors import ModelError
from faceid.files.documents import is_file_name
from faceid.files.outputs import HUB_FOLDER, staged_folder
from faceid.files.provenance import sha256_file
from faceid.files.writing import write_json
from faceid.models.adapter.adapter_file import AdapterMetadata, read_adapter, save_adapter
from faceid.models.base.model_json import read_model_json

CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "adapter_config.json", "face_adapter.safetensors", "README.md"
_TYPE = "FACEID_FACE_ADAPTER"


def write_adapter_folder(adapter: Path, folder: Path, name: str) -> None:
    """Write the folder for an adapter file, atomically. name: the heading of its card. Raises: ModelError."""
    tensors, metadata = read_adapter(adapter)
    with staged_folder(folder, HUB_FOLDER, key="output") as temporary:
        weights = temporary / WEIGHTS_NAME
        save_adapter(weights, tensors, metadata)
        sha256 = sha256_file(weights)
        published = metadata.published()
        described = {key: value for key, value in published.items() if key != "format"}
        write_json(temporary / CONFIG_NAME, {"type": _TYPE, "weights": WEIGHTS_NAME, "sha256": sha256, **described})
        names = {key: published[key] for key in ("base_name", "encoder_path")}
        (temporary / CARD_NAME).write_text(_card(name, replace(metadata, **names), sha256), encoding="utf-8")


def find_adapter(given: str | Path, key: str = "face_lora_path") -> Path:
    """The adapter file for a file, a folder or a hub id in the local cache. Nothing is downloaded.

    key: the flag that gave it. Raises: ModelError when there is none.
    """
    path = Path(given)
    if path.is_dir():
        return _weights_in(path, key)
    if path.exists() or re.fullmatch(r"[\w.-]+/[\w.-]+", str(given)) is None or path.suffix in (".safetensors", ".pth"):
        return path  # an error in the file is reported when the file is read
    try:
        return _weights_in(Path(snapshot_download(str(given), local_files_only=True)), key)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{key}={given}: no such file or folder, and not in the local hub cache; "
            f"give a file, or download it once: hf download {given}"
        ) from error


def _weights_in(folder: Path, key: str) -> Path:
    file = folder / CONFIG_NAME
    if not file.is_file():
        raise ModelError(f"{key}={folder}: no {CONFIG_NAME} that can be read in it: no such file")
    try:
        config = read_model_json(file)
    except ModelError as error:
        raise ModelError(f"{key}={folder}: no {CONFIG_NAME} that can be read in it: {error}") from error
    if config.get("type") != _TYPE:
        what = config.get("peft_type") or config.get("type") or "something else"
        raise ModelError(f"{key}={folder}: its {CONFIG_NAME} is of {ascii(what)[:80]}, not of a faceid face adapter")
    given = config.get("weights", WEIGHTS_NAME)
    # A config from elsewhere must not point out of its folder.
    if not is_file_name(given):
        raise ModelError(f"{file}: weights={str(given)[:80]!r}: must be the name of a file in this folder")
    weights = folder / given
    if not weights.is_file():
        raise ModelError(f"{key}={folder}: no {weights.name} in it; download it again, it is not whole")
    return weights


def _card(name: str, metadata: AdapterMetadata, sha256: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(
        name=name, metadata=metadata, weights=WEIGHTS_NAME, sha256=sha256
    )
