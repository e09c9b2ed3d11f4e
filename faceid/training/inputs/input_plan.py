"""Hold the settings that decide a run's inputs, with the folder or file for every name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from faceid.data.clip_settings import CaptionSettings, ClipSettings
from faceid.data.photo_settings import PhotoSettings
from faceid.errors import ModelError
from faceid.faces.identity_settings import FaceSettings
from faceid.files.given_paths import why_no_file
from faceid.models.adapter.adapter_file import AdapterMetadata, read_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.model_files import ModelFiles
from faceid.models.lora.lora_formats import lora_file
from faceid.toy.shipped import resolve_adapter_path, resolve_encoder_path, resolve_model_path
from faceid.training.inputs.input_settings import InputSettings

# The flags' names, for messages.
INIT_ADAPTER, INIT_LORA, TARGET_DESCRIPTION = "init_adapter", "init_lora", "target_description"


@dataclass(frozen=True)
class InputPlan:
    """The source of the inputs, from the command line's sections.

    faces: with the folder of an encoder that was named. base_path: the model folder. init_adapter, init_lora: the file
    with which the run begins, if any.
    """

    inputs: InputSettings
    adapter: AdapterSettings
    clips: ClipSettings
    captions: CaptionSettings
    faces: FaceSettings
    base_path: Path
    init_adapter: Path | None = None
    init_lora: Path | None = None
    photos: PhotoSettings = field(default_factory=PhotoSettings)
    has_references: bool = False
    """Whether samples get reference frames, which then have to be there."""

    @classmethod
    def of(
        cls,
        inputs: InputSettings,
        adapter: AdapterSettings,
        clips: ClipSettings,
        captions: CaptionSettings,
        faces: FaceSettings,
        photos: PhotoSettings,
        has_references: bool = False,
    ) -> InputPlan:
        """Find every name's folder or file. Raises: FaceidError for a name that stands for nothing."""
        base_path = resolve_model_path(inputs.model_path)
        faces = replace(faces, encoder_path=resolve_encoder_path(faces.encoder_path))
        init_adapter = resolve_adapter_path(inputs.init_adapter, INIT_ADAPTER)
        init_lora = lora_file(Path(inputs.init_lora)) if inputs.init_lora is not None else None
        return cls(
            inputs,
            adapter,
            clips,
            captions,
            faces,
            base_path,
            Path(init_adapter) if init_adapter is not None else None,
            init_lora,
            photos,
            has_references,
        )

    @property
    def target_description(self) -> Path | None:
        """What the target's words begin as. Raises: ModelError where there is no such file."""
        given = self.inputs.target_description
        if given is not None and (reason := why_no_file(given)) is not None:
            raise ModelError(f"{TARGET_DESCRIPTION}={given}: {reason}")
        return None if given is None else Path(given)

    @property
    def base_name(self) -> str:
        """The base as the user named it."""
        return self.inputs.model_path

    @cached_property
    def base(self) -> ModelFiles:
        """The base on disk. Raises: ModelError when it is incomplete."""
        found = ModelFiles.find(self.base_path, self.inputs.vae_path, self.inputs.text_encoder_path)
        return found.of_expert(self.inputs.expert)

    @cached_property
    def init_metadata(self) -> AdapterMetadata | None:
        """The description of the initial adapter. Raises: ModelError when it cannot be read."""
        return read_adapter(self.init_adapter, INIT_ADAPTER)[1] if self.init_adapter is not None else None

    def cache(self) -> Path:
        """Where prepared inputs are kept."""
        return Path(self.inputs.output_dir) / "cache"
