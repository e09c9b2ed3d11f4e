"""Who does which unit of work, among processes on many machines that share nothing but a folder. No server, no locks.

A claim is a hard link made to a file of the claimant's own: the link either comes to exist or does not, on NFS too,
and the file's link count says which (open(2), NOTES). The claimant's heartbeat makes the file grow; another worker
judges it dead when it has seen the same size for long enough on its own clock, so no two clocks are compared. Stealing
renames the claim away; only one can. A worker that was slow and not dead may still finish what another does again: so
a unit's result must be published whole, under one name, with the same bytes whoever makes it. Work at least once,
result once.
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

from faceid.errors import DataError
from faceid.files.documents import parse_json, read_bytes, read_text
from faceid.files.writing import ABANDONED_S, make_parents, sweep, told, write_atomic
from faceid.logs import Progress
from faceid.processes import is_running_here, this_process

log = logging.getLogger(__name__)

# Where a folder that several processes fill keeps them.
CLAIMS_NAME, PLAN_NAME = ".claims", ".plan"
BEAT_S = 10.0
# Missed beats before a worker is taken for dead: longer than a file server blocks now and then.
STALE_BEATS = 12
# Doubles up to this while others hold all that is left.
LONGEST_WAIT_S = 5.0

# What a worker holds while it works to a folder's plan, and what it holds for a moment to look at the plan alone.
_AT_WORK, _LOOKING = "at-work-", "looking-at-the-plan"

# A plan names every unit of a folder's work.
_LARGEST_PLAN_BYTES = 1 << 30

# What tells that a claim's file is the same and has not grown: number, size, time.
Look = tuple[int, int, int]
# What `link` answers where a file system has no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@dataclass
class Claims:
    """One worker's view of a folder of claims. worker: a name of its own; others' claims are told apart by it."""

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

        is_over: whether a worker (by its name) is known to have ended, so that nothing need be waited for.
        """
        claim = Claim(self.folder / name, self.folder / f".{self.worker}.{uuid.uuid4().hex[:8]}", self.beat_s)
        if claim.acquire(self.worker) or (self._is_stale(name, is_over) and self._steal(name, claim)):
            return claim
        return None

    def holder(self, name: str) -> Holder | None:
        """Who holds a unit now; None when nobody does."""
        try:
            look = _look(self.folder / name)
        except FileNotFoundError:
            return None
        return Holder(_worker_of(self.folder / name), _lives_here(self.folder / name) is True, look)

    def holders(self) -> list[str]:
        """The workers that hold a unit, but for those that ran here and are gone."""
        held = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        return sorted({worker for path in held if _lives_here(path) is not False and (worker := _worker_of(path))})

    def _sweep_claims(self) -> None:
        """Remove what killed workers left: their own names of claims, and their word that they work to a plan.

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
            return False  # Another thief was first, or its owner finished.
        if _look(aside) != before:
            # Between looking and renaming its worker was heard of, or it was stolen and claimed anew: give it back.
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
    """Whether it runs on this machine; False also where that cannot be known."""
    look: Look


class Claim:
    """A unit held by this worker until `release`, or until the process ends and others notice."""

    def __init__(self, path: Path, own: Path, beat_s: float) -> None:
        self._path, self._own, self._beat_s = path, own, beat_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, worker: str) -> bool:
        """Try once; starts the heartbeat when it succeeds."""
        content = {"worker": worker, **this_process()}
        with told(self._own):
            self._own.write_text(json.dumps(content) + "\n", encoding="utf-8")
        # Whatever link says (an answer may be lost on the way): the count of names is the truth.
        try:
            os.link(self._own, self._path)
        except OSError as error:
            if error.errno in _NO_LINKS:
                self._own.unlink()
                raise DataError(
                    f"{self._path.parent}: this file system has no hard links ({error.strerror}), by which processes "
                    "agree who does what; choose a folder on another one"
                ) from error
        if self._own.stat().st_nlink != 2:
            self._own.unlink()
            return False
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return True

    def is_held(self) -> bool:
        """Whether the claim is still this worker's: it may have been taken over."""
        try:
            # Opened, not only asked for: that is when NFS looks again.
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
            # The folder may be gone with the whole run; the work will say so.
            with suppress(OSError), self._own.open("a", encoding="utf-8") as file:
                file.write(".")
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def hold_plan(claims: Claims, plan: str, before_another: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a folder to one plan while this worker is at work there: two would take turns at making each other's anew.

    plan: names inputs and settings; any number of workers may work to one. before_another: asked when the folder was
    last filled to another plan, and nobody works there; raises when something would be lost.
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
    """Between a look at the plan and the word that one works to it, nobody else may look."""
    while (claim := claims.take(_LOOKING)) is None:
        time.sleep(min(0.05, claims.beat_s))
    try:
        yield
    finally:
        claim.release()


def refuse_without_links(folder: Path, otherwise: str) -> None:
    """Say before the work what `take` would find out after it.

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
        raise DataError(
            f"{folder}: this file system has no hard links ({error.strerror}), by which processes agree who does what; "
            f"choose a folder on another one ({otherwise})"
        ) from error
    finally:
        for path in (own, own.with_name(f"{own.name}.second")):
            path.unlink(missing_ok=True)


def share_work(
    names: Sequence[str], is_done: Callable[[str], bool], claims: Claims, description: str = "work", unit: str = "unit"
) -> Iterator[str]:
    """Yield units for this worker to do, one at a time, until every unit is done by somebody.

    The caller does the work before it asks for the next. Otherwise as `take_work`.
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
    """Yield units and their claims, which the caller releases when the unit is done, until all are done or taken here.

    Workers begin at different places (rendezvous hashing), so they seldom want the same unit. While others hold all
    that is left, this one waits, and takes over from the dead. A bar counts units, whoever did them.
    places: what a unit shares with others, most costly to change first, and itself last: units that share it come
    together. A number among them is an order that all workers follow, least first. again_after: seconds after which a
    unit that another worker holds is done once more, by one worker that has nothing else to do: a slow worker must not
    keep all waiting. Only where a unit that is done twice is published once.
    """
    ordered = sorted(
        names,
        key=lambda name: [place if isinstance(place, int) else _rank(claims.worker, place) for place in places(name)],
    )
    # Ordered, and any one is taken out at once.
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
                # Done by its holder between the two looks.
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
    # With the time: a number of a file that is gone is soon given to a new one, of the same size.
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _rank(worker: str, name: str) -> bytes:
    return hashlib.sha256(f"{worker}/{name}".encode()).digest()


def _worker_of(path: Path) -> str:
    try:
        return str(parse_json(read_text(path).splitlines()[0])["worker"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return ""


def _lives_here(path: Path) -> bool | None:
    """Whether a claim's process is running: no need to wait for beats then. None where that cannot be known."""
    try:
        return is_running_here(parse_json(read_text(path).splitlines()[0]))
    except (OSError, ValueError, IndexError):
        return None
