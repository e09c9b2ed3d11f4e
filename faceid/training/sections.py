"""The sections of train.py's settings, in the order in which `run_training` takes them. Without heavy imports."""

from __future__ import annotations

from faceid.data.clip_settings import CaptionSettings, ClipSettings, PairingSettings
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter_settings import AdapterSettings
from faceid.training.training_settings import InputSettings, TrainingSettings

SECTIONS = (
    InputSettings,
    TrainingSettings,
    AdapterSettings,
    PairingSettings,
    ClipSettings,
    CaptionSettings,
    FaceSettings,
)
