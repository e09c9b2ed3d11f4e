"""A description of a person, in words and as the base reads it: one safetensors file.

It says what a person looks like: it is as private as the photos.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from faceid.errors import ModelError
from faceid.files.documents import fitted, parse_json
from faceid.files.given_paths import why_no_file
from faceid.files.outputs import write_output

SUFFIX = ".safetensors"
_HEADER, _TOKENS = "faceid_description", "tokens"
LARGEST_HEADER_BYTES = 1 << 16
# The size of a prompt's own is 1.
LARGEST_TOKEN = 100.0


@dataclass(frozen=True)
class Description:
    """text: the phrases. tokens: [n, D_text] float32, what they add to a prompt, in units of a prompt's own tokens.

    text_fingerprint: of the base's VAE and text encoder, whose language it is.
    """

    text: str
    tokens: Tensor
    text_fingerprint: str


def write_description(path: Path, description: Description, shared: bool = False) -> None:
    """Write a description's file, for its owner alone unless it is shared. Raises: OutputError."""
    told = {"text": description.text, "text_fingerprint": description.text_fingerprint}
    header = {_HEADER: json.dumps(told, sort_keys=True)}
    write_output(path, save({_TOKENS: description.tokens.float().contiguous()}, metadata=header), private=not shared)


def read_description(path: Path, key: str = "target_description") -> Description:
    """Read it. key: the flag that gave the path. Raises: ModelError when it is missing, damaged or another file."""
    if (reason := why_no_file(path)) is not None:
        raise ModelError(f"{key}={path}: {reason}")
    try:
        with safe_open(path, "pt") as file:
            told = parse_json((file.metadata() or {})[_HEADER].encode()[:LARGEST_HEADER_BYTES])
            tokens = file.get_tensor(_TOKENS)
        text, fingerprint = (fitted(str, told[name], name) for name in ("text", "text_fingerprint"))
        if tokens.ndim != 2 or tokens.dtype != torch.float32 or not tokens.numel():
            raise ValueError(f"tokens: {list(tokens.shape)} {tokens.dtype}")
        if not tokens.abs().max() <= LARGEST_TOKEN:
            raise ValueError(f"tokens: beyond {LARGEST_TOKEN}, or not finite")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"{key}={path}: not a file of tools/describe_person.py, or damaged: {said}") from error
    return Description(text, tokens, fingerprint)
