"""The training run that things happen to, and how its end is compared with that of an undisturbed one."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from lab import Lab
from launching import SIZES

from faceid.models.adapter.adapter_file import read_adapter

PREEMPTIONS = 10 if SIZES == "full" else 1
STEPS_BETWEEN = 4
# Two tasks on two nodes.
TWO_BY_ONE = "TASKS_PER_NODE=1\n"
# Two steps each.
NUM_EPOCHS = 6 if PREEMPTIONS == 1 else 44


def run_flags(lab: Lab, run: Path, *more: str) -> list[str]:
    """train.py's."""
    return lab.flags(run, "--num_epochs", str(NUM_EPOCHS), "--checkpoint_every_steps", "4", *more)


def submit(lab: Lab, run: Path, *options: str, more: tuple[str, ...] = (), changes: str = TWO_BY_ONE) -> str:
    """Submit it; the job's id. options: sbatch's. changes: further lines of env.sh."""
    return lab.submit(*options, "--", "train", *run_flags(lab, run, *more), settings=lab.settings("run.sh", changes))


def adapter(run: Path) -> dict[str, torch.Tensor]:
    """What it ended with."""
    return read_adapter(run / "face_lora_final.safetensors")[0]


def differences(run: Path, other: Path) -> list[str]:
    """Names of tensors that are not the same to the bit."""
    mine, theirs = adapter(run), adapter(other)
    assert mine.keys() == theirs.keys()
    return [name for name in mine if not torch.equal(mine[name], theirs[name])]


def stops(lab: Lab, run: Path) -> list[dict]:
    """The attempts that stopped as asked."""
    return [line for line in lab.attempts(run) if line["event"] == "stopped"]


def starts(lab: Lab, run: Path) -> list[int]:
    """The step that each attempt began from."""
    return [line["step"] for line in lab.attempts(run) if line["event"] == "started"]


def tasks_of(lab: Lab, job: str) -> dict[int, int]:
    """Process ids of a job's train.py by rank, as this machine, which is all the nodes, numbers them."""
    # Other clusters may run beside this one, and have a job of that number too.
    wanted = {b"SLURM_CONF": os.fsencode(lab.cluster.environment["SLURM_CONF"]), b"SLURM_JOB_ID": os.fsencode(job)}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            values = dict(w.split(b"=", 1) for w in (folder / "environ").read_bytes().split(b"\0") if b"=" in w)
        except OSError:
            continue
        if b"train.py" in words and b"python" in words[0] and wanted.items() <= values.items():
            found[int(values[b"SLURM_PROCID"])] = int(folder.name)
    return found
