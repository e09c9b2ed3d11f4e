"""What a world costs: the step of an optimizer over two processes, in ZeRO-2 as we train and in accelerate's DDP.

The bytes are the same in one tensor or in the 900 of a LoRA: what grows is the overhead of a tensor. Forward and
backward are next to nothing. `accelerate launch` starts this file in each world; only then is it a program.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import accelerate
import torch
from accelerate import Accelerator
from peers_ratios import Ratio, largest_error, least_and_median
from proof import REPOSITORY
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from faceid.training.training_settings import TrainingSettings
from faceid.training.world.distributed import join_world

PROCESSES, WARM = 2, 2
LARGEST_NORM = 1.0
# Sums of gradients in another order, seen by AdamW.
TOLERANCE = 1e-5
OURS, THEIRS = "cpu_zero2", "cpu"


def compare_worlds(folder: Path, rounds: int, is_small: bool) -> tuple[list[Ratio], dict[str, Any]]:
    """CPU seconds of a step by number of tensors, and every measurement. Parameters are compared after the steps."""
    values, counts, steps = (1 << 16, (1, 9), 2) if is_small else (1 << 22, (1, 900), 10)
    measured: dict[str, list[dict[str, Any]]] = {OURS: [], THEIRS: []}
    for world in [OURS, THEIRS, THEIRS, OURS] * rounds:
        _launch(world, [str(number) for number in (steps, values, *counts)], folder / world)
        measured[world].append(json.loads((folder / world / "spent.json").read_text(encoding="utf-8")))
    ratios = []
    for count in counts:
        trained = {world: load_file(folder / world / f"{count}.safetensors") for world in measured}
        error = largest_error(trained[OURS], trained[THEIRS], TOLERANCE)
        ours, theirs = (
            least_and_median([each[str(count)]["cpu_s"] for each in measured[world]]) for world in (OURS, THEIRS)
        )
        what = f"a step without a model, ZeRO-2 (ours), DDP (theirs): {4 * values >> 10} KiB in {count} tensors"
        peer, outputs = f"accelerate {accelerate.__version__} DDP", f"parameters after {steps} steps {error:.0e} apart"
        ratios.append(Ratio("A12", what, peer, ours, theirs, "CPU s a step, both processes", outputs))
    return ratios, {"processes": PROCESSES, "values": values, "steps": steps, "spent": measured}


def _launch(world: str, numbers: list[str], results: Path) -> None:
    results.mkdir(exist_ok=True)
    config = REPOSITORY / "launch" / "accelerate" / f"{world}.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--main_process_port", "0", __file__, world, str(results), *numbers]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"accelerate launch in {world} ended with {ended.returncode}: {ended.stderr[-1000:]}")


class Parameters(nn.Module):
    """As many tensors, each used once."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.linspace(-1, 1, size) + i / count for i in range(count))

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: [size]. A scalar."""
        return torch.stack([((part - inputs) ** 2).mean() for part in self.parts]).mean()


def _accelerator(world: str) -> Accelerator:
    if world == THEIRS:
        return Accelerator(cpu=True)
    return join_world(TrainingSettings(batch_size=PROCESSES, max_grad_norm=LARGEST_NORM), PROCESSES).accelerator


def _work(world: str, results: Path, steps: int, values: int, *counts: int) -> None:
    torch.set_num_threads(1)
    spent = {}
    for count in counts:
        # DeepSpeed's engine is tied to the Accelerator.
        accelerator = _accelerator(world)
        if accelerator.num_processes != PROCESSES:
            raise RuntimeError(f"{world}: {accelerator.num_processes} processes joined, not {PROCESSES}")
        model, spent[count] = _take_steps(accelerator, steps, count, values // count)
        if accelerator.is_main_process:
            save_file(
                {name: part.detach() for name, part in model.named_parameters()}, results / f"{count}.safetensors"
            )
    if accelerator.is_main_process:
        (results / "spent.json").write_text(json.dumps(spent), encoding="utf-8")


def _take_steps(accelerator: Accelerator, steps: int, count: int, size: int) -> tuple[Any, dict[str, float]]:
    model = Parameters(count, size)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3))
    generator = torch.Generator().manual_seed(accelerator.process_index)
    spent = []
    for _ in range(WARM + steps):
        inputs = torch.randn(size, generator=generator)
        accelerator.wait_for_everyone()
        began, used = time.perf_counter(), time.process_time()
        accelerator.backward(model(inputs))
        # DeepSpeed does this itself, and in it steps and forgets the gradients.
        if accelerator.state.deepspeed_plugin is None:
            accelerator.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        optimizer.zero_grad()
        spent.append([time.process_time() - used, time.perf_counter() - began])
    mean = torch.tensor(spent[WARM:]).mean(0)
    cpu_s, wall_s = (accelerator.reduce(mean, "sum") / torch.tensor([1, PROCESSES])).tolist()
    return accelerator.unwrap_model(model), {"cpu_s": cpu_s, "wall_s": wall_s}


if __name__ == "__main__":
    _work(sys.argv[1], Path(sys.argv[2]), *(int(word) for word in sys.argv[3:]))
