"""Check every node before a run: folder, space, GPUs, versions, clocks, network.

Exit code 2 when a line is red. Start it as training is started, one task a GPU: `srun python tools/check_cluster.py`
with train.py's flags.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import USER_ERROR_EXIT_CODE, run_entry_point
from faceid.limits import Processes
from faceid.training.checks.run_sections import SECTIONS, RunSections


@dataclass(frozen=True)
class CheckSettings:
    """What is asked of a node."""

    expect_gpus: Processes = 0
    """GPUs that each node must show; 0 for a CPU world."""


def main(argv: list[str] | None = None) -> int:
    """Parse, check, report."""
    began = time.perf_counter()
    words = sys.argv[1:] if argv is None else argv
    tool, *asked = parse_sections("tools/check_cluster.py", __doc__ or "", [CheckSettings, *SECTIONS], words)
    sections = RunSections(*asked)

    # torch takes seconds to import, so it comes only once the command line is known to be good.
    from faceid.training.world.launched import read_launch
    from faceid.training.world.preflight import RED, check_cluster, how_long

    folder = Path(sections.inputs.output_dir)
    launch = read_launch(sections.execution.accelerate_config, folder)
    lines = check_cluster(folder, launch, tool.expect_gpus)
    is_red = any(line.level == RED for line in lines)
    # A process with one red line is alone with its view, because the others could not be asked.
    if launch.rank == 0 or (is_red and len(lines) == 1):
        for line in [*lines, how_long(time.perf_counter() - began)]:
            print(f"preflight: {line}", flush=True)
    return USER_ERROR_EXIT_CODE if is_red else 0


if __name__ == "__main__":
    run_entry_point(main)
