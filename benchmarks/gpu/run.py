"""One training run of the product around random weights, and what is asked of its gradients.

Put together as `faceid.training.build.build_run` does it, without a folder, data or a checkpoint. Samples are random
latents of the true size in the host's memory, pinned, as the loader gives them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.model import FACE_DIM, Scale, model_around, random_adapter, random_transformer
from faceid.data.stream.training_set import TrainingSample
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.adapter_settings import GradientCheckpointing
from faceid.models.compute.execution import set_attention_backend, set_gradient_checkpointing
from faceid.models.wan_vace.control import pose_control
from faceid.training.build import Run, StageGate, build_optimizer
from faceid.training.checkpoints.sharded_state import ShardedState
from faceid.training.step import sample_losses
from faceid.training.world.distributed import World, join_world

NUM_SAMPLES = 3
# Never over in the timed steps: neither the second stage nor the end of the schedule.
SAMPLES_PER_EPOCH, NUM_STEPS = 1000, 10_000


@dataclass(frozen=True)
class Mode:
    """One way to take the step; attention by torch's choice, as by default."""

    checkpointing: GradientCheckpointing = "full"
    is_compiled: bool = False

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.checkpointing}, {'compiled' if self.is_compiled else 'eager'}, native"


def make_run(bench: Bench, mode: Mode) -> Run:
    """As `faceid.training.build.build_run` puts it together, around random weights."""
    scale = bench.scale
    sections = scale.sections(gradient_checkpointing=mode.checkpointing, compile=mode.is_compiled)
    world = _world_for(scale)
    transformer = random_transformer(scale, bench.device)
    adapter = random_adapter(scale, transformer)
    # diffusers remembers the last one for all models of the process.
    set_attention_backend(transformer, "native")
    set_gradient_checkpointing(transformer, mode.checkpointing, mode.is_compiled)
    gate = StageGate(adapter)
    asked = sections.optimizer
    plain = build_optimizer(adapter, asked.learning_rate, asked.weight_decay)
    prepared, optimizer = world.accelerator.prepare(transformer, plain)
    prepared.train()
    nothing: Any = None
    return Run(
        world=world,
        sections=sections,
        folder=Path(),
        wan=model_around(scale, transformer),
        adapter=adapter,
        transformer=prepared,
        optimizer=optimizer,
        sharded=ShardedState(adapter.parameters(), optimizer, world.kind, asked.ema),
        training_set=range(SAMPLES_PER_EPOCH),  # type: ignore[arg-type] # of which a step asks the length alone
        identity=nothing,
        metadata=nothing,
        origin={},
        gate=gate,
        identity_loss=None,
        start_step=0,
        num_steps=NUM_STEPS,
        saved={},
        fence=None,
    )


def make_plain_run(bench: Bench, dtype: torch.dtype, checkpointing: GradientCheckpointing) -> Any:
    """What a loss needs, without a world's casts."""
    transformer = random_transformer(bench.scale, bench.device, dtype)
    adapter = random_adapter(bench.scale, transformer)
    set_attention_backend(transformer, "native")
    set_gradient_checkpointing(transformer, checkpointing)
    wan = model_around(bench.scale, transformer)
    sections = bench.scale.sections()
    return SimpleNamespace(wan=wan, transformer=transformer.train(), adapter=adapter, sections=sections)


def _world_for(scale: Scale) -> World:
    world = _world(scale)
    # Accelerate keeps all that it has prepared; the last variant's models would stay in memory.
    world.accelerator.free_memory()
    return world


@functools.cache
def _world(scale: Scale) -> World:
    """One for the process, as in training."""
    sections = scale.sections()
    asked = sections.optimizer
    size = sections.execution.micro_batch_size
    return join_world(asked.batch_size, size, 1, asked.max_grad_norm, asked.mixed_precision)


def make_samples(scale: Scale, frames: int, device: torch.device) -> list[TrainingSample]:
    """Samples of that length in the host's memory, pinned as the loader's are; a head over a sixth of the height."""
    return [_sample(scale, frames, number, device.type == "cuda") for number in range(NUM_SAMPLES)]


def _sample(scale: Scale, frames: int, number: int, is_pinned: bool) -> TrainingSample:
    generator = torch.Generator().manual_seed(number)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shape = scale.latent(frames)
    _, f, h, w = shape
    head_mask = torch.zeros(1, f, h, w)
    head_mask[:, :, h // 6 : h // 3 + 1, w // 2 - h // 12 : w // 2 + h // 12 + 1] = 1
    tensors = {
        "x0": normal(1, *shape),
        "control": pose_control(normal(1, *shape), normal(1, *shape), scale.geometry),
        "text": normal(1, scale.text_tokens, scale.transformer["text_dim"]),
        "face": torch.nn.functional.normalize(normal(1, FACE_DIM)),
        "target_share": torch.zeros(1),
        "head_mask": head_mask,
        "noise": normal(1, *shape),
    }
    if is_pinned:
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    cells, name = int(head_mask.sum()), f"clip{number}"
    return TrainingSample(
        **tensors,
        head_cells=[cells],
        face_boxes=[()],
        photos=[""],
        num_references=0,
        g=[number],
        keys=[name],
        kinds=["clip"],
        bodies=[False],
        choices=[],
        damages=[],
    )


def stream(samples: list[TrainingSample]) -> Iterator[TrainingSample]:
    """The samples in turn, each at the place it is asked for."""
    step = 0
    while True:
        yield replace(samples[step % len(samples)], g=[step])
        step += 1


def first_loss(run: Any, sample: TrainingSample) -> float:
    """A step's loss at a middle noise level, its gradients left on the parameters; nothing is learnt."""
    loss = sample_losses(run, sample, torch.full((1,), 0.6, device=sample.x0.device))["loss"]
    loss.backward()
    return loss.item()


def dtypes_of(adapter: FaceAdapter) -> dict[str, int]:
    """How many trained numbers there are of each dtype: what the optimizer's memory and precision follow from."""
    counts: dict[str, int] = {}
    for parameter in adapter.parameters().values():
        name = str(parameter.dtype).removeprefix("torch.")
        counts[name] = counts.get(name, 0) + parameter.numel()
    return counts


def gradients_of(adapter: FaceAdapter) -> dict[str, Tensor]:
    """Copies in the host's memory, so that they do not count as the step's."""
    return {name: p.grad.float().cpu() for name, p in adapter.parameters().items() if p.grad is not None}


def gradient_error(adapter: FaceAdapter, expected: dict[str, Tensor]) -> tuple[float, bool]:
    """|g - expected| / |expected| over all tensors together, and whether they are equal to the bit."""
    found = {name: p.grad for name, p in adapter.parameters().items() if p.grad is not None}
    if set(found) != set(expected):
        return float("inf"), False
    difference, size, same = 0.0, 0.0, True
    for name, gradient in found.items():
        other = expected[name].to(gradient.device)
        gradient = gradient.float()
        same = same and torch.equal(gradient, other)
        difference += (gradient - other).double().square().sum().item()
        size += other.double().square().sum().item()
    return (difference / max(size, 1e-300)) ** 0.5, same
