"""Models that take the same training step: ours, a plain diffusers and peft loop, DiffSynth-Studio's modules.

From the same weights, with a LoRA of the same rank on the same layers. Ours has the face mapper and the face attention
besides, whose values begin at zero.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import types
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from data_speed import MissingError
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch.nn.functional import mse_loss

from faceid.models.adapter.face_adapter import install_adapter, lora_targets
from faceid.models.adapter.face_tokens import face_input
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.original_names import layer_name, original_transformer_name
from faceid.models.compute.execution import set_gradient_checkpointing
from faceid.models.costs.sizes import transformer_of

# Without what it asks for: torchvision, and with it another torch with CUDA. Its modules need einops alone.
DIFFSYNTH = "diffsynth==2.1.12"
# As the documentation of peft and diffusers names the layers: by suffix, which hits the VACE blocks as well.
SUFFIXES = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass(frozen=True)
class Sizes:
    """Of a model and what it is given."""

    config: dict[str, Any]
    settings: AdapterSettings
    latent: tuple[int, int, int]
    text_tokens: int
    face_dim: int

    @property
    def tokens(self) -> int:
        """That the transformer sees."""
        return self.latent[0] * self.latent[1] * self.latent[2] // 4


@dataclass(frozen=True)
class Model:
    """One way to take a step. modules: all that has weights. lora: its LoRA's weights by diffusers' names."""

    sizes: Sizes
    modules: list[Any]
    forward: Callable[..., Tensor]
    trained: list[Tensor]
    lora: dict[str, Tensor]

    def output(self, x_t: Tensor, normal: Callable[..., Tensor]) -> Tensor:
        """Of everything else it needs, drawn by `normal`."""
        sizes = self.sizes
        control = normal(1, sizes.config["vace_in_channels"], *sizes.latent)
        text, face = normal(1, sizes.text_tokens, sizes.config["text_dim"]), normal(1, sizes.face_dim)
        return self.forward(x_t, torch.tensor([500.0]), text, control, face)

    def loss(self) -> Tensor:
        """Of the same noise each time; the gradients are there afterwards."""
        normal = partial(torch.randn, generator=torch.Generator().manual_seed(1))
        x_t, target = (normal(1, 16, *self.sizes.latent) for _ in range(2))
        loss = mse_loss(self.output(x_t, normal), target)
        loss.backward()
        return loss.detach()


def ours(sizes: Sizes, mode: Any) -> Model:
    """The product's adapter on diffusers' transformer."""
    transformer = _base(sizes)
    adapter = install_adapter(transformer, sizes.settings, sizes.face_dim)
    set_gradient_checkpointing(transformer, mode)

    def forward(x_t: Tensor, timestep: Tensor, text: Tensor, control: Tensor, face: Tensor) -> Tensor:
        return transformer(x_t, timestep, text, face_input(face), control, return_dict=False)[0]

    return Model(sizes, [transformer], forward, list(adapter.parameters().values()), _fill_lora(transformer))


def plain(sizes: Sizes, is_checkpointed: bool, targets: str | list[str] | None = None) -> Model:
    """As users write it. targets: other layers than ours."""
    transformer, rank = _base(sizes), sizes.settings.lora_rank
    lora_config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets or lora_targets(sizes.settings))
    transformer.add_adapter(lora_config)
    if is_checkpointed:
        transformer.enable_gradient_checkpointing()

    def forward(x_t: Tensor, timestep: Tensor, text: Tensor, control: Tensor, face: Tensor) -> Tensor:
        return transformer(x_t, timestep, text, control_hidden_states=control, return_dict=False)[0]

    lora = _fill_lora(transformer)
    return Model(sizes, [transformer], forward, list(lora.values()), lora)


def diffsynth(sizes: Sizes, is_checkpointed: bool) -> Model:
    """As its model_fn_wan_video runs both modules for a control video."""
    dit_file, vace_file = (importlib.import_module(f"diffsynth.models.wan_video_{name}") for name in ("dit", "vace"))
    run = importlib.import_module("diffsynth.core.gradient").gradient_checkpoint_forward
    config = sizes.config
    width = config["num_attention_heads"] * config["attention_head_dim"]
    shared = {"has_image_input": False, "dim": width, "num_heads": config["num_attention_heads"]}
    shared |= {"ffn_dim": config["ffn_dim"], "eps": 1e-6, "patch_size": (1, 2, 2)}
    outer = {"in_dim": 16, "out_dim": 16, "text_dim": config["text_dim"], "freq_dim": config["freq_dim"]}
    state = {original_transformer_name(name): tensor for name, tensor in _base(sizes).state_dict().items()}
    of_vace = {name: state.pop(name) for name in list(state) if name.startswith("vace_")}
    dit = dit_file.WanModel(**shared, **outer, num_layers=config["num_layers"])
    vace = vace_file.VaceWanModel(tuple(config["vace_layers"]), config["vace_in_channels"], **shared)
    rank = sizes.settings.lora_rank
    lora_config = LoraConfig(r=rank, lora_alpha=rank, target_modules=r"(vace_)?blocks\.\d+\.(self|cross)_attn\.[qkvo]")
    branches = {"base": [dit], "vace": [vace], "both": [dit, vace]}[sizes.settings.lora_branch]
    for module, weights in ((dit, state), (vace, of_vace)):
        module.load_state_dict(weights, assign=True)
        module.requires_grad_(False).train()
        if module in branches:
            inject_adapter_in_model(lora_config, module)
    lora = {name: weight for module in branches for name, weight in _fill_lora(module, layer_name).items()}

    def forward(x_t: Tensor, timestep: Tensor, text: Tensor, control: Tensor, face: Tensor) -> Tensor:
        time = dit.time_embedding(dit_file.sinusoidal_embedding_1d(dit.freq_dim, timestep))
        modulation = dit.time_projection(time).unflatten(1, (6, dit.dim))
        context = dit.text_embedding(text)
        x = dit.patchify(x_t)
        f, h, w = x.shape[2:]
        x = x.flatten(2).transpose(1, 2).contiguous()
        # Of each axis, spread over the other two.
        axes = zip(dit.freqs, ((f, 1, 1), (1, h, 1), (1, 1, w)), (f, h, w), strict=True)
        freqs = torch.cat([table[:n].view(*shape, -1).expand(f, h, w, -1) for table, shape, n in axes], dim=-1)
        freqs = freqs.reshape(f * h * w, 1, -1)
        hints = vace(x, control, context, modulation, freqs, use_gradient_checkpointing=is_checkpointed)
        for number, block in enumerate(dit.blocks):
            x = run(block, is_checkpointed, False, x, context, modulation, freqs)
            if number in vace.vace_layers_mapping:
                x = x + hints[vace.vace_layers_mapping[number]]
        return dit.unpatchify(dit.head(x, time), (f, h, w))

    return Model(sizes, [dit, vace], forward, list(lora.values()), lora)


def _base(sizes: Sizes) -> Any:
    """The same frozen weights each time, none of them zero."""
    torch.manual_seed(0)
    transformer = transformer_of(sizes.config)
    for parameter in transformer.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return transformer.requires_grad_(False).train()


def _fill_lora(model: Any, rename: Callable[[str], str | None] = str) -> dict[str, Tensor]:
    """Give each LoRA weight values by its name, none zero: the weights by diffusers' names. rename: a layer to it."""
    found = {}
    for name, parameter in model.named_parameters():
        layer, _, half = name.partition(".lora_")
        # The mapper's own LoRA is no part of what is compared.
        if not half or "image_embedder" in layer:
            continue
        key = f"{rename(layer)}.lora_{half[0]}"
        if not parameter.is_meta:
            generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
        found[key] = parameter
    return found


def install_diffsynth(folder: Path) -> None:
    """Its modules, importable without its package's own imports. Raises: MissingError with pip's last words."""
    package = folder / "diffsynth"
    if not package.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), DIFFSYNTH]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingError(f"pip cannot install {DIFFSYNTH}: {done.stderr.strip()[-200:]}")
    if importlib.util.find_spec("einops") is None:
        raise MissingError(f"{DIFFSYNTH} needs einops, which is not installed")
    # The packages' own __init__ import torchvision, modelscope and more.
    for name in ("diffsynth", "diffsynth.core", "diffsynth.models"):
        module = types.ModuleType(name)
        module.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = module
    # Here, not where a fork would pay for it.
    for name in ("core.gradient", "models.wan_video_dit", "models.wan_video_vace"):
        importlib.import_module(f"diffsynth.{name}")
