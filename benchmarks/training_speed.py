"""CPU seconds of a training step: what checkpointing keeps, and whether the VACE branch has a graph.

One process, one thread, equal sizes, the variants in turn (A B B A); minima over the rounds, as other work only adds.
The gradients are compared before anything is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import torch

from faceid.models import face_attention
from faceid.models.adapter import FaceAdapter, install_adapter
from faceid.models.execution import set_gradient_checkpointing
from faceid.models.face_tokens import face_input
from faceid.models.settings import AdapterSettings, GradientCheckpointing
from faceid.models.sizes import transformer_of

# Small, and shaped as the real one where it matters: self-attention is over half of a block's operations (65 % in the
# 1.3B at 65 frames), half as many VACE blocks as main ones, many tokens.
CONFIG = {
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 64,
    "freq_dim": 64,
    "ffn_dim": 744,
    "num_layers": 10,
    "vace_layers": [0, 2, 4, 6, 8],
    "vace_in_channels": 96,
}
LATENT = (6, 48, 44)
EMBEDDING = 64


def compare_checkpointing(rounds: int) -> tuple[float, bool, str]:
    """CPU seconds with `full` by those with `attention`; whether gradients are equal to the bit; in words."""
    transformer, adapter = _model()

    def step(mode: GradientCheckpointing) -> Callable[[], None]:
        def run() -> None:
            set_gradient_checkpointing(transformer, mode)
            _step(transformer)

        return run

    full, attention = step("full"), step("attention")
    equal = _same_gradients(adapter, full, attention)
    seconds = _compare(full, attention, rounds)
    ratio = seconds[0] / seconds[1]
    return ratio, equal, f"{seconds[0]:.3f} / {seconds[1]:.3f} CPU s a step of {_tokens()} tokens: {ratio:.2f} times"


def compare_vace_graph(rounds: int) -> tuple[float, bool, str]:
    """CPU seconds with a graph over the VACE branch by those without; whether gradients are equal; in words."""
    transformer, adapter = _model()
    set_gradient_checkpointing(transformer, "full")

    def with_graph() -> AbstractContextManager[object]:
        # What a slice of the text does that is not cut off from the face's graph: all VACE blocks get one.
        def split(states: torch.Tensor, rows: face_attention.TokenRows) -> tuple[torch.Tensor, torch.Tensor]:
            return states[:, : rows.num_rows], states[:, rows.num_rows :]

        return patch.object(face_attention, "split_rows", split)

    def run(context: Callable[[], AbstractContextManager[object]]) -> Callable[[], None]:
        def act() -> None:
            with context():
                _step(transformer)

        return act

    graph, plain = run(with_graph), run(nullcontext)
    equal = _same_gradients(adapter, graph, plain)
    seconds = _compare(graph, plain, rounds)
    ratio = seconds[0] / seconds[1]
    return ratio, equal, f"{seconds[0]:.3f} / {seconds[1]:.3f} CPU s a step of {_tokens()} tokens: {ratio:.2f} times"


def _tokens() -> int:
    frames, height, width = LATENT
    return frames * height * width // 4


def _model() -> tuple[Any, FaceAdapter]:
    torch.manual_seed(0)
    transformer = transformer_of(CONFIG)
    settings = AdapterSettings(conditioning_dim=64, mapper_hidden_dim=64, num_tokens=4, lora_rank=8, mapper_dropout=0.0)
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


def _same_gradients(adapter: FaceAdapter, *steps: Callable[[], None]) -> bool:
    found = []
    for step in steps:
        step()
        found.append({name: p.grad.clone() for name, p in adapter.parameters().items() if p.grad is not None})
    return all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])


def _compare(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Least CPU seconds of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for which in (0, 1, 1, 0):
            began = time.process_time()
            (first, second)[which]()
            times[which].append(time.process_time() - began)
    return min(times[0]), min(times[1])
