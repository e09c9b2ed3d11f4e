"""Check every node before a run, in seconds, for faults that would otherwise end it after hours.

Each process looks around itself, and all meet as training will. The main process compares, and prints a line for each
check: green, amber (look at it) or red (the job must not start). A check that hangs is red as well: a timer ends it.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from faceid.data.disk_space import GIB
from faceid.device import pick_device
from faceid.errors import FaceidError
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_atomic
from faceid.training.world.distributed import join_group
from faceid.training.world.launched import Launch, leave_meeting, meet

GREEN, AMBER, RED = "green", "amber", "red"
# Seconds. A check that hangs is ended after LONGEST_S. Usually python takes most of the time to read torch from the
# file server.
LONGEST_S, _USUAL_S = 60.0, 30.0
MEETING_TIMEOUT_S = 25.0
_WRITTEN_MIB, _REDUCED_MIB, _ROUNDS = 16, 64, 3
MIB = 2**20
# Limits (amber, red) of free space for runs, memory that processes share (a reader's batches go through it), a write,
# clocks, and an all-reduce.
_FREE_GIB, _SHARED_GIB, _WRITE_S, _CLOCK_S, _REDUCE_GB_PER_S = (20, 2), (1, 0.125), (5, 20), (1, 60), (0.5, 0.02)


@dataclass(frozen=True)
class Line:
    """The result of one check. level: green, amber or red."""

    level: str
    what: str
    found: str

    def __str__(self) -> str:
        return f"{self.level:<6} {self.what:<14} {self.found}"


@dataclass
class Report:
    """One process's view, in plain values that can be sent."""

    rank: int
    host: str
    write_s: float = 0.0
    write_error: str = ""
    free_gib: float = 0.0
    shared_gib: float = 0.0
    gpus: list[str] = field(default_factory=list)
    versions: dict[str, str | None] = field(default_factory=dict)
    clock_s: float = 0.0
    seen: bool = True
    """Whether the main process finds the file that this process wrote."""


def check_cluster(folder: Path, launch: Launch, expect_gpus: int) -> list[Line]:
    """Look, meet, compare. The lines are the same on every process.

    folder: the planned run's. expect_gpus: number that each node must show. The check takes LONGEST_S at most. A longer
    one is reported as red, and ends the process with exit code 2.
    """
    with _Timer(LONGEST_S, launch.rank) as timer:
        timer.at(f"writing into {folder}")
        proof = folder / f".preflight_{launch.attempt}_{launch.rank}"
        report = _look_around(folder, proof, launch.rank)
        try:
            if launch.processes == 1:
                return judge_reports([report], 1, 0.0, expect_gpus)
            if launch.rank == 0 and report.write_error:
                # The others look for its address in that folder: nobody would come.
                raise OSError(report.write_error)
            timer.at("meeting the other processes")
            device = pick_device(None)
            if device.type == "cuda":
                torch.cuda.set_device(device)
            store = meet(launch, wait_s=MEETING_TIMEOUT_S)
            join_group(store, launch.processes, timedelta(seconds=MEETING_TIMEOUT_S))
            leave_meeting(launch)
            timer.at("a first exchange with the other processes")
            reports = _exchange(report, proof, folder)
            timer.at("an all-reduce")
            reduce_s = _reduce_seconds(device)
            lines = judge_reports(reports, launch.processes, reduce_s, expect_gpus)
            dist.barrier()
            dist.destroy_process_group()
            return lines
        except (OSError, RuntimeError, FaceidError) as error:
            # Nobody can be asked for the others' views. OSError: the main process could not tell where to meet it.
            if report.write_error or isinstance(error, OSError):
                return [Line(RED, "run folder", f"{report.host}: {report.write_error or error}")]
            # torch raises RuntimeError for a connection that fails.
            said = " ".join(str(error).split())[:300]
            return [Line(RED, "network", f"{report.host}, process {launch.rank}: {timer.doing} failed: {said}")]
        finally:
            with suppress(OSError):
                proof.unlink()


def judge_reports(reports: Sequence[Report], processes: int, reduce_s: float, expect_gpus: int) -> list[Line]:
    """Compare the views of all processes. reduce_s: seconds that an all-reduce of 64 MiB took; 0 for none."""
    slowest = max(reports, key=lambda report: report.write_s)
    unwritten = [f"{report.host}: {report.write_error}" for report in reports if report.write_error]
    unseen = sorted({report.host for report in reports if not report.seen})
    if unwritten or unseen:
        not_shared = f"what {', '.join(unseen)} wrote is not there on {reports[0].host}: not one shared folder"
        lines = [Line(RED, "run folder", unwritten[0] if unwritten else not_shared)]
    else:
        found = f"{_WRITTEN_MIB} MiB written, flushed and renamed in {slowest.write_s:.2f} s at worst ({slowest.host})"
        lines = [Line(_above(slowest.write_s, *_WRITE_S), "run folder", found)]
    free, shared = min(reports, key=lambda r: r.free_gib), min(reports, key=lambda r: r.shared_gib)
    lines.append(Line(_below(free.free_gib, *_FREE_GIB), "free space", f"{free.free_gib:.1f} GiB for the run folder"))
    found = f"/dev/shm: {shared.shared_gib:.2f} GiB free at least ({shared.host})"
    lines.append(Line(_below(shared.shared_gib, *_SHARED_GIB), "shared memory", found))
    lines.append(_gpus(reports, expect_gpus))
    lines.append(_versions(reports))
    if processes > 1:
        first, last = min(reports, key=lambda r: r.clock_s), max(reports, key=lambda r: r.clock_s)
        skew = last.clock_s - first.clock_s
        found = f"{skew:.2f} s apart at most" + (f" ({last.host} before {first.host})" if skew > _CLOCK_S[0] else "")
        lines.append(Line(_above(skew, *_CLOCK_S), "clocks", found))
        # Every process sends and receives each byte, except for its own part.
        speed = 2 * (processes - 1) / processes * _REDUCED_MIB * MIB / reduce_s / 1e9
        found = f"{_REDUCED_MIB} MiB over {processes} processes in {reduce_s:.3f} s: {speed:.2f} GB/s"
        lines.append(Line(_below(speed, *_REDUCE_GB_PER_S), "all-reduce", found))
    return lines


def how_long(seconds: float) -> Line:
    """The line with the time of the check itself, with the start of python. It is never red, since it is over."""
    return Line(AMBER if seconds > _USUAL_S else GREEN, "time", f"{seconds:.1f} s")


def _look_around(folder: Path, proof: Path, rank: int) -> Report:
    report = Report(rank, socket.gethostname())
    try:
        began = time.perf_counter()
        # Written like every file of a run.
        write_atomic(proof, os.urandom(MIB) * _WRITTEN_MIB)
        report.write_s = time.perf_counter() - began
        report.free_gib = shutil.disk_usage(folder).free / GIB
    except OSError as error:
        report.write_error = f"{folder}: {error.strerror or error}"
    # Without this folder, processes share memory in another way.
    if Path("/dev/shm").is_dir():
        report.shared_gib = shutil.disk_usage("/dev/shm").free / GIB
    report.gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    provenance = describe_provenance()
    report.versions = {"python": provenance["python"], **provenance["versions"], "faceid": provenance["commit"]}
    return report


def _exchange(report: Report, proof: Path, folder: Path) -> list[Report]:
    """All reports, by rank. Clocks are read at one moment, and the main process looks for all files."""
    dist.barrier()
    report.clock_s = time.time()
    reports: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(reports, report)
    sent: list[Any] = [None]
    if report.rank == 0:
        # The folder is listed, because a query for a name alone may be answered from a cache.
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for other in reports:
            other.seen = bool(other.write_error) or proof.with_name(f"{proof.name[:-1]}{other.rank}").name in names
        sent = [reports]
    dist.broadcast_object_list(sent)
    return list(sent[0])


def _reduce_seconds(device: torch.device) -> float:
    """Seconds of one all-reduce, the best of a few. The first one also makes the connections."""
    values, best = torch.ones(_REDUCED_MIB * MIB // 4, device=device), float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        dist.all_reduce(values)
        values[0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    slowest = torch.tensor([best], device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return float(slowest.item())


def _gpus(reports: Sequence[Report], expected: int) -> Line:
    fewest = min(reports, key=lambda report: len(report.gpus))
    if len(fewest.gpus) < expected:
        return Line(RED, "GPUs", f"{fewest.host}: {len(fewest.gpus)} seen of {expected}; see nvidia-smi there")
    kinds = sorted({name for report in reports for name in report.gpus})
    level = AMBER if len(kinds) > 1 else GREEN
    return Line(level, "GPUs", f"{len(fewest.gpus)} on each node at least: {', '.join(kinds) or 'a CPU world'}")


def _versions(reports: Sequence[Report]) -> Line:
    for report in reports:
        for name, version in reports[0].versions.items():
            if report.versions.get(name) != version:
                mine, theirs = f"{reports[0].host} has {version}", f"{report.host} {report.versions.get(name)}"
                return Line(RED, "versions", f"{name}: {mine}, {theirs}; one environment for all nodes, please")
    versions = reports[0].versions
    return Line(GREEN, "versions", f"the same everywhere: python {versions['python']}, torch {versions['torch']}")


def _above(value: float, amber: float, red: float) -> str:
    return RED if value > red else AMBER if value > amber else GREEN


def _below(value: float, amber: float, red: float) -> str:
    return RED if value < red else AMBER if value < amber else GREEN


class _Timer:
    """Ends the process when a check takes too long, because a file server that hangs cannot be waited out."""

    def __init__(self, longest_s: float, rank: int, end: Callable[[int], None] = os._exit) -> None:
        self.doing, self._rank, self._end = "starting", rank, end
        self._timer = threading.Timer(longest_s, self._is_late)
        self._timer.daemon = True

    def __enter__(self) -> _Timer:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def at(self, doing: str) -> None:
        """Name the present activity."""
        self.doing = doing

    def _is_late(self) -> None:
        host = socket.gethostname()
        print(Line(RED, "time", f"{host}, process {self._rank}: {self.doing} takes over {LONGEST_S:.0f} s"), flush=True)
        self._end(2)
