"""SIGKILL before every system call of a checkpoint's save: what is left to go on from.

strace counts the calls of one save and then kills a fresh one before the k-th call of each name, for every name and k.
After each, the product's own search looks for a checkpoint; and the next save must be clean. Beside it the control:
Accelerate's `save_state` with `total_limit`, whose newest folder `load_state` takes.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch import nn

from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.sharded_state import AVERAGE, MOMENTS, TRAINABLES

KEEP = 2
# As many tensors as a small adapter has; their size changes how long a call takes, not which calls there are.
NUM_TENSORS, SIDE = 24, 64

Point = tuple[str, int]


def sweep_ours(work: Path, most: int | None) -> tuple[int, int, list[str]]:
    """Kill before every call (or at `most` points, evenly): points, those with a good checkpoint, failures."""
    tensors = {f"layer.{n}": torch.randn(SIDE, SIDE) for n in range(NUM_TENSORS)}
    groups = {name: dict(tensors) for name in (TRAINABLES, *MOMENTS, AVERAGE)}

    def save(folder: Path, step: int) -> None:
        checkpoint.save(folder, groups, {"step": step, "origin": {}}, KEEP)

    template = work / "ours"
    for step in (1, 2):
        save(template, step)
    failures = []

    def look(folder: Path, point: Point) -> bool:
        try:
            found = checkpoint.find_newest(folder)
            good = found is not None and checkpoint.verify(found)["step"] in (2, 3)
            save(folder, 4)
            left = sorted(path.name for path in folder.iterdir())
            good = good and left in (["step_00000003", "step_00000004"], ["step_00000002", "step_00000004"])
        except checkpoint.CheckpointError as error:
            failures.append(f"{point}: {error}")
            return False
        if not good:
            failures.append(f"{point}: {left}")
        return good

    points, good = _sweep(template, work, lambda folder: save(folder, 3), look, most)
    return points, good, failures


def sweep_accelerate(work: Path, most: int | None) -> tuple[int, int]:
    """The control: points, and points after which `load_state()` loads."""
    template = work / "accelerate"
    module = nn.ParameterList(nn.Parameter(torch.randn(SIDE, SIDE)) for _ in range(NUM_TENSORS))
    optimizer = torch.optim.AdamW(module.parameters())
    accelerator = Accelerator(
        cpu=True,
        project_config=ProjectConfiguration(str(template), automatic_checkpoint_naming=True, total_limit=KEEP),
    )
    module, optimizer = accelerator.prepare(module, optimizer)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for _ in range(KEEP):
        accelerator.save_state()

    def save(folder: Path) -> None:
        accelerator.project_configuration.set_directories(str(folder))
        accelerator.project_configuration.iteration = KEEP
        accelerator.save_state()

    def look(folder: Path, point: Point) -> bool:
        def load() -> None:
            accelerator.project_configuration.set_directories(str(folder))
            accelerator.load_state()

        return os.waitpid(_fork(load), 0)[1] == 0

    return _sweep(template, work, save, look, most)


def _sweep(
    template: Path, work: Path, save: Callable[[Path], None], look: Callable[[Path, Point], bool], most: int | None
) -> tuple[int, int]:
    counts = _calls_of(template, work, save)
    points = [(name, k) for name, count in sorted(counts.items()) for k in range(1, count + 1)]
    if most is not None and len(points) > most:
        points = [points[round(n * (len(points) - 1) / (most - 1))] for n in range(most)]
    good = 0
    for name, k in points:
        folder = _copy(template, work)
        _stopped_child(functools.partial(save, folder), ["-e", f"inject={name}:signal=SIGKILL:when={k}"])
        good += look(folder, (name, k))
        shutil.rmtree(folder.parent)
    return len(points), good


def _calls_of(template: Path, work: Path, save: Callable[[Path], None]) -> Counter[str]:
    """How often a save makes each system call."""
    folder, trace = _copy(template, work), work / "trace"
    _stopped_child(lambda: save(folder), ["-o", str(trace)])
    shutil.rmtree(folder.parent)
    names = re.findall(r"^(\w+)\(", trace.read_text(), flags=re.MULTILINE)
    return Counter(name for name in names if name not in ("exit_group", "exit", "rt_sigreturn"))


def _copy(template: Path, work: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=work)) / template.name
    shutil.copytree(template, folder)
    return folder


def _stopped_child(act: Callable[[], None], strace: list[str]) -> int:
    """Fork, let strace take hold of the child, let it `act`; its wait status."""

    def stop_then_act() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        act()

    pid = _fork(stop_then_act)
    os.waitpid(pid, os.WUNTRACED)
    output = [] if "-o" in strace else ["-o", "/dev/null"]
    tracer = subprocess.Popen(["strace", "-qq", *output, *strace, "-p", str(pid)], stderr=subprocess.DEVNULL)
    while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.001)
    os.kill(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    tracer.wait()
    return status


def _fork(act: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        act()
    except BaseException:  # noqa: BLE001  (a forked child must never return into its parent's code)
        os._exit(1)
    os._exit(0)
