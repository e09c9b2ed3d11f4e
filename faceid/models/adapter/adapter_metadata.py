"""Describe what an adapter was made for and with.

The description is bounded, and holds no places on a machine. A file may come from anybody, and its description decides
how much memory is allocated. So the description is compared with the shapes of the tensors before anything is allocated
(`faceid.models.adapter.adapter_shapes`).
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from faceid.errors import ModelError
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.local_places import place_of, published_name
from faceid.models.base.model_files import ExpertName

FORMAT = "faceid-adapter-1"
# Stands before the names of the low-noise transformer's tensors in a file for both transformers.
LOW_NOISE = "low_noise."
MOST_BYTES = 1 << 20
"""Limit for the description as JSON. A real one has about one thousand bytes."""

# One line of text, because it appears in messages, model cards and file names.
_Line = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Digest = Annotated[str, Field(max_length=128, pattern=r"^[\w.-]*$")]
_Pixels = Annotated[int, Field(ge=0, le=65536)]


@dataclass(frozen=True)
class AdapterMetadata:
    """What an adapter was made for and with."""

    base_name: _Line
    """The base. A file holds its name alone. In memory it is where the base lies on this machine, if that is known.
    `--model_path` defaults to it."""
    base_fingerprint: _Digest
    """The fingerprint of `ModelFiles`."""
    face_embedding_dim: Annotated[int, Field(gt=0, le=65536)]
    encoder: _Line
    encoder_fingerprint: _Digest
    settings: AdapterSettings
    encoder_path: _Line | None = None
    """The encoder, named as `base_name` names the base. Sampling from photos defaults to it."""
    step: Annotated[int, Field(ge=0, le=10**12)] = 0
    height: _Pixels = 0
    width: _Pixels = 0
    num_frames: Annotated[int, Field(ge=0, le=10**6)] = 0
    fps: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Size and rate of the training clips. Sampling takes them as its default."""
    expert: ExpertName | Literal["both"] | None = None
    """For a base with two transformers: the one the adapter is for. both: a file of tools/join_experts.py."""
    target_name: _Line = ""
    """Whose own tokens or words it holds (`target_tokens`, `target_words`): the name of the identity that it was
    trained on. Else empty."""
    target_sha256: _Digest = ""
    """Names that identity by its embedding (`Identity.sha256`). Empty in older files, and where `target_name` is."""
    reference_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the samples that it was trained on with a reference frame. Rendering then shows it one, too."""
    dataset_sha256: _Digest = ""
    """Names the clips by the index of their latents. Empty in older files, which did not record it."""

    def published(self) -> dict[str, Any]:
        """The description for a file, in plain types: base and encoder by their names, without their places."""
        path = self.encoder_path if self.encoder_path is None else published_name(self.encoder_path, is_base=False)
        return {"format": FORMAT, **asdict(replace(self, base_name=published_name(self.base_name), encoder_path=path))}


def parse_metadata(path: Path, described: Any, key: str) -> AdapterMetadata:
    """Read the description in an adapter file. key: the flag that gave the file.

    Raises: ModelError naming a key that is missing, unknown or has an impossible value.
    """
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        found = described.get("format") if isinstance(described, dict) else type(described).__name__
        raise ModelError(f"{key}={path}: format {_short(found)}, this version reads {FORMAT!r}")
    values = _known({name: value for name, value in described.items() if name != "format"}, AdapterMetadata, path, key)
    if isinstance(values.get("settings"), dict):
        values["settings"] = _known(values["settings"], AdapterSettings, path, key)
    try:
        metadata = _reader().validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ModelError(
                f"{key}={path}: metadata {name}: missing; take the file as its training run wrote it"
            ) from error
        raise ModelError(f"{key}={path}: metadata {name}={_short(first['input'])}: {first['msg']}") from error
    place = metadata.encoder_path and place_of(metadata.encoder_path, path, "encoder_path")
    return replace(metadata, base_name=place_of(metadata.base_name, path, "model_path"), encoder_path=place)


@functools.cache
def _reader() -> TypeAdapter[AdapterMetadata]:
    return TypeAdapter(AdapterMetadata)


def _known(values: dict[str, Any], kind: type, path: Path, key: str) -> dict[str, Any]:
    """Drop keys of a later version that are off (null, false, 0, empty), since they had no effect on the adapter.

    Raises: ModelError naming an unknown key that is not off.
    """
    names = [field.name for field in fields(kind)]
    for name, value in values.items():
        if name not in names and value:
            near = difflib.get_close_matches(str(name)[:100], names, n=1, cutoff=0.5)
            hint = f"did it mean {near[0]}?" if near else "it is of a later version of faceid, or not of faceid"
            raise ModelError(f"{key}={path}: metadata {_short(name)}={_short(value)}: unknown key; {hint}")
    return {name: value for name, value in values.items() if name in names}


def _short(value: Any) -> str:
    # repr keeps line breaks out, so that the message stays on one line.
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
