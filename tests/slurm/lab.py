"""A cluster with the settings a user of it would write, and commands as they are typed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import REPOSITORY, Cluster, wait_until
from launching import QUIET, SMALL_ADAPTER, ToyInputs, losses

from faceid.training.world.attempts import Attempt, Attempts

# What a user of this cluster changes in env.sh: no GPUs, small nodes, and their own disk for temporary files.
CHANGES = f"""
GPUS_PER_NODE=0
TASKS_PER_NODE=2
CPUS_PER_TASK=1
TRAIN_NODES=2
SAMPLE_NODES=3
PREPARE_TASKS=2
ENCODE_TASKS=3
PREPARE_TIME=10
ENCODE_TIME=10
TRAIN_TIME=10
SAMPLE_TIME=10
STOP_BEFORE_END_S=30
VENV={sys.prefix}
SCRATCH=/dev/shm
WORLD=cpu_zero2
"""


IN_PROOF_ONLY = pytest.mark.proof_only("takes its time", proof="slurm")


@dataclass
class Lab:
    """A cluster, and a folder that its nodes share."""

    cluster: Cluster
    folder: Path
    inputs: ToyInputs

    def settings(self, name: str = "env.sh", changes: str = "") -> Path:
        """A copy of the shipped env.sh with this cluster's facts, and further changes (lines of shell)."""
        path = self.folder / name
        path.write_text((REPOSITORY / "slurm" / "env.sh").read_text() + CHANGES + changes)
        return path

    def flags(self, run: Path, *more: str) -> list[str]:
        """Of a short training run from prepared latents."""
        flags = [*SMALL_ADAPTER, *QUIET, *self.inputs.prepared_flags, "--output_dir", str(run)]
        return [*flags, *"--batch_size 4 --warmup_steps 0 --learning_rate 1e-3".split(), *more]

    def submit(self, *words: str, settings: Path | None = None) -> str:
        """slurm/submit.sh, as a user types it, in the folder; the job's id."""
        return self.type("submit.sh", *words, settings=settings).strip()

    def type(self, script: str, *words: str, settings: Path | None = None) -> str:
        """A script of slurm/; what it prints."""
        command = [str(REPOSITORY / "slurm" / script), *words]
        said = subprocess.run(
            command, cwd=self.folder, env=self.environment(settings), capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        return said.stdout

    def environment(self, settings: Path | None = None) -> dict[str, str]:
        """Of a user of this cluster."""
        return {**self.cluster.environment, "FACEID_ENV": str(settings or self.settings())}

    def log(self, job: str) -> str:
        """What a job wrote, all attempts."""
        found = [*self.folder.glob(f"*-{job}.log"), *sorted(self.folder.glob(f"*-{job}_*.log"))]
        return "".join(path.read_text(errors="replace") for path in found)

    def wait(self, job: str, *states: str, timeout_s: float = 180) -> str:
        """Wait for a job; when it ends otherwise, its log is shown."""
        try:
            return self.cluster.wait(job, states or ("COMPLETED",), timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(job)[-8000:]}") from None

    def wait_for_steps(self, job: str, run: Path, steps: int, timeout_s: float = 120) -> None:
        """Wait until a run has logged so many steps."""
        wait_until(
            lambda: len(losses(run)) >= steps,
            timeout_s,
            lambda: f"{len(losses(run))} of {steps} steps; {self.cluster.state(job)}\n{self.log(job)[-6000:]}",
        )

    def attempts(self, run: Path) -> list[dict]:
        """The lines of attempts.jsonl."""
        return Attempts(run, Attempt()).read()
