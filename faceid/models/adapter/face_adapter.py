"""The whole adapter on a transformer: install it, switch it off, freeze its mapper, and list what it trains.

Mapper (`condition_embedder.image_embedder`), face attention (`blocks.N.attn2.face`), optional modulation and a peft
LoRA live on the transformer as submodules. So every launcher shards, checkpoints and saves them like the rest. With the
adapter off (face_scale 0) the stock processors run and the LoRA is bypassed. That is the base model, bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from faceid.errors import ConfigError
from faceid.models.adapter.face_attention import (
    FaceAttention,
    FaceAttnProcessor,
    FaceModulation,
    TextOnlyAttnProcessor,
    add_face_modulation,
)
from faceid.models.adapter.face_tokens import FaceConditioningBlock, FaceEmbedder, TokenRows
from faceid.models.adapter.target_words import TargetWords, add_target_words
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.compute.context_parallel import TokenShare
from faceid.models.compute.execution import replace_processor
from faceid.models.wan_vace.tensor_names import ANY_BLOCKS
from faceid.models.wan_vace.transformer import HINT_BLOCKS, all_blocks, hint_blocks

LORA_NAME = "face"
# What belongs to the target alone.
OF_TARGET = ("face_mapper.target_tokens", "target_words.vectors")
_BRANCHES = {"base": r"blocks", "vace": HINT_BLOCKS, "both": ANY_BLOCKS}
_ATTENTION = r"attn[12]\.(?:to_q|to_k|to_v|to_out\.0)"
_LAYERS = {"attention": _ATTENTION, "linear": rf"(?:{_ATTENTION}|ffn\.net\.0\.proj|ffn\.net\.2|proj_in|proj_out)"}
# Names of adapter parameters on the transformer, and their names in a file.
_FILE_NAMES = (
    (re.compile(r"^condition_embedder\.image_embedder\.mapper\."), "face_mapper."),
    (re.compile(r"^condition_embedder\.image_embedder\.target_words\."), "target_words."),
    (re.compile(r"^blocks\.(\d+)\.attn2\.face\."), r"face_attention.\1."),
    (re.compile(r"^blocks\.(\d+)\.face_modulation\."), r"face_modulation.\1."),
    (re.compile(rf"^(.*)\.(lora_[AB])\.{LORA_NAME}\.weight$"), r"transformer.\1.\2.weight"),
)


class FaceAdapter:
    """A handle on the adapter of one transformer. Made by `install_adapter`."""

    def __init__(self, transformer: Any, settings: AdapterSettings, face_embedding_dim: int, rows: TokenRows) -> None:
        self.transformer, self.settings = transformer, settings
        self.face_embedding_dim, self.rows = face_embedding_dim, rows
        self._is_on, self._num_faces = False, 1
        self._share: TokenShare | None = None
        self.switch(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Every adapter parameter by its name in an adapter file, in the transformer's order."""
        named = {}
        for name, parameter in self.transformer.named_parameters():
            in_file = file_name(name)
            if in_file is not None:
                named[in_file] = parameter
        return named

    def mapper_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that stage 2 freezes: the mapper without its LoRA and without what is the target's own."""
        of_lora = {id(parameter) for parameter in self.mapper.lora_parameters()}
        named = self.parameters().items()
        return {n: p for n, p in named if n.startswith("face_mapper.") and n not in OF_TARGET and id(p) not in of_lora}

    def target_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are the target's alone (`target_tokens`, `target_words`)."""
        return {name: parameter for name, parameter in self.parameters().items() if name in OF_TARGET}

    @property
    def mapper(self) -> FaceConditioningBlock:
        """The mapper module."""
        return self.transformer.condition_embedder.image_embedder.mapper

    def begin_words_with(self, tokens: Tensor) -> None:
        """Let the first of the target's words be tokens [n, D_text] of its description."""
        self.transformer.condition_embedder.image_embedder.target_words.begin_with(tokens)

    def freeze_mapper(self, frozen: bool = True) -> None:
        """Stop (or resume) gradients of the mapper. The null tokens are frozen with it."""
        for parameter in self.mapper_parameters().values():
            parameter.requires_grad_(not frozen)

    def switch(self, on: bool) -> None:
        """Turn the adapter on or off. Off: stock processors, LoRA bypassed, no face argument allowed."""
        if on == self._is_on:
            return
        for block in self.transformer.blocks:
            learns_text = self.settings.target_words > 0
            face = FaceAttnProcessor(self.rows, self._num_faces, self._share, learns_text) if on else WanAttnProcessor()
            replace_processor(block.attn2, face)
        for block in hint_blocks(self.transformer):
            text = TextOnlyAttnProcessor(self.rows, self._num_faces) if on else WanAttnProcessor()
            replace_processor(block.attn2, text)
        # peft's enable_adapters also decides what trains. That must not change here, so it is put back.
        trains = [(parameter, parameter.requires_grad) for parameter in self.parameters().values()]
        for layer in self.lora_layers():
            layer.enable_adapters(on)
        for parameter, requires_grad in trains:
            parameter.requires_grad_(requires_grad)
        self._is_on = on

    @contextmanager
    def off(self) -> Iterator[None]:
        """Run the base model inside the block, whatever the adapter holds."""
        was_on = self._is_on
        self.switch(False)
        try:
            yield
        finally:
            self.switch(was_on)

    def set_lora_strength(self, strength: float) -> None:
        """Scale the LoRA: 1 as trained, 0 none. Independent of the face tokens' own scale."""
        for layer in self.lora_layers():
            layer.set_scale(LORA_NAME, strength)

    def set_num_faces(self, count: int) -> None:
        """Give each of `count` latent frames a face, as rows [B, count, D + 1] of face input; 1: one for the video."""
        self._num_faces = count
        if self._is_on:
            for block in all_blocks(self.transformer):
                block.attn2.processor.num_faces = count

    def set_share(self, share: TokenShare) -> None:
        """Compute with a share of the tokens from now on (faceid.models.compute.context_parallel)."""
        self._share = share
        if self._is_on:
            for block in self.transformer.blocks:
                block.attn2.processor.share = share

    def set_block_strengths(self, strengths: Sequence[float]) -> None:
        """Scale each main block's face attention and modulation; 1 is as trained. Raises: ConfigError on a wrong count.

        A block without either (`face_attention_every`) takes a number without effect.
        """
        blocks = self.transformer.blocks
        if len(strengths) != len(blocks):
            raise ConfigError(f"face_block_scales: {len(strengths)} numbers; the base has {len(blocks)} main blocks")
        for block, strength in zip(blocks, strengths, strict=True):
            for module in (getattr(block.attn2, "face", None), getattr(block, "face_modulation", None)):
                if module is not None:
                    module.strength = float(strength)

    def lora_layers(self) -> list[LoraLayer]:
        """peft's layers, in the transformer's order."""
        return [module for module in self.transformer.modules() if isinstance(module, LoraLayer)]


def install_adapter(transformer: Any, settings: AdapterSettings, face_embedding_dim: int, seed: int = 0) -> FaceAdapter:
    """Put a new adapter on a loaded, frozen transformer. Only adapter parameters require gradients afterwards.

    The initial weights are float32, whatever the base is, and a pure function of sizes and seed. The LoRA's weights on
    a bf16 base are rounded to bf16.
    """
    inner_dim = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    rows = TokenRows(settings.num_tokens, settings.conditioning_dim, inner_dim)
    device = transformer.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mapper = FaceConditioningBlock(
            face_embedding_dim=face_embedding_dim,
            conditioning_dim=settings.conditioning_dim,
            hidden_dim=settings.mapper_hidden_dim,
            num_mapper_layers=settings.num_mapper_layers,
            num_tokens=settings.num_tokens,
            lora_rank=settings.lora_rank,
            dropout=settings.mapper_dropout,
            has_target_tokens=settings.target_tokens,
        )
        embedder = transformer.condition_embedder.image_embedder = FaceEmbedder(mapper, rows).to(device)
        if settings.target_words:
            embedder.target_words = TargetWords(settings.target_words, transformer.config.text_dim).to(device)
            transformer.condition_embedder.register_forward_pre_hook(add_target_words)
        for index, block in enumerate(transformer.blocks):
            if settings.has_face_attention(index):
                block.attn2.face = FaceAttention(settings.conditioning_dim, inner_dim).to(device)
            if settings.face_modulation:
                block.face_modulation = FaceModulation(rows).to(device)
                block.register_forward_pre_hook(add_face_modulation)
        lora = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.alpha,
            target_modules=lora_targets(settings),
            init_lora_weights="gaussian",
        )
        transformer.add_adapter(lora, adapter_name=LORA_NAME)
    adapter = FaceAdapter(transformer, settings, face_embedding_dim, rows)
    for layer in adapter.lora_layers():
        # peft would lift a bf16 input to the LoRA's float32, and autocast would bring it back. That adds half as much
        # memory traffic again. Under autocast the weights are brought to bf16 instead.
        layer.cast_input_dtype_enabled = False
    # add_adapter freezes everything but the LoRA, the face attention included. So what trains is set after it.
    transformer.requires_grad_(False)
    for parameter in adapter.parameters().values():
        # diffusers makes the LoRA in the base's dtype. In bf16, AdamW loses most steps of 1e-4 to rounding.
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return adapter


def lora_targets(settings: AdapterSettings) -> str:
    """The layers that get a LoRA, as a regular expression for their whole names."""
    return rf"{_BRANCHES[settings.lora_branch]}\.\d+\.{_LAYERS[settings.lora_layers]}"


def file_name(parameter_name: str) -> str | None:
    """The name of a transformer parameter in an adapter file; None for a base parameter."""
    for pattern, replacement in _FILE_NAMES:
        if pattern.match(parameter_name):
            return pattern.sub(replacement, parameter_name)
    return None


def adapter_tensors(adapter: FaceAdapter) -> dict[str, Tensor]:
    """Copies of every adapter tensor, float32 on the CPU, by file name."""
    return {name: p.detach().to("cpu", torch.float32).clone() for name, p in adapter.parameters().items()}
