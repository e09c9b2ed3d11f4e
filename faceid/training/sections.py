"""The sections of train.py's settings, in the order in which `run_training` takes them. Without heavy imports."""

from __future__ import annotations

from faceid.data.settings import CaptionSettings, ClipSettings, PairingSettings
from faceid.faces.settings import FaceSettings
from faceid.models.settings import AdapterSettings
from faceid.training.settings import InputSettings, TrainingSettings

SECTIONS = (
    InputSettings,
    TrainingSettings,
    AdapterSettings,
    PairingSettings,
    ClipSettings,
    CaptionSettings,
    FaceSettings,
)
