"""Export the LoRA of a face adapter, or any Wan LoRA, for other tools; or the whole adapter for the Hugging Face hub.

Other tools load the LoRA alone. The face mapper and the face attention, which make it the face of given photos, need
faceid. `--lora_format hub` writes them all as a folder, with a model card.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from faceid.config import Reason, parse_sections, warn_of_unused
from faceid.errors import ConfigError, run_entry_point
from faceid.files.outputs import HUB_FOLDER, refuse_existing, refuse_file, refuse_replacing
from faceid.logs import set_up_logging
from faceid.models.wan_vace.tensor_names import is_of_hint_block

log = logging.getLogger("faceid.tools.export_lora")

# What is known of the loaders (facts in docs/adapters.md). A message tells it where it makes a difference.
WITHOUT_VACE = {
    "diffsynth": "DiffSynth-Studio adds them when the file is loaded onto pipe.vace, the others onto pipe.dit",
    "kohya": "musubi-tuner has no VACE branch and ignores them; ComfyUI takes them",
}


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, as what, and where to."""

    output: Path
    """File to write (.safetensors). A folder for hub, merged and merged_original."""
    lora_format: Literal["diffusers", "comfyui", "diffsynth", "kohya", "merged", "merged_original", "hub"]
    """Whose names are used. merged, merged_original: the base's transformer with the LoRA in it, in the layout of
    diffusers or of the Wan repositories. hub: the whole face adapter with a model card."""
    face_lora_path: str | None = None
    """Adapter: a face_lora_* file, a folder that hub wrote, its hub id, or toy."""
    lora: Path | None = None
    """Instead: a LoRA file of another tool, in any of the formats, or a folder that peft saved."""
    model_path: str | None = None
    """merged: the base. Default: the one named in the adapter."""
    dtype: Literal["file", "bfloat16", "float32"] = "file"
    """merged: precision of the written weights. file: that of the base's weights."""
    expert: Literal["high", "low"] | None = None
    """For an adapter of both transformers of a Wan2.2 base, or a LoRA for one of them: which one."""
    allow_partial: bool = False
    """Take the part of a LoRA that fits, when it has more layers than the base, such as one of an I2V model. A message
    tells what is left out. Without it such a file is refused."""
    name: str = "Face adapter"
    """hub: heading of the model card."""

    def __post_init__(self) -> None:
        if (self.face_lora_path is None) == (self.lora is None):
            raise ConfigError("face_lora_path: give either an adapter, or --lora for a LoRA of another tool")
        if self.lora_format == "hub" and self.lora is not None:
            raise ConfigError("lora: has no face mapper, so there is no face adapter to write as lora_format=hub")
        if self.output.exists() and self.output.is_dir() != self.is_folder:
            what = "a folder" if self.is_folder else "a file"
            raise ConfigError(f"output={self.output}: exists, and is not {what}, which {self.lora_format} writes")
        if not self.is_folder and self.output.suffix != ".safetensors":
            raise ConfigError(f"output={self.output}: must end with .safetensors, the format that every tool reads")

    @property
    def is_folder(self) -> bool:
        """Whether a folder is written."""
        return self.lora_format in ("merged", "merged_original", "hub")


def main(argv: list[str] | None = None) -> int:
    """Parse, read, write."""
    words = sys.argv[1:] if argv is None else argv
    settings: ExportSettings
    (settings,) = parse_sections("tools/export_lora.py", __doc__ or "", [ExportSettings], words)
    set_up_logging()
    warn_of_unused([settings], _unused(settings))
    _refuse_output(settings)

    # Importing these takes seconds, so it comes after the cheap checks.
    from faceid.models.adapter.adapter_file import base_of
    from faceid.models.adapter.adapter_folder import write_adapter_folder
    from faceid.models.lora.lora_formats import read_lora_file
    from faceid.models.lora.lora_writing import write_lora
    from faceid.toy.shipped import resolve_adapter_path

    adapter = Path(resolve_adapter_path(settings.face_lora_path) or "")
    if settings.lora_format == "hub":
        write_adapter_folder(adapter, settings.output, settings.name)
        log.info("%s: the whole adapter", settings.output)
        return 0
    metadata = None
    if settings.face_lora_path is not None:
        lora, metadata, expert = _lora_of(adapter, settings.expert)
    else:
        lora = read_lora_file(settings.lora or Path()).without_outside(settings.allow_partial)
        expert = settings.expert
    if settings.is_folder:
        name = settings.model_path or (base_of(adapter, metadata) if metadata is not None else "")
        _write_merged(settings, lora, name, expert)
    else:
        write_lora(settings.output, lora.lora, settings.lora_format, lora.diffs)  # type: ignore[arg-type]  # no folder
        _say_what_is_not_loaded(settings, lora.lora)
    whole = f", and {len(lora.diffs)} parameters changed whole" if lora.diffs else ""
    log.info("%s: %d layers as %s%s", settings.output, len(lora.lora), settings.lora_format, whole)
    return 0


def _unused(settings: ExportSettings) -> Iterator[Reason]:
    kind = f"with --lora_format {settings.lora_format}"
    if settings.lora_format not in ("merged", "merged_original"):
        yield "dtype", f"{kind}, which is written as it was read"
        yield "model_path", f"{kind}, which takes no base"
        if settings.lora is None:
            yield "allow_partial", f"{kind} of an adapter, which is taken whole"
        else:
            yield "expert", f"{kind}: only what is merged has a base"
    if settings.lora_format == "hub":
        yield "expert", f"{kind}, the whole adapter"
    else:
        yield "name", f"{kind}, which has no model card"


def _lora_of(adapter: Path, wanted: Any) -> tuple[Any, Any, Any]:
    """The LoRA in an adapter file, the file's description, and which of two transformers it is for."""
    from faceid.models.adapter.adapter_file import expert_tensors, read_adapter
    from faceid.models.lora.lora_formats import LoraFile, lora_of_adapter

    tensors, metadata = read_adapter(adapter)
    expert = metadata.expert if metadata.expert != "both" else wanted
    if metadata.expert == "both":
        if wanted is None:
            raise ConfigError(f"expert: missing; {adapter} is for two transformers: give --expert high or low")
        tensors = expert_tensors(tensors, wanted)
    elif wanted not in (None, metadata.expert):
        raise ConfigError(f"expert={wanted}: {adapter} is for {metadata.expert or 'a base with one transformer'}")
    found = LoraFile(f"face_lora_path={adapter}", lora_of_adapter(tensors, metadata.settings.alpha))
    return found, metadata, expert


def _refuse_output(settings: ExportSettings) -> None:
    """Check the output before anything is read. Raises: DataError."""
    if settings.lora_format == "hub":
        refuse_replacing(settings.output, HUB_FOLDER, "output")
    elif settings.is_folder:
        refuse_existing(settings.output, "output")
    else:
        given = (settings.face_lora_path, settings.lora)
        refuse_file(settings.output, [Path(path) for path in given if path is not None])


def _write_merged(settings: ExportSettings, lora: Any, name: str, expert: Any) -> None:
    from faceid.models.base.model_files import ModelFiles
    from faceid.models.lora.export import write_merged
    from faceid.toy.shipped import resolve_model_path

    if not name:
        raise ConfigError("model_path: missing; name the base that the LoRA is merged into")
    layout = "original" if settings.lora_format == "merged_original" else "diffusers"
    files = ModelFiles.find(resolve_model_path(name)).of_expert(expert)
    write_merged(lora, files, settings.output, layout, settings.dtype, settings.allow_partial)


def _say_what_is_not_loaded(settings: ExportSettings, lora: dict[str, Any]) -> None:
    in_vace = sum(is_of_hint_block(layer) for layer in lora)
    if in_vace and settings.lora_format in WITHOUT_VACE:
        log.warning("%d of %d layers are of VACE blocks: %s", in_vace, len(lora), WITHOUT_VACE[settings.lora_format])
    if settings.face_lora_path is not None:
        log.info("only the LoRA is in it: mapper, face attention and a person's own words need --lora_format hub")


if __name__ == "__main__":
    run_entry_point(main)
