"""The most memory that a command or this process holds.

ru_maxrss of a child is not it: what the parent held when it started the child counts, too (Linux keeps the peak through
exec). A suite of 600 MB made every small command one of 600 MB. So a small process starts the command and measures it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_bytes_of(command: list[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a command; the most bytes it held (its resident set). Raises: RuntimeError when it fails."""
    measuring = [sys.executable, "-I", "-S", "-c", _MEASURE, *command]
    done = subprocess.run(measuring, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-6000:]}")
    return int(done.stdout) * 1024


def begin_peak_anew() -> None:
    """Let `peak_bytes` of this process begin with what it holds now (proc(5))."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most bytes that this process has held since it began, or since `begin_peak_anew`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
