"""Prepare reference pictures as WanVACEPipeline takes them: fitted into the frame on white, each encoded alone."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from faceid.models.base.latent_codec import encode_pixels
from faceid.models.wan_vace.transformer import PIPELINE


@torch.no_grad()
def encode_reference(vae: Any, picture: Image.Image, height: int, width: int) -> Tensor:
    """A picture to the raw latent [1, C, 1, h, w] of a reference frame, on the VAE's device.

    The pipeline's own fitting keeps the aspect and centres the picture on white.
    """
    pipeline = PIPELINE(tokenizer=None, text_encoder=None, vae=vae, scheduler=None, transformer=None)
    _, _, ((fitted,),) = pipeline.preprocess_conditions(
        None, None, [picture], 1, height, width, 1, torch.float32, vae.device
    )
    return encode_pixels(vae, fitted[None, :, None])
