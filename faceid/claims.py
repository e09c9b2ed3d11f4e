"""Share units of work among processes on many machines through a common folder.

There is no server, and there are no locks. A claim is a hard link to a file of the claimant's own. The link either
comes to exist or does not, on NFS too. The file's link count says which (open(2), NOTES). The claimant's heartbeat
makes the file grow. Another worker judges the claimant dead when it has seen the same size for long enough on its own
clock. So no two clocks are compared. A worker steals a claim by renaming it away, and only one worker can. A worker
that was slow and not dead may still finish a unit that another does again. A unit's result must therefore be published
whole, under one name, with the same bytes whoever makes it. Work is done at least once, and each result appears once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceid.errors import DataError
from faceid.files.documents import parse_json, read_bytes, read_text
from faceid.files.writing import ABANDONED_S, make_parents, sweep, told, write_atomic
from faceid.logs import Progress
from faceid.processes import is_running_here, this_process

log = logging.getLogger(__name__)

# The names under which a folder that several processes fill keeps its claims and its plan.
CLAIMS_NAME, PLAN_NAME = ".claims", ".plan"
BEAT_S = 10.0
# A worker is taken for dead after this many missed beats. That is longer than a file server blocks now and then.
STALE_BEATS = 12
# The wait doubles up to this while other workers hold all units that are left.
LONGEST_WAIT_S = 5.0

# The claims that a worker holds while it works to a folder's plan, and for a moment while it alone looks at the plan.
_AT_WORK, _LOOKING = "at-work-", "looking-at-the-plan"

# A plan names every unit of a folder's work.
_LARGEST_PLAN_BYTES = 1 << 30

# Number, size and time of a claim's file: equal values say that the file is the same and has not grown.
Look = tuple[int, int, int]
# The errors that `link` returns where a file system has no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@dataclass
class Claims:
    """One worker's view of a folder of claims. worker: a name of its own, by which other workers know its claims."""

    folder: Path
    beat_s: float = BEAT_S
    stale_s: float = BEAT_S * STALE_BEATS
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        with told(self.folder):
            make_parents(self.folder / "claim")
        sweep(self.folder)
        self._sweep_claims()
        self._seen: dict[str, tuple[Look, float]] = {}

    def take(self, name: str, is_over: Callable[[str], bool] = lambda worker: False) -> Claim | None:
        """Claim a unit; None when another worker holds it.

        is_over: whether a worker (by its name) is known to have ended. Its claim is then taken without a wait.
        """
        claim = Claim(self.folder / name, self.folder / f".{self.worker}.{uuid.uuid4().hex[:8]}", self.beat_s)
        if claim.acquire(self.worker) or (self._is_stale(name, is_over) and self._steal(name, claim)):
            return claim
        return None

    def holder(self, name: str) -> Holder | None:
        """The worker that holds a unit now; None when nobody does."""
        try:
            look = _look(self.folder / name)
        except FileNotFoundError:
            return None
        return Holder(_worker_of(self.folder / name), _lives_here(self.folder / name) is True, look)

    def holders(self) -> list[str]:
        """The workers that hold a unit, without those that ran on this machine and are gone."""
        held = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        return sorted({worker for path in held if _lives_here(path) is not False and (worker := _worker_of(path))})

    def _sweep_claims(self) -> None:
        """Remove what killed workers left: their own names of claims, and their notes that they work to a plan.

        A unit's claim stays: whoever wants the unit takes it over.
        """
        for path in self.folder.iterdir():
            if not path.name.startswith((".", _AT_WORK)) or path.name.startswith(".stale.") or not _worker_of(path):
                continue
            lives = _lives_here(path)
            with suppress(OSError):
                if lives is False or (lives is None and time.time() - path.stat().st_mtime > ABANDONED_S):
                    path.unlink()

    def _is_stale(self, name: str, is_over: Callable[[str], bool]) -> bool:
        """Whether the claim's file has stood still, as far as this worker has watched it, for `stale_s`."""
        try:
            found = _look(self.folder / name)
        except FileNotFoundError:
            self._seen.pop(name, None)
            return False
        before, since = self._seen.get(name, (None, 0.0))
        if found != before:
            self._seen[name] = (found, time.monotonic())
        elif _lives_here(self.folder / name) is False or is_over(_worker_of(self.folder / name)):
            return True
        return found == before and time.monotonic() - since >= self.stale_s

    def _steal(self, name: str, claim: Claim) -> bool:
        before, _ = self._seen.pop(name)
        aside = self.folder / f".stale.{uuid.uuid4().hex[:8]}"
        try:
            (self.folder / name).rename(aside)
        except FileNotFoundError:
            return False  # Another worker stole it first, or its owner finished.
        if _look(aside) != before:
            # Between the look and the rename, its worker gave a sign of life, or the claim was stolen and made anew.
            # This worker gives it back.
            with suppress(FileExistsError):
                os.link(aside, self.folder / name)
            aside.unlink()
            return False
        log.warning("%s: its worker has not been heard of; taken over", name)
        aside.unlink()
        return claim.acquire(self.worker)


@dataclass(frozen=True)
class Holder:
    """The worker that holds a unit. look: changes with each of its heartbeats."""

    worker: str
    is_alive_here: bool
    """Whether the worker runs on this machine; False also where that cannot be known."""
    look: Look


class Claim:
    """A unit held by this worker until `release`, or until the process ends and others notice."""

    def __init__(self, path: Path, own: Path, beat_s: float) -> None:
        self._path, self._own, self._beat_s = path, own, beat_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, worker: str) -> bool:
        """Try once. Start the heartbeat when the attempt succeeds."""
        content = {"worker": worker, **this_process()}
        with told(self._own):
            self._own.write_text(json.dumps(content) + "\n", encoding="utf-8")
            # The answer of `link` may be lost on the way. The count of names is the truth.
        try:
            os.link(self._own, self._path)
        except OSError as error:
            if error.errno in _NO_LINKS:
                self._own.unlink()
                raise _no_links(self._path.parent, error) from error
        if self._own.stat().st_nlink != 2:
            self._own.unlink()
            return False
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return True

    def is_held(self) -> bool:
        """Whether the claim is still this worker's: it may have been taken over."""
        try:
            # The file is opened, because NFS looks again only then.
            with self._path.open("rb") as file:
                return os.fstat(file.fileno()).st_ino == self._own.stat().st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the unit back, done or not."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self.is_held():
            self._path.unlink(missing_ok=True)
        self._own.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_s):
            # The folder may be gone with the whole run. The work will then report that.
            with suppress(OSError), self._own.open("a", encoding="utf-8") as file:
                file.write(".")
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def hold_plan(claims: Claims, plan: str, before_another: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a folder to one plan while this worker works there. Workers with two plans would undo each other's results.

    plan: names inputs and settings. Any number of workers may work to the same plan. before_another: called when the
    folder was last filled to another plan and nobody works there. It raises when something would be lost.
    Raises: DataError when a worker with another plan is at work in the folder.
    """
    folder, path = claims.folder.parent, claims.folder / PLAN_NAME
    with _look_alone(claims):
        before = read_bytes(path, _LARGEST_PLAN_BYTES).decode(errors="replace") if path.is_file() else None
        others = [worker for worker in claims.holders() if worker != claims.worker]
        if before not in (None, plan) and others:
            raise DataError(
                f"{folder}: in use by {others[0]} with other settings or inputs; wait for it to end or choose another "
                f"output folder (if that process is gone, remove {claims.folder})"
            )
        if before != plan:
            before_another()
            write_atomic(path, plan)
        at_work = claims.take(f"{_AT_WORK}{claims.worker}")
    try:
        yield
    finally:
        if at_work is not None:
            at_work.release()


@contextmanager
def _look_alone(claims: Claims) -> Iterator[None]:
    """Let nobody else look at the plan between this worker's look and its note that it works to the plan."""
    while (claim := claims.take(_LOOKING)) is None:
        time.sleep(min(0.05, claims.beat_s))
    try:
        yield
    finally:
        claim.release()


def refuse_without_links(folder: Path, otherwise: str) -> None:
    """Report before the work that a folder cannot hold claims; `take` would find it out only after the work.

    otherwise: which option needs links, and what else to do.
    Raises: DataError when the file system of a folder has no hard links.
    """
    own = folder / f".link.{uuid.uuid4().hex[:8]}"
    try:
        own.touch()
        os.link(own, own.with_name(f"{own.name}.second"))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise _no_links(folder, error, f" ({otherwise})") from error
    finally:
        for path in (own, own.with_name(f"{own.name}.second")):
            path.unlink(missing_ok=True)


def share_work(
    names: Sequence[str], is_done: Callable[[str], bool], claims: Claims, description: str = "work", unit: str = "unit"
) -> Iterator[str]:
    """Yield units for this worker to do, one at a time, until every unit is done by somebody.

    The caller does the work before it asks for the next unit. All else is as in `take_work`.
    """
    for name, claim in take_work(names, is_done, claims, description, unit):
        try:
            yield name
        finally:
            claim.release()


def take_work(
    names: Sequence[str],
    is_done: Callable[[str], bool],
    claims: Claims,
    description: str = "work",
    unit: str = "unit",
    places: Callable[[str], Sequence[str | int]] = lambda name: (name,),
    again_after: Callable[[str], float] | None = None,
) -> Iterator[tuple[str, Claim]]:
    """Yield units and their claims until all units are done or taken here. The caller releases a claim after its unit.

    Workers begin at different places (rendezvous hashing), so they seldom want the same unit. While other workers hold
    all that is left, this one waits, and takes over from the dead. A progress bar counts units, whoever did them.
    places: what a unit shares with others, most costly to change first, and the unit itself last. Units that share a
    place come together. A number among the places is an order that all workers follow, least first.
    again_after: seconds after which a unit that another worker holds is done once more. One worker with nothing else to
    do does it, so that a slow worker does not keep all waiting. Use it only where a unit done twice is published once.
    """
    ordered = sorted(
        names,
        key=lambda name: [place if isinstance(place, int) else _rank(claims.worker, place) for place in places(name)],
    )
    # A dict keeps the order, and any one unit is removed at once.
    left = dict.fromkeys(ordered)
    held_since: dict[str, float] = {}
    bar = Progress(description, len(left), unit=unit)
    shortest_s = wait_s = min(0.05, claims.beat_s)
    while left:
        begun = len(left)
        for name in list(left):
            if not is_done(name):
                claim = claims.take(name)
                if claim is None:
                    held_since.setdefault(name, time.monotonic())
                    continue
                # Its holder finished the unit between the two looks.
                if is_done(name):
                    claim.release()
                else:
                    yield name, claim
            del left[name]
            bar.advance()
        if left and len(left) == begun and again_after is not None:
            late = [name for name in left if time.monotonic() - held_since[name] >= again_after(name)]
            again = next(((name, claim) for name in late if (claim := claims.take(f"again-{name}"))), None)
            if again is not None:
                log.info("%s: takes long where it is; done here as well", again[0])
                yield again
                del left[again[0]]
                bar.advance()
        if left and len(left) == begun:
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S, claims.stale_s / 4)
        else:
            wait_s = shortest_s
    bar.close()


def _look(path: Path) -> Look:
    # The time is compared as well: a deleted file's number is soon given to a new file, perhaps of the same size.
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _rank(worker: str, name: str) -> bytes:
    return hashlib.sha256(f"{worker}/{name}".encode()).digest()


def _worker_of(path: Path) -> str:
    return str(_said_in(path).get("worker", ""))


def _lives_here(path: Path) -> bool | None:
    """Whether a claim's process runs on this machine, so that beats need not be awaited; None where unknown."""
    return is_running_here(_said_in(path))


def _said_in(path: Path) -> dict[str, Any]:
    """What a claim says of its process; empty for any other file. Beats follow the first line."""
    with suppress(OSError, ValueError, IndexError):
        return parse_json(read_text(path).splitlines()[0])
    return {}


def _no_links(folder: Path, error: OSError, otherwise: str = "") -> DataError:
    return DataError(
        f"{folder}: this file system has no hard links ({error.strerror}), by which processes agree who does what; "
        f"choose a folder on another one{otherwise}"
    )
