"""Encode clip shards to latent shards: VAE latents, head masks and text embeddings, one shard at a time."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.data.clip_settings import CaptionSettings
from faceid.data.clips.captions import captions_for, say_captions
from faceid.data.disk_space import check_space, in_words
from faceid.data.latents.view_settings import ViewSettings
from faceid.data.shards.index import ShardIndex
from faceid.errors import ConfigError, DataError, run_entry_point
from faceid.limits import AtOnce
from faceid.logs import set_up_logging

log = logging.getLogger("faceid.tools.encode_latents")


@dataclass(frozen=True)
class EncodeSettings:
    """What to encode, with which base, and where."""

    shards: Path
    """Folder of clip shards, from tools/make_shards.py."""
    model_path: str
    """Wan2.1-VACE folder, in the diffusers layout or that of the Wan repositories. `toy`: the embedded one."""
    output_dir: Path
    """Folder for the latent shards. Run again to continue at the first missing shard."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder: a diffusers folder of it, or Wan2.1_VAE.pth."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder: a folder of it, or models_t5_umt5-xxl-enc-bf16.pth."""
    batch_size: AtOnce = 1
    """Views of clips per VAE call."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the text encoder. The VAE always runs in float32."""
    device: str = "auto"
    """auto: a GPU (of several the one of this process), or the CPU. Or cpu, cuda, cuda:1."""
    dry_run: bool = False
    """Say what would be encoded and stop."""


def main(argv: list[str] | None = None) -> int:
    """Parse, check, load, encode."""
    words = sys.argv[1:] if argv is None else argv
    sections = [EncodeSettings, ViewSettings, CaptionSettings]
    tool, views, captions = parse_sections("tools/encode_latents.py", __doc__ or "", sections, words)
    set_up_logging()
    index = ShardIndex.load(tool.shards, "clips")

    # Importing these takes seconds, so it comes after the cheap checks.
    import torch

    from faceid.data.latents.latent_shards import (
        bytes_left,
        check_latents_folder,
        encoded_size,
        latents_are_current,
        write_latent_shards,
    )
    from faceid.device import pick_device
    from faceid.models.base.model_files import ModelFiles
    from faceid.models.base.wan import load_wan
    from faceid.toy.shipped import resolve_model_path

    device = pick_device(tool.device)
    files = ModelFiles.find(resolve_model_path(tool.model_path), tool.vae_path, tool.text_encoder_path)
    geometry = files.geometry
    size_hw = encoded_size(index, views)
    try:
        shape = geometry.latent_shape(index.header["settings"]["num_frames"], *size_hw)
    except ConfigError as error:
        raise DataError(f"shards={tool.shards}: {error}: make the shards again with it") from error
    prompts = captions_for(index, captions)
    _say_captions(index, captions)
    made_of = (tool.shards, tool.output_dir, files.latents_fingerprint, prompts, views)
    if latents_are_current(*made_of):
        log.info("%s: complete for these clips and this base; nothing to do", tool.output_dir)
        return 0
    check_latents_folder(*made_of)
    needed = bytes_left(index, tool.output_dir, geometry, views)
    log.info(
        "%d clips in %d shards to latents %s, %d entries of each at most; about %s to write",
        len(index),
        len(index.shards),
        list(shape),
        views.per_clip,
        in_words(needed),
    )
    check_space(tool.output_dir, needed, "the latents")
    if tool.dry_run:
        return 0
    wan = load_wan(files, ("vae", "text"), device, getattr(torch, tool.dtype), name=tool.model_path)
    write_latent_shards(tool.shards, tool.output_dir, wan, prompts, tool.batch_size, views)
    return 0


def _say_captions(index: ShardIndex, captions: CaptionSettings) -> None:
    if captions.caption_files == "read":
        say_captions(len(index.captions), len(index), "clips")
    elif index.captions:
        log.warning("%d clips' captions are not used: --caption_files ignore", len(index.captions))


if __name__ == "__main__":
    run_entry_point(main)
