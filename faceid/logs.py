"""Set up logging and progress bars: sentences on the main process's screen, all ranks in files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from faceid.errors import printable

T = TypeVar("T")


class _Formatter(logging.Formatter):
    """Indent further lines and make them printable: no name or prompt can then forge a log line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = "\n    ".join(printable(line) for line in record.message.split("\n"))
        return super().formatMessage(record)


def set_up_logging(rank: int = 0, log_dir: Path | None = None, level: int = logging.INFO) -> None:
    """Send INFO of rank 0 to the screen and of every rank to `log_dir/rankNNNN.log` (appended)."""
    form = _Formatter(f"%(asctime)s rank{rank} %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
    root = logging.getLogger("faceid")
    root.setLevel(level)
    root.propagate = False
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(level if rank == 0 else logging.ERROR)
    handlers: list[logging.Handler] = [screen]
    if log_dir is not None:
        log_dir.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file(log_dir, rank)))
    for handler in handlers:
        handler.setFormatter(form)
        root.addHandler(handler)


def log_file(log_dir: Path, rank: int) -> Path:
    """Where a rank's log is."""
    return log_dir / f"rank{rank:04d}.log"


def progress(
    items: Iterable[T], description: str, total: int | None = None, unit: str = "it", leave: bool = True
) -> Iterable[T]:
    """Wrap `items` in a progress bar; no bar when stderr is not a terminal. leave: whether a full bar stays visible."""
    return tqdm(items, desc=description, total=total, unit=unit, leave=leave, disable=not sys.stderr.isatty())


class Progress:
    """A bar that is advanced by hand and shows the time left. It shows nothing when stderr is not a terminal."""

    def __init__(
        self,
        description: str,
        total: int,
        done: int = 0,
        is_shown: bool = True,
        unit: str = "step",
        leave: bool = True,
    ) -> None:
        hidden = not is_shown or not sys.stderr.isatty()
        self._bar = tqdm(desc=description, total=total, initial=done, unit=unit, disable=hidden, leave=leave)

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done."""
        self._bar.update(count)

    def close(self) -> None:
        """Release the terminal."""
        self._bar.close()
