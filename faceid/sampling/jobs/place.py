"""Tell which worker this process is. No heavy imports: sample.py asks before it parses."""

from __future__ import annotations

import os

from faceid.processes import number_in


def place_among_workers() -> tuple[int, int]:
    """This process's number and the number of processes, from accelerate launch or Slurm; 0 of 1 without them."""
    for rank, count in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in os.environ and count in os.environ:
            return number_in(os.environ, rank, 0), number_in(os.environ, count, 1)
    return 0, 1
