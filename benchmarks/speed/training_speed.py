"""CPU seconds of a training step: what checkpointing keeps, and whether the VACE branch has a graph.

One process, one thread, equal sizes, the variants in turn (A B B A); minima over the rounds, as other work only adds.
The gradients are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from unittest.mock import patch

import torch

from benchmarks.costs import cpu_s_by_turns
from faceid.models.adapter import face_attention
from faceid.models.adapter.face_adapter import FaceAdapter, install_adapter
from faceid.models.adapter.face_tokens import TokenRows, face_input
from faceid.models.adapter_settings import AdapterSettings, GradientCheckpointing
from faceid.models.compute.execution import keep_input, set_gradient_checkpointing
from faceid.models.costs.sizes import transformer_of

# Small, and shaped as the real one where it matters: half as many VACE blocks as main ones, and so many tokens that
# self-attention takes the share of a block's time here that it has of the 1.3B's operations (two thirds at 65 frames).
CONFIG = {
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 64,
    "freq_dim": 64,
    "ffn_dim": 744,
    "num_layers": 6,
    "vace_layers": [0, 2, 4],
    "vace_in_channels": 96,
}
LATENT = (8, 64, 44)
EMBEDDING = 64


def compare_checkpointing(rounds: int) -> tuple[float, bool, str]:
    """CPU seconds with `full` by those with `attention`; whether gradients are equal to the bit; in words."""
    transformer, adapter = _model("base")

    def step(mode: GradientCheckpointing) -> Callable[[], None]:
        def run() -> None:
            set_gradient_checkpointing(transformer, mode)
            _step(transformer)

        return run

    full, attention = step("full"), step("attention")
    equal = _equal(_gradients(adapter, full), _gradients(adapter, attention))
    times = cpu_s_by_turns({"full": full, "attention": attention}, rounds)
    full_s, attention_s = min(times["full"]), min(times["attention"])
    ratio = full_s / attention_s
    return ratio, equal, f"{full_s:.3f} / {attention_s:.3f} CPU s a step of {_tokens()} tokens: {ratio:.2f} times"


@dataclass(frozen=True)
class VaceGraph:
    """What a graph over the VACE branch costs, by CPU seconds of a step without; all blocks checkpointed `full`."""

    lora_on_both: float
    """With the LoRA on both branches, as a user would choose it: the graph and the LoRA's own work."""
    graph_alone: float
    """With the LoRA on the base branch, as without: what peers pay whose face tokens reach the VACE blocks."""
    same_gradients: bool
    """Of graph_alone and without, to the bit."""
    words: str


def compare_vace_graph(rounds: int) -> VaceGraph:
    """Three models of the same weights, each taking the same step."""
    (plain, own), (graph, other), (both, _) = (_model(branch) for branch in ("base", "base", "both"))
    for transformer in (plain, graph, both):
        set_gradient_checkpointing(transformer, "full")
    # `full` leaves VACE blocks without a graph alone; with one they are checkpointed, as all others are.
    graph.enable_gradient_checkpointing(keep_input)

    def split(states: torch.Tensor, rows: TokenRows, num_faces: int) -> tuple[torch.Tensor, torch.Tensor]:
        # A slice of the text that is not cut off from the face's graph: all VACE blocks get one.
        return states[:, : rows.num_rows], states[:, rows.num_rows :]

    def step_with_graph() -> None:
        with patch.object(face_attention, "split_rows", split):
            _step(graph)

    def step() -> None:
        _step(plain)

    equal = _equal(_gradients(own, step), _gradients(other, step_with_graph))
    ways = {"without": step, "graph": step_with_graph, "both": lambda: _step(both)}
    seconds = {name: min(times) for name, times in cpu_s_by_turns(ways, rounds).items()}
    alone, on_both = (seconds[name] / seconds["without"] for name in ("graph", "both"))
    words = (
        f"LoRA on both branches {seconds['both']:.3f}, a graph alone {seconds['graph']:.3f}, without "
        f"{seconds['without']:.3f} CPU s a step of {_tokens()} tokens: {on_both:.2f} and {alone:.2f} times"
    )
    return VaceGraph(on_both, alone, equal, words)


def _tokens() -> int:
    frames, height, width = LATENT
    return frames * height * width // 4


def _model(branch: Literal["base", "vace", "both"]) -> tuple[Any, FaceAdapter]:
    torch.manual_seed(0)
    transformer = transformer_of(CONFIG)
    settings = AdapterSettings(
        conditioning_dim=64, mapper_hidden_dim=64, num_tokens=4, lora_rank=8, lora_branch=branch, mapper_dropout=0.0
    )
    adapter = install_adapter(transformer, settings, EMBEDDING)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return transformer.train(), adapter


def _step(transformer: Any) -> None:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    transformer.zero_grad()
    out = transformer(
        hidden_states=normal(1, 16, *LATENT),
        timestep=torch.tensor([500.0]),
        encoder_hidden_states=normal(1, 32, 64),
        encoder_hidden_states_image=face_input(normal(1, EMBEDDING)),
        control_hidden_states=normal(1, 96, *LATENT),
        return_dict=False,
    )[0]
    out.pow(2).mean().backward()


def _gradients(adapter: FaceAdapter, step: Callable[[], None]) -> dict[str, torch.Tensor]:
    """What a step leaves on the adapter."""
    step()
    return {name: p.grad.clone() for name, p in adapter.parameters().items() if p.grad is not None}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
