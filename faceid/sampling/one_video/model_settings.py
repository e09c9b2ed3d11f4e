"""Settings of the model files: the base, its parts and the adapter.

Field names are flag names.
"""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class ModelSettings:
    """The adapter and the base."""

    face_lora_path: str | None = None
    """The adapter: face_lora_*.safetensors or .pth, or toy. Without it the base renders, with no particular face."""
    model_path: str | None = None
    """Wan2.1-VACE folder, in either layout, or toy. Default: the base named in the adapter."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder: a diffusers folder of it, or Wan2.1_VAE.pth."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder: a folder of it, or models_t5_umt5-xxl-enc-bf16.pth."""
