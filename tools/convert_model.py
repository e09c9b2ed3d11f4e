"""Convert a Wan2.1-VACE base from the layout of the Wan repositories to that of diffusers, for tools that want it.

faceid itself reads both. The weights are copied unchanged unless --dtype says otherwise. The written files are opened
and compared, tensor by tensor, with the originals.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.data.disk_space import check_space, in_words
from faceid.errors import run_entry_point
from faceid.files.outputs import refuse_existing
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.convert_model")


@dataclass(frozen=True)
class ConvertSettings:
    """Which base, and where it goes."""

    model_path: str
    """Wan2.1-VACE folder in the layout of the Wan repositories (config.json, Wan2.1_VAE.pth, ...), or toy."""
    output_dir: Path
    """Folder to write, in the diffusers layout. It must not exist."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder."""
    dtype: Literal["file", "bfloat16", "float32"] = "file"
    """Precision of the transformer and the text encoder. file: unchanged."""
    dry_run: bool = False
    """Look at every file, say what would be written, and stop."""


def main(argv: list[str] | None = None) -> int:
    """Parse, check, write, compare."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/convert_model.py", __doc__ or "", [ConvertSettings], words)
    set_up_logging()
    refuse_existing(settings.output_dir)

    # Importing these takes seconds, so it comes after the cheap checks.
    from faceid.models.base.model_files import ModelFiles
    from faceid.models.lora.export import check_same_tensors, write_diffusers
    from faceid.toy.shipped import resolve_model_path

    files = ModelFiles.find(resolve_model_path(settings.model_path), settings.vae_path, settings.text_encoder_path)
    needed = sum(file.path.stat().st_size for part in files.parts for file in part.files)
    needed *= 2 if settings.dtype == "float32" else 1
    for part in files.parts:
        log.info("%s: %d tensors in %s (%s layout)", part.name, len(part.names), part.path, part.layout)
    log.info("about %s to write to %s", in_words(needed), settings.output_dir)
    check_space(settings.output_dir, needed, "the model")
    if settings.dry_run:
        return 0
    write_diffusers(files, settings.output_dir, settings.dtype)
    check_same_tensors(files, ModelFiles.find(settings.output_dir), settings.dtype)
    log.info("%s: written, and every tensor is the same", settings.output_dir)
    return 0


if __name__ == "__main__":
    run_entry_point(main)
