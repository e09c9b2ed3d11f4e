"""Decode latents of a folder to frames for people to look at, by the VAE of their base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from faceid.data.clips.contact_sheet import Decode
from faceid.data.shards.index import ShardIndex
from faceid.device import pick_device
from faceid.errors import ConfigError
from faceid.models.base.latent_codec import decode_latents, to_frames
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import load_wan


def latent_decoder(index: ShardIndex, base: Path, named: str, device: str) -> Decode:
    """Make the decoder for latents of `index`. base: the folder of their base. named: how the user named it.

    Raises: ConfigError when the latents belong to another base.
    """
    files = ModelFiles.find(base)
    if index.header["base"]["fingerprint"] != files.latents_fingerprint:
        raise ConfigError(f"model_path={named}: these latents are of {index.header['base']['name']}; name that base")
    wan = load_wan(files, ("vae",), pick_device(device))

    def decode(latents: Tensor) -> np.ndarray:
        return to_frames(decode_latents(wan.vae, wan.statistics.normalise(latents.float().unsqueeze(0))))

    return decode
