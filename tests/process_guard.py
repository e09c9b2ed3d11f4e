"""A test that starts a process is marked `starts_process`, else it fails in `make quick`. A plugin of pytest.

`make quick` leaves out tests with that mark. What imports start does not count.
"""

from __future__ import annotations

import functools
import multiprocessing.process
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from typing import Any

import pytest
from warm_process import WarmProcess

# How Python starts a process: where it is, and its name there.
STARTS = (
    (subprocess.Popen, "__init__"),
    (WarmProcess, "__init__"),
    (os, "fork"),
    (os, "posix_spawn"),
    (multiprocessing.process.BaseProcess, "start"),
)
# A cluster is nothing but processes.
MAY_START = ("starts_process", "slurm")
# The test in progress.
running: list[pytest.Item] = []


def pytest_configure(config: pytest.Config) -> None:
    if "not starts_process" not in config.option.markexpr:
        return  # All tests run, so nothing is promised of processes.
    from faceid.files import provenance

    # What writes asks git and `uname`, once a process.
    provenance.describe_provenance()
    for place, name in STARTS:
        setattr(place, name, guarded(getattr(place, name)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    running[:] = [item]
    try:
        return (yield)
    finally:
        running.clear()


def guarded(function: Callable) -> Callable:
    """The function, which fails the test in progress unless that is marked."""

    @functools.wraps(function)
    def begin(*places: Any, **names: Any) -> Any:
        if running and not any(map(running[0].get_closest_marker, MAY_START)) and not _is_importing():
            pytest.fail("starts a process, and is not marked `starts_process`")
        return function(*places, **names)

    return begin


def _is_importing() -> bool:
    frame = sys._getframe(2)
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None
