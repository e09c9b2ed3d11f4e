"""What the main job promises: its tests, and with FULL=1 the demo in a fresh clone."""

from __future__ import annotations

import os
import subprocess

from benchmarks import REPOSITORY
from benchmarks.proofs.proof import Proof, Work
from benchmarks.proofs.rows import Seen


def fresh_clone(work: Work) -> list[Seen]:
    """`make demo` in a fresh clone without a .venv: set-up and the main job."""
    if not work.is_full:
        return []
    clone = work.folder / "faceid"
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "MAKEFLAGS")}
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    done = subprocess.run(["make", "demo"], cwd=clone, env=environment, capture_output=True, text=True, check=False)
    videos = list((clone / "demo_out").rglob("*.mp4"))
    measured = f"exit {done.returncode}, {len(videos)} mp4 files" + ("" if done.returncode == 0 else done.stderr[-300:])
    holds = done.returncode == 0 and bool(videos)
    return [("make demo in a fresh clone, nothing set up", "exit 0, rendered mp4", measured, holds)]


PROOF = Proof("main", (fresh_clone,), longest_s=None)
