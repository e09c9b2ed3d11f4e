"""Write a base folder with seeded random weights: the real classes at any size, in the real layout.

The toy base starts from it. Tests and benchmarks use it for models of true size that nobody needs to download.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, WanResidualBlock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from faceid.models.wan_vace.transformer import PIPELINE, TRANSFORMER

# Their ids are 0, 1 and 2, as T5's.
SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")


def initialise_base(folder: Path, configs: dict[str, dict[str, Any]], seed: int) -> None:
    """Write transformer, vae, text_encoder, tokenizer and scheduler of `configs` under `folder`.
    configs: keyword arguments for each part. `tokenizer` takes ByT5Tokenizer's, since a byte tokenizer needs no
    vocabulary file. The weights are a pure function of configs and seed.
    """
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = TRANSFORMER(**configs["transformer"])
        vae = AutoencoderKLWan(**configs["vae"])
        text_encoder = UMT5EncoderModel(UMT5Config(**configs["text_encoder"]))
    pipeline = PIPELINE(
        tokenizer=ByT5Tokenizer(**configs["tokenizer"]),
        text_encoder=text_encoder.eval(),
        vae=vae.eval(),
        scheduler=UniPCMultistepScheduler(**configs["scheduler"]),
        transformer=transformer.eval(),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def train_tokenizer(texts: Iterable[str], vocabulary: int, length: int) -> PreTrainedTokenizerFast:
    """A tokenizer of byte-level BPE, which knows every word there is. length: the most tokens of a prompt."""
    pad, end, unknown = SPECIAL_TOKENS
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # As T5's: the end token alone is added.
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
        model_max_length=length,
        padding_side="right",
    )


@torch.no_grad()
def initialise_vae_as_low_pass(vae: AutoencoderKLWan, seed: int) -> None:
    """Make a new VAE begin as a plain low-pass filter.

    Residual branches give zero, resampling averages and repeats, and the other convolutions pass channels on.

    From diffusers' own initial weights the same training is stuck at 17 to 19 dB for hundreds of steps. From these
    weights it passes 21 dB within 250 (docs/decisions/likeness.md).
    """
    noise = torch.Generator().manual_seed(seed)
    ends = (vae.encoder.conv_in, vae.encoder.conv_out, vae.quant_conv)
    for conv in (*ends, vae.post_quant_conv, vae.decoder.conv_in, vae.decoder.conv_out):
        _pass_on(conv, noise)
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            torch.nn.init.zeros_(module.conv2.weight)
            torch.nn.init.zeros_(module.conv2.bias)
        elif isinstance(module, WanResample) and module.mode != "none":
            _resample_plainly(module, noise)


def _pass_on(conv: torch.nn.Module, noise: torch.Generator) -> None:
    """Each output channel is the input channel of its number, as far as there are both; a little noise besides."""
    weight: Tensor = conv.weight  # type: ignore[assignment]
    weight.copy_(0.02 * torch.randn(weight.shape, generator=noise))
    middle = (weight.shape[2] - 1, weight.shape[3] // 2, weight.shape[4] // 2)
    for channel in range(min(weight.shape[:2])):
        weight[(channel, channel, *middle)] = 1.0
    torch.nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


def _resample_plainly(module: WanResample, noise: torch.Generator) -> None:
    is_down, conv = "down" in module.mode, module.resample[1]
    convs = [conv]
    conv.weight.zero_()
    for channel in range(min(conv.weight.shape[:2])):
        if is_down:
            conv.weight[channel, channel, :2, :2] = 0.25
        else:
            conv.weight[channel, channel, 1, 1] = 1.0
    if hasattr(module, "time_conv"):
        conv, dim = module.time_conv, module.dim
        convs.append(conv)
        conv.weight.zero_()
        for channel in range(dim):
            if is_down:
                conv.weight[channel, channel, 1:, 0, 0] = 0.5
            else:
                # One frame becomes two: channels 0 to dim, and dim to 2 dim.
                conv.weight[[channel, dim + channel], channel, -1, 0, 0] = 1.0
    for conv in convs:
        conv.bias.zero_()
        # Noise is added, because equal channels would stay equal.
        conv.weight.add_(0.02 * torch.randn(conv.weight.shape, generator=noise))
