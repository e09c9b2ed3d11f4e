"""Write a base folder with seeded random weights: the real classes at any size, in the real layout.

The toy base starts from it, and tests and benchmarks use it for true-size models nobody needs to download.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel


def initialise_base(folder: Path, configs: dict[str, dict[str, Any]], seed: int) -> None:
    """Write transformer, vae, text_encoder, tokenizer and scheduler of `configs` under `folder`.

    configs: keyword arguments for each part; `tokenizer` takes ByT5Tokenizer's (a byte tokenizer needs no vocabulary
    file). The weights are a pure function of configs and seed.
    """
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanVACETransformer3DModel(**configs["transformer"])
        vae = AutoencoderKLWan(**configs["vae"])
        text_encoder = UMT5EncoderModel(UMT5Config(**configs["text_encoder"]))
    pipeline = WanVACEPipeline(
        tokenizer=ByT5Tokenizer(**configs["tokenizer"]),
        text_encoder=text_encoder.eval(),
        vae=vae.eval(),
        scheduler=UniPCMultistepScheduler(**configs["scheduler"]),
        transformer=transformer.eval(),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
