"""The folder of a face encoder: found on disk or in the hub cache, looked at, and loaded; nothing is downloaded.

A folder may be anybody's: no code that comes with it is run, its names lead nowhere else, and what no encoder has
(thousands of layers, numbers that are none) is refused before or as it is loaded.
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
from faceid.files.documents import is_file_name, read_json

# What config.json of a DINO must call itself: the other one would load as well, with the wrong preprocessing.
DINO_FAMILIES = {"dinov3": "dinov3_", "dinov2": "dinov2"}
# Of layers and heads; of widths and vocabularies.
MOST_LAYERS, MOST_SIZE = 1000, 1 << 24


def find_folder(kind: str, path: str) -> Path:
    """The local folder of an encoder: as given, or its snapshot in the hub cache.

    The cache is looked up by file and loading goes by folder: huggingface_hub 2.4 asks the hub for a list of agents
    while it builds headers, even under `local_files_only`, and without a network that waits in vain.
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
    # It answers with a path, None, or a marker for "known to be absent".
    if not isinstance(config, str):
        # DINOv3 cannot be had without an account that has accepted its licence.
        steps = (
            f"it is gated: accept the licence at https://huggingface.co/{path}, run `hf auth login`, then "
            f"`hf download {path}`"
            if kind == "dinov3"
            else f"run `hf download {path}`"
        )
        free = "; --encoder dinov2 needs no licence accepted" if kind == "dinov3" else ""
        raise ModelError(
            f"encoder {path!r} is neither a folder nor in the local hub cache; {steps} on a machine with network, "
            f"or name a folder with --encoder_path{free}"
        )
    return Path(config).parent


def load_model(kind: str, path: Path) -> Any:
    """An encoder's image model, frozen and in eval mode. Raises: ModelError when it is not one, or not whole."""
    if kind in DINO_FAMILIES:
        _check_dino(kind, path)
    _check_sizes(path / "config.json")
    _check_indices(path)
    model_class: Any = transformers.CLIPVisionModelWithProjection if kind == "clip" else transformers.AutoModel
    try:
        with quiet_transformers():
            model, loading = model_class.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, ImportError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a {kind} encoder that can be loaded: {error}") from error
    # transformers fills what a checkpoint lacks with random numbers and goes on.
    if loading["missing_keys"] or loading["mismatched_keys"]:
        absent = sorted(str(key) for key in [*loading["missing_keys"], *loading["mismatched_keys"]])
        raise ModelError(
            f"{path}: not a {kind} encoder: {len(absent)} tensors missing or misshapen, such as {absent[0]}; "
            "check --encoder and --encoder_path"
        )
    for name, parameter in model.named_parameters():
        # By the sum: at a fraction of what looking at each number costs.
        if not torch.isfinite(parameter.sum()):
            raise ModelError(f"{path}: {name} has numbers that are not finite (NaN or infinite); get the encoder again")
    return model.eval().requires_grad_(False)


def _check_sizes(file: Path) -> None:
    """Raises: ModelError naming a number in a config that no encoder has: it would be built for hours."""
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
    """Raises: ModelError when an index of weights names a file outside of the folder."""
    for file in folder.glob("*.index.json"):
        try:
            names = read_json(file)["weight_map"].values()
            outside = [name for name in names if not is_file_name(name)]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{file}: cannot be read: no list of files: {error}") from error
        if outside:
            raise ModelError(f"{file}: names {str(outside[0])[:80]!r}: must be the name of a file in {folder}")


def _check_dino(kind: str, folder: Path) -> None:
    """Raises: ModelError when config.json says that the folder holds something else than this DINO."""
    file = folder / "config.json"
    try:
        found = str(read_json(file)["model_type"])
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{file}: does not say which model it is of; give another --encoder_path") from error
    if not found.startswith(DINO_FAMILIES[kind]):
        families = {**DINO_FAMILIES, "clip": "clip"}
        known = [f"--encoder {name}, or another" for name, family in families.items() if found.startswith(family)]
        raise ModelError(
            f"{folder}: not a {kind} encoder: config.json says model_type={found}; "
            f"use {known[0] if known else 'another'} --encoder_path"
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """A full CLIP checkpoint holds text tensors that are rightly unused; do not report each, nor draw bars."""
    level, has_bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if has_bars:
            transformers.logging.enable_progress_bar()
