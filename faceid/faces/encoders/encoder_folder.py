"""Find a face encoder's folder on disk or in the hub cache, check it, and load it.

Nothing is downloaded. Anybody may have made a folder. So no code in it is run, and its names lead nowhere else. Values
that no encoder has (thousands of layers, NaN or infinite numbers) are refused before or during loading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError

from faceid.errors import ModelError
from faceid.faces.encoders.encoder_kinds import ENCODERS, vision_of
from faceid.files.documents import find_json, is_file_name, read_json

# Limits for layers and heads, and for widths and vocabularies.
MOST_LAYERS, MOST_SIZE = 1000, 1 << 24


def find_folder(kind: str, path: str) -> Path:
    """The local folder of an encoder: the given folder, or its snapshot in the hub cache.

    The cache is looked up by file, and loading goes by folder. huggingface_hub 2.4 asks the hub for a list of agents
    while it builds headers, even under `local_files_only`. Without a network that request waits in vain.
    """
    folder = Path(path).expanduser()
    if folder.exists() or path.startswith(("/", "./", "../", "~")) or path.count("/") > 1:
        if not (folder / "config.json").is_file():
            raise ModelError(f"{path}: no config.json there; --encoder_path must name a folder in transformers' layout")
        return folder
    try:
        config = try_to_load_from_cache(path, "config.json")
    except HFValidationError as error:
        raise ModelError(f"{path}: no such folder, and not a hub name either; check --encoder_path") from error
    # The result is a path, None, or a marker for "known to be absent".
    if not isinstance(config, str):
        steps = (
            f"it is gated: accept the licence at https://huggingface.co/{path}, run `hf auth login`, then "
            f"`hf download {path}`"
            if ENCODERS[kind].is_gated
            else f"run `hf download {path}`"
        )
        others = [name for name, spec in ENCODERS.items() if spec.needs == "folder" and not spec.is_gated]
        free = f"; --encoder {others[-1]} needs no licence accepted" if ENCODERS[kind].is_gated else ""
        raise ModelError(
            f"encoder {path!r} is neither a folder nor in the local hub cache; {steps} on a machine with network, "
            f"or name a folder with --encoder_path{free}"
        )
    return Path(config).parent


def load_model(kind: str, path: Path) -> Any:
    """An encoder's image model, frozen and in eval mode. Raises: ModelError when it is no such model, or incomplete."""
    family = vision_of(kind)
    if not family.has_projection:
        _check_family(kind, path)
    _check_sizes(path / "config.json")
    _check_indices(path)
    model_class: Any = transformers.CLIPVisionModelWithProjection if family.has_projection else transformers.AutoModel
    try:
        with quiet_transformers():
            model, loading = model_class.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, ImportError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a {kind} encoder that can be loaded: {error}") from error
    # transformers fills in random numbers where a checkpoint lacks weights, and goes on.
    if loading["missing_keys"] or loading["mismatched_keys"]:
        absent = sorted(str(key) for key in [*loading["missing_keys"], *loading["mismatched_keys"]])
        raise ModelError(
            f"{path}: not a {kind} encoder: {len(absent)} tensors missing or misshapen, such as {absent[0]}; "
            "check --encoder and --encoder_path"
        )
    for name, parameter in model.named_parameters():
        # The sum is checked, at a fraction of the cost of each number.
        if not torch.isfinite(parameter.sum()):
            raise ModelError(f"{path}: {name} has numbers that are not finite (NaN or infinite); get the encoder again")
    return model.eval().requires_grad_(False)


def _check_sizes(file: Path) -> None:
    """Raises: ModelError naming a number in a config that no encoder has. Building such a model would take hours."""
    try:
        waiting = list(read_json(file).items())
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read: no config of an encoder: {error}") from error
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, int | float) and not abs(value) <= (
            MOST_LAYERS if key.startswith("num_") else MOST_SIZE
        ):
            raise ModelError(f"{file}: {key}={str(value)[:40]}: no encoder has that; check --encoder_path")


def _check_indices(folder: Path) -> None:
    """Raises: ModelError when an index of weights names a file outside the folder."""
    for file in folder.glob("*.index.json"):
        try:
            names = read_json(file)["weight_map"].values()
            outside = [name for name in names if not is_file_name(name)]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{file}: cannot be read: no list of files: {error}") from error
        if outside:
            raise ModelError(f"{file}: names {str(outside[0])[:80]!r}: must be the name of a file in {folder}")


def _check_family(kind: str, folder: Path) -> None:
    """Raises: ModelError when config.json says that the folder holds something else.

    AutoModel would load such a model as well, with the wrong preprocessing.
    """
    file = folder / "config.json"
    found = str((find_json(file) or {}).get("model_type", ""))
    if not found:
        raise ModelError(f"{file}: does not say which model it is of; give another --encoder_path")
    families = {name: spec.vision.model_type for name, spec in ENCODERS.items() if spec.vision is not None}
    if not found.startswith(families[kind]):
        known = [f"--encoder {name}, or another" for name, family in families.items() if found.startswith(family)]
        raise ModelError(
            f"{folder}: not a {kind} encoder: config.json says model_type={found}; "
            f"use {known[0] if known else 'another'} --encoder_path"
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' reports and bars. A full CLIP checkpoint holds text tensors that are rightly unused."""
    level, has_bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if has_bars:
            transformers.logging.enable_progress_bar()
