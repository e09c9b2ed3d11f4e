"""Commands called in this process, through their own entry points: as a user meets them, without python's start."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from launching import REPOSITORY

from faceid.errors import run_entry_point


@dataclass(frozen=True)
class Outcome:
    """How a command ended. error: the one line it printed for the user, without `error: `."""

    code: int
    error: str
    screen: str


def command_module(command: str) -> ModuleType:
    """`train.py`, `sample.py` or `tools/x.py` as a module, made anew: what a test changes in it ends with the test."""
    spec = importlib.util.spec_from_file_location(f"command_{Path(command).stem}", REPOSITORY / command)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic resolves a dataclass's annotations there
    spec.loader.exec_module(module)
    return module


def call(command: str, *words: object) -> Outcome:
    """Run a command in this process, through its own entry point."""
    module = command_module(command)
    screen = io.StringIO()
    shown = contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen)
    with process_state_kept(), shown[0], shown[1], pytest.raises(SystemExit) as end:
        run_entry_point(lambda: module.main([str(word) for word in words]))
    return outcome(int(end.value.code or 0), screen.getvalue())


@contextlib.contextmanager
def process_state_kept():
    """Undo what a command leaves in its process: log handlers, signal handlers, Accelerate's singletons."""
    log, numbers = logging.getLogger("faceid"), (signal.SIGTERM, signal.SIGUSR2)
    kept, handlers = (list(log.handlers), log.propagate, log.level), [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for handler in set(log.handlers) - set(kept[0]):
            handler.close()
        log.handlers, log.propagate = kept[:2]
        log.setLevel(kept[2])
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        if accelerate := sys.modules.get("accelerate.state"):
            accelerate.AcceleratorState._reset_state(reset_partial_state=True)


def outcome(code: int, screen: str) -> Outcome:
    errors = [line for line in screen.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in screen, screen
    assert len(errors) == (code == 2), screen
    return Outcome(code, errors[0].removeprefix("error: ") if errors else "", screen)


def refused(ended: Outcome, *parts: str) -> None:
    """The user's fault, and every part of what helps stands in its one line."""
    assert ended.code == 2, ended.screen
    for part in parts:
        assert part in ended.error, f"{part!r} is not in: {ended.error}"
