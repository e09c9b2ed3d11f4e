"""Decide who may write into a run folder: one attempt at a time, and none that was taken for dead.

Slurm restarts a job elsewhere when it loses sight of a node. The processes there may still be alive, see the shared
folder and go on writing. So an attempt claims the folder before it reads anything there, and checks before each write
that it still has it. A later start of the same Slurm job takes the folder at once. Another run takes it only when its
holder has ended, or has given no sign of life for two minutes.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from pathlib import Path

from faceid.claims import BEAT_S, CLAIMS_NAME, STALE_BEATS, Claim, Claims, Holder
from faceid.errors import DataError, FaceidError
from faceid.training.world.attempts import Attempt

log = logging.getLogger(__name__)

UNIT = "run"
_POLL_S = 0.2


class FencedError(FaceidError):
    """Another attempt has the run folder now."""


class Fence:
    """A run folder held by this process, until it ends or is superseded. Used by the main process alone."""

    def __init__(self, folder: Path, attempt: Attempt, beat_s: float = BEAT_S, stale_s: float = BEAT_S * STALE_BEATS):
        """Take the folder. beat_s, stale_s: of its heartbeat, as in claims.py.

        Raises: DataError when another run holds the folder, or it cannot be written.
        """
        self.folder, self.attempt = folder, attempt
        name = f"{attempt}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claims = Claims(folder / CLAIMS_NAME, beat_s, stale_s, name)
            self._claim = self._take()
        except OSError as error:
            raise DataError(
                f"{folder}: not a folder that can be written ({error.strerror}); choose another output folder"
            ) from error

    def __enter__(self) -> Fence:
        return self

    def __exit__(self, *error: object) -> None:
        self._claim.release()

    def check(self) -> None:
        """Check before anything is written. Raises: FencedError when another attempt has the folder."""
        if not self._claim.is_held():
            if not self.folder.is_dir():
                raise FencedError(f"{self.folder}: was removed or renamed while the run was at work; it ends")
            holder = self._claims.holder(UNIT)
            by = _say(holder.worker) if holder is not None else "another attempt, which has ended"
            raise FencedError(
                f"{self.folder}: taken over by {by}; this attempt ({self.attempt}) was taken for dead and ends "
                "without writing anything more"
            )

    def _take(self) -> Claim:
        first: Holder | None = None
        while (claim := self._claims.take(UNIT, self._is_superseded)) is None:
            holder = self._claims.holder(UNIT)
            if holder is not None and not self._is_superseded(holder.worker):
                if first is None or first.worker != holder.worker:
                    first = holder
                    log.info("%s: held by %s; looking whether it is alive", self.folder, _say(holder.worker))
                if holder.is_alive_here or holder.look != first.look:
                    raise _in_use(self.folder, holder)
            time.sleep(_POLL_S)
        return claim

    def _is_superseded(self, worker: str) -> bool:
        return _is_superseded(self.attempt, worker)


def refuse_if_in_use(folder: Path, attempt: Attempt) -> None:
    """Raises: DataError when another run of this machine holds the folder now. It takes and changes nothing."""
    if (folder / CLAIMS_NAME).is_dir():
        holder = Claims(folder / CLAIMS_NAME).holder(UNIT)
        if holder is not None and holder.is_alive_here and not _is_superseded(attempt, holder.worker):
            raise _in_use(folder, holder)


def _is_superseded(attempt: Attempt, worker: str) -> bool:
    return attempt.supersedes(worker.split("-")[0])


def _in_use(folder: Path, holder: Holder) -> DataError:
    return DataError(f"{folder}: in use by {_say(holder.worker)}; wait for it to end or choose another output folder")


def _say(worker: str) -> str:
    """A holder in words, from its name as it is made above."""
    attempt, _, rest = worker.partition("-")
    host, pid, _ = rest.rsplit("-", 2)
    who = f"process {pid} on {host}"
    return who if attempt == str(Attempt()) else f"Slurm job {attempt}, {who}"
