"""What a user did wrong, in one line, and how an entry point says so.

A `FaceidError` names the key or file, what it was, why it cannot be, and what to do. Anything else that is raised
is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

USER_ERROR_EXIT_CODE = 2
# Longer than launchers take to end the other processes once one has left.
GRACE_S = 5.0


class FaceidError(Exception):
    """A user's fault, told in one line."""


class ConfigError(FaceidError):
    """A key, flag or YAML value that cannot be."""


class DataError(FaceidError):
    """A file or folder that cannot be used: missing, undecodable, damaged, of the wrong shape."""


class ModelError(FaceidError):
    """A model or adapter that does not fit: wrong base, wrong rank, missing or unused keys."""


def run_entry_point(main: Callable[[], int | None]) -> None:
    """Run `main` and leave the process: exit 2 with one line for a user's error.

    Under a launcher every process usually meets the same error, and the main one prints it. Another one waits a little:
    if the main one left too, the launcher ends it meanwhile; if not, the error is its own, and it prints it.
    """
    try:
        code = main()
    except FaceidError as error:
        rank = os.environ.get("RANK", "0")
        # What is no number is itself refused, by name.
        if rank.isdecimal() and int(rank) > 0:
            time.sleep(GRACE_S)
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        sys.exit(USER_ERROR_EXIT_CODE)
    sys.exit(code or 0)


def one_line(error: FaceidError) -> str:
    """The message as it is shown."""
    text = str(error)
    if "Original Traceback" in text:
        # torch's loader puts the whole traceback of a reader process into the message; ours comes last.
        text = text.rpartition(f"{type(error).__qualname__}: ")[2]
    return " ".join(text.split())
