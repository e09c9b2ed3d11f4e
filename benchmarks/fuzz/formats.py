"""Change every file format the product reads in thousands of ways, and hold each reader to its promise.

A reader may read what it is given, or refuse it in one line. It may not end in a traceback, die, take over 10 s, write
outside its output folder, change its input, or allocate over 2 GB. tests/test_fuzz.py says how many of each format;
`make prove-nothing-lost` has a row for each. Every mutation is a function of its format and number:

    python -m benchmarks.fuzz.formats --only "LoRA" --number 17      does one again, in this process
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

from benchmarks import REPOSITORY
from benchmarks.fuzz.targets import TARGETS, Sample
from benchmarks.fuzz.values import ESCAPED
from benchmarks.proofs.rows import memory_folder
from faceid.errors import LONGEST_LINE, FaceidError, one_line

SEED = 21
# Of the reader's own time, as other processes may have the machine; and while it stands still.
LONGEST_S, LONGEST_STILL_S = 10, 60
MOST_BYTES = 2 << 30
WORKERS = 2
# Mutations that are done again, with their files: none of any size stands in the repository.
FAILED = REPOSITORY / "outputs" / "fuzz_formats"
READ, REFUSED = "read", "refused"
# What a reader says when it could not get as much memory as a file asked for.
_NO_MEMORY = ("allocate", "bad_alloc", "out of memory", "MemoryError")


@dataclass
class FormatResult:
    """What became of a format's mutations. failures: number of the mutation, and what went wrong."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class WorkFolder:
    """Where one worker works. Only `out` may be written to; all else under `root` is looked at after each mutation."""

    root: Path

    @property
    def input(self) -> Path:
        """The folder that is read."""
        return self.root / "outer" / "inner" / "in"

    @property
    def out(self) -> Path:
        """The folder that a reader may write to."""
        return self.root / "outer" / "inner" / "out"

    def reset(self, sample: Sample, is_new: bool) -> None:
        """The input folder holds this and nothing else, the output folder nothing."""
        if is_new:
            shutil.rmtree(self.root, ignore_errors=True)
            self.input.mkdir(parents=True)
            (self.root / "outer" / "photo.jpg").write_bytes(b"a user's")
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        for name, data in sample.items():
            (self.input / name).parent.mkdir(parents=True, exist_ok=True)
            (self.input / name).write_bytes(data)

    def look(self) -> dict[str, tuple[int, int]]:
        """Size and time of everything but the output folder."""
        files = (path for path in self.root.rglob("*") if self.out not in (path, *path.parents))
        return {str(path): (status.st_size, status.st_mtime_ns) for path in files for status in [path.lstat()]}


def fuzz(name: str, count: int, work: Path, first: int = 0, workers: int = WORKERS) -> FormatResult:
    """`count` mutations of a format from number `first` on, in forked processes that end when one of them kills."""
    began, found = time.perf_counter(), FormatResult()
    with tempfile.TemporaryDirectory(dir=work) as folder:
        sample = TARGETS[name].make(Path(folder))
    with tempfile.TemporaryDirectory(dir=work) as folder:
        place = WorkFolder(Path(folder) / "whole")
        place.reset(sample, is_new=True)
        # A sample that is refused would make every mutation of it look well refused.
        TARGETS[name].read(place.input, place.out)
    shares = [list(range(first + at, first + count, workers)) for at in range(workers)]
    # A worker's connection, its process, what is left of its share.
    running = [_start(name, sample, work / f"worker_{at}", share) for at, share in enumerate(shares) if share]
    while running:
        ready = wait([connection for connection, *_ in running])
        for at, (connection, process, share, place) in reversed(list(enumerate(running))):
            if connection not in ready:
                continue
            try:
                number, outcome = connection.recv()
                share.remove(number)
            except EOFError:
                process.join()
                if not share:
                    del running[at]
                    continue
                # It died of the first that it has not told of.
                number, outcome = share.pop(0), _said_by_end(process.exitcode)
                running[at] = _start(name, sample, place, share)
            if outcome in (READ, REFUSED):
                found.outcomes[outcome] += 1
            else:
                found.failures[number] = outcome
                keep(name, sample, number, outcome)
    found.seconds = time.perf_counter() - began
    return found


def mutated(name: str, sample: Sample, number: int) -> Sample:
    """The files of a format's mutation that differ from the sample."""
    return TARGETS[name].mutate(Random(f"{SEED} {name} {number}"), sample)


def keep(name: str, sample: Sample, number: int, outcome: str) -> Path:
    """Leave a failing mutation's folder, and say where."""
    folder = FAILED / name.replace(" ", "_").replace("/", "_") / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    for file, data in {**sample, **mutated(name, sample, number)}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    again = f'python -m benchmarks.fuzz.formats --only "{name}" --number {number}'
    print(f"{name} {number} (seed {SEED}): {outcome.splitlines()[-1][:300]}\n    {folder}\n    {again}", flush=True)
    (folder / "FAILED.txt").write_text(f"{outcome}\n{again}\n", encoding="utf-8")
    return folder


def try_one(name: str, sample: Sample, number: int, place: WorkFolder) -> str:
    """Read one mutation: READ, REFUSED, or what is wrong with how it ended."""
    changed = mutated(name, sample, number)
    place.reset({**sample, **changed}, is_new=number < 0 or not place.input.is_dir())
    before = place.look()
    error = _read(name, place)
    # The next one begins with the sample.
    outcome = READ if error is None else _judge(error)
    if place.look() != before:
        outcome = f"wrote to {sorted(set(place.look().items()) ^ set(before.items()))[0][0]}"
    if os.path.lexists(ESCAPED):
        outcome = f"wrote to {ESCAPED}"
        with contextlib.suppress(OSError):
            os.unlink(ESCAPED)
    for file in set(changed) - set(sample):
        (place.input / file).unlink()
    return outcome


def _read(name: str, place: WorkFolder) -> BaseException | None:
    # At its end the process is killed, wherever it is: no handler runs within a call of C.
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_STILL_S)
    try:
        with _bounded_memory():
            TARGETS[name].read(place.input, place.out)
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
        return error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _judge(error: BaseException) -> str:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if any(isinstance(each, MemoryError) or any(word in str(each) for word in _NO_MEMORY) for each in chain):
        return f"asked for over {MOST_BYTES >> 30} GB: {type(error).__name__}: {str(error)[:200]}"
    if not isinstance(error, FaceidError):
        return "".join(traceback.format_exception(error))[-3_000:].strip()
    line = one_line(error)
    if not line.isprintable() or not line or len(line) > LONGEST_LINE + 40:
        return f"not one line that can be read: {line[:200]!r}"
    return REFUSED


def _start(name: str, sample: Sample, place: Path, share: list[int]) -> tuple[Connection, BaseProcess, list[int], Path]:
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(name, sample, place, list(share), sender))
    process.start()
    sender.close()
    return receiver, process, share, place


def _work(name: str, sample: Sample, root: Path, share: list[int], sender: Connection) -> None:
    """One process: in a folder, a home and a temporary folder of its own, with nothing to say."""
    place = WorkFolder(root)
    place.reset(sample, is_new=True)
    os.chdir(place.root / "outer")
    os.environ.update(HOME=str(place.root / "outer"), TMPDIR=str(place.out))
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for number in share:
        sender.send((number, try_one(name, sample, number, place)))
    sender.close()
    # Nothing of the parent's that it was forked with is to be ended here.
    os._exit(0)


def _said_by_end(code: int | None) -> str:
    if code == -signal.SIGPROF:
        return f"not done after {LONGEST_S} s"
    if code == -signal.SIGALRM:
        return f"stood still for {LONGEST_STILL_S} s"
    return f"the process died ({signal.Signals(-code).name if code and code < 0 else code})"


def main(argv: list[str]) -> int:
    """Do one mutation again, in this process, and show how it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(TARGETS), required=True, help="the format")
    parser.add_argument("--number", type=int, required=True, help="of the mutation")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=memory_folder()) as work:
        sample = TARGETS[given.only].make(Path(work))
        place = WorkFolder(Path(work) / "again")
        place.reset({**sample, **mutated(given.only, sample, given.number)}, is_new=True)
        try:
            TARGETS[given.only].read(place.input, place.out)
            print("read")
        except FaceidError as error:
            print(f"refused: {one_line(error)}")
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
