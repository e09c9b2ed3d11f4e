"""What a measurement of memory counts: the command, and not who started it."""

from __future__ import annotations

import os
import sys

import pytest
from launching import REPOSITORY, run_command
from measured_memory import peak_bytes_of

MB = 1_000_000


@pytest.mark.starts_process
def test_what_the_parent_holds_is_not_the_commands():
    """A suite of 600 MB made a command of 330 MB one of 577 MB."""
    held = b"x" * (300 * MB)
    small = peak_bytes_of([sys.executable, "-c", "pass"])
    large = peak_bytes_of([sys.executable, "-c", f"x = b'x' * {100 * MB}"])
    assert len(held) and small < 60 * MB and 95 * MB < large - small < 120 * MB


@pytest.mark.starts_process
def test_a_command_that_fails_has_no_figure():
    with pytest.raises(RuntimeError, match=r"exit code 3: .*no such luck"):
        peak_bytes_of([sys.executable, "-c", "import sys; print('no such luck', file=sys.stderr); sys.exit(3)"])


@pytest.mark.starts_process
def test_a_peak_of_before_does_not_hide_another():
    # In a process of its own: in one that has run other tests, freed memory would be used again.
    run_command([sys.executable, "-c", PEAKS], cold=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")})


PEAKS = f"""
from measured_memory import begin_peak_anew, peak_bytes
held = b"x" * {200 * MB}
del held
begin_peak_anew()
before = peak_bytes()
assert len(b"y" * {100 * MB}) and peak_bytes() - before > {90 * MB}
"""
