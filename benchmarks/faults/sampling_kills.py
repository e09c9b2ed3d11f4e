"""Workers over one folder that are killed, stopped and slow; what they publish beside what one quiet process makes.

Kills fall at random moments of the whole run. One worker is stopped while it holds a job, for longer than its claim's
lease, and then goes on; one takes ten times as long for every job. A thread looks at the folder all the time: whatever
stands under a final name must have the quiet run's bytes at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from adapter_inputs import EMBEDDING_DIM, write_adapter
from killed_workers import holders
from written_identities import write_identity

from benchmarks.faults.sampling_workers import Manner, begin_worker, write_pose
from faceid.claims import BEAT_S, STALE_BEATS
from faceid.models.adapter_settings import AdapterSettings

SMALL_ADAPTER = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4)
SLOWNESS = 10.0
LONGEST_RUN_S = 1500.0
LONGEST_DELAY_S = 0.3
# Past the lease by more than a look of the others at it.
STOPPED_LEASES = 1.2
# The slow one and the stopped one, by their place.
SLOW, STOPPED = 0, 1


@dataclass(frozen=True)
class Inputs:
    """What is rendered: words of sample.py's command line without the output folder."""

    words: list[str]
    num_jobs: int

    @classmethod
    def make(cls, folder: Path, num_jobs: int, num_steps: int) -> Inputs:
        """Jobs of several poses, two people and several seeds."""
        people, poses = ("anna", "bob"), max(4, num_jobs // 50)
        names = [write_pose(folder / f"p{seed}_pose.mp4", seed).name for seed in range(poses)]
        for seed, name in enumerate(people):
            write_identity(folder / "people" / name, seed, EMBEDDING_DIM)
        write_adapter(folder / "adapter.safetensors", SMALL_ADAPTER)
        seeds = -(-num_jobs // (poses * len(people)))
        jobs = [{"pose": p, "identity": who, "seed": seed} for seed in range(seeds) for p in names for who in people]
        (folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs[:num_jobs]))
        words = f"--batch --jobs {folder}/jobs.jsonl --face_lora_path {folder}/adapter.safetensors "
        words += f"--identities_dir {folder}/people --num_inference_steps {num_steps} --cfg_scale 2 --device cpu "
        return cls((words + "--gallery false").split(), num_jobs)


@dataclass
class Killed:
    """What was done to the workers, and what came of it."""

    jobs: int = 0
    kills: int = 0
    kills_in_a_job: int = 0
    stopped_in_a_job: bool = False
    stopped_s: float = 0.0
    lease_s: float = 0.0
    taken_over: int = 0
    """Claims that were stolen from who did not beat any more, or was dead."""
    done_again: int = 0
    """Jobs that a worker without work began besides who held them."""
    attempts: int = 0
    double_renders: int = 0
    """Rendered to the end though somebody else had."""
    missing: list[str] = field(default_factory=list)
    other_bytes: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    seen_broken: list[str] = field(default_factory=list)
    """Files under a final name that were once not what they should be."""
    looks: int = 0
    exit_codes: list[int] = field(default_factory=list)
    errors: int = 0
    left_over: list[str] = field(default_factory=list)
    quiet_s: float = 0.0
    seconds: float = 0.0

    @property
    def wasted(self) -> int:
        """Tries that published nothing: killed in the middle, or another was first."""
        return self.attempts - self.jobs


class _Watch(threading.Thread):
    """Looks at every published file as soon as it is there, and at every try."""

    def __init__(self, out: Path, expected: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.out, self.expected, self.over = out, expected, threading.Event()
        self.broken: set[str] = set()
        self.attempts: set[str] = set()
        self.looks = 0
        self._seen: dict[str, tuple[int, int, int]] = {}

    def run(self) -> None:
        """Until `over`, and once more."""
        while not self.over.wait(0.02):
            self.look()
        self.look()

    def look(self) -> None:
        """Hash what is new or has changed."""
        self.looks += 1
        self.attempts |= {path.name for path in (self.out / ".jobs" / "attempts").glob("*/[!.]*.json")}
        for name in _published(self.out):
            status = (self.out / name).stat()
            mark = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._seen.get(name) != mark:
                self._seen[name] = mark
                if _sha256(self.out / name) != self.expected.get(name):
                    self.broken.add(name)


def kill_workers(
    work: Path, num_workers: int, num_jobs: int, num_kills: int, num_steps: int, lease_s: float | None, seed: int
) -> Killed:
    """Render quietly with one, then with many that are hurt. lease_s: of the claims; None for the shipped one."""
    inputs = Inputs.make(work / "inputs", num_jobs, num_steps)
    began = time.perf_counter()
    quiet = begin_worker([*inputs.words, "--output_dir", work / "quiet"], work / "quiet.log")
    quiet.join(LONGEST_RUN_S)
    if quiet.exitcode != 0:
        raise RuntimeError(f"the quiet run: exit {quiet.exitcode}\n{(work / 'quiet.log').read_text()[-3000:]}")
    found = Killed(jobs=num_jobs, quiet_s=time.perf_counter() - began, lease_s=lease_s or BEAT_S * STALE_BEATS)
    expected = {name: _sha256(work / "quiet" / name) for name in _published(work / "quiet")}
    began = time.perf_counter()
    watch = _Watch(work / "out", expected)
    watch.start()
    crew = _Crew(inputs, work, num_workers, lease_s, found)
    crew.hurt(num_kills, random.Random(seed))
    found.exit_codes = crew.finish()
    found.seconds = time.perf_counter() - began
    watch.over.set()
    watch.join()
    _compare(found, work, expected, watch)
    return found


class _Crew:
    """The workers of one folder."""

    def __init__(self, inputs: Inputs, work: Path, num_workers: int, lease_s: float | None, found: Killed) -> None:
        self.inputs, self.work, self.lease_s, self.found = inputs, work, lease_s, found
        self.out = work / "out"
        self.claims = self.out / ".jobs" / "claims"
        self.workers = [self._begin(place) for place in range(num_workers)]
        self._stopped_at: float | None = None
        self._until = time.monotonic() + LONGEST_RUN_S

    def hurt(self, num_kills: int, generator: random.Random) -> None:
        """Kill, at moments spread over the run; the stop comes early, so that the others outlast the lease."""
        last = 0.95 * self.inputs.num_jobs
        for moment in sorted(generator.uniform(0, last) for _ in range(num_kills)):
            while self._num_done() < moment and self._is_at_work():
                self._stop_or_continue()
                self._sleep(0.01)
            self._sleep(generator.uniform(0, LONGEST_DELAY_S))
            places = [place for place, worker in enumerate(self.workers) if worker.is_alive()]
            places = [place for place in places if place != STOPPED or self.found.stopped_s]
            if not places or not self._is_at_work():
                break
            self._kill(generator.choice(places))

    def finish(self) -> list[int]:
        """Wait until all have ended by themselves; their exit codes."""
        while any(worker.is_alive() for worker in self.workers):
            self._stop_or_continue()
            self._sleep(0.01)
        return [worker.exitcode if worker.exitcode is not None else -1 for worker in self.workers]

    def _begin(self, place: int) -> BaseProcess:
        manner = Manner(slowness=SLOWNESS if place == SLOW else 1.0, lease_s=self.lease_s)
        return begin_worker([*self.inputs.words, "--output_dir", self.out], self.work / "workers.log", manner)

    def _kill(self, place: int) -> None:
        worker = self.workers[place]
        is_in_a_job = worker.pid in holders(self.claims)
        worker.kill()
        worker.join()
        # It may have ended by itself between the look and the kill.
        if worker.exitcode == -signal.SIGKILL:
            self.found.kills += 1
            self.found.kills_in_a_job += is_in_a_job
            self.workers[place] = self._begin(place)

    def _stop_or_continue(self) -> None:
        worker, lease_s = self.workers[STOPPED], self.found.lease_s
        if worker.pid is None or self.found.stopped_s:
            return
        if self._stopped_at is None:
            # In the middle of a job, and not its first: it has seen what others do.
            if worker.is_alive() and worker.pid in holders(self.claims) and self._num_done() > len(self.workers):
                os.kill(worker.pid, signal.SIGSTOP)
                self._stopped_at = time.monotonic()
                self.found.stopped_in_a_job = worker.pid in holders(self.claims)
        elif time.monotonic() - self._stopped_at > STOPPED_LEASES * lease_s:
            os.kill(worker.pid, signal.SIGCONT)
            self.found.stopped_s = time.monotonic() - self._stopped_at

    def _num_done(self) -> int:
        return len(_names(self.out / ".jobs" / "done"))

    def _is_at_work(self) -> bool:
        return self._num_done() < self.inputs.num_jobs

    def _sleep(self, seconds: float) -> None:
        if time.monotonic() > self._until:
            for worker in self.workers:
                worker.kill()
            raise TimeoutError(f"{self.out}: not done after {LONGEST_RUN_S:g} s; see {self.work / 'workers.log'}")
        time.sleep(seconds)


def _compare(found: Killed, work: Path, expected: dict[str, str], watch: _Watch) -> None:
    out, log = work / "out", (work / "workers.log").read_text(encoding="utf-8", errors="replace")
    there = {name: _sha256(out / name) for name in _published(out)}
    found.missing = sorted(expected.keys() - there.keys())
    found.unexpected = sorted(there.keys() - expected.keys())
    found.other_bytes = sorted(name for name in there.keys() & expected.keys() if there[name] != expected[name])
    found.seen_broken, found.looks = sorted(watch.broken), watch.looks
    found.attempts = len(watch.attempts)
    found.taken_over = log.count("has not been heard of; taken over")
    found.done_again = log.count("done here as well")
    finished = Counter(re.findall(r"(\S+\.mp4) in [\d.]+ s$", log, re.MULTILINE))
    found.double_renders = sum(count - 1 for count in finished.values())
    rows = [json.loads(line) for line in (out / "jobs.jsonl").read_text(encoding="utf-8").splitlines()]
    found.errors = sum(bool(row["error"]) for row in rows)
    found.left_over = [path.name for path in out.rglob("*.tmp") if ".jobs" not in path.parts]
    found.left_over += [name for name in _names(out / ".jobs" / "claims") if not name.startswith("again-")]


def _published(folder: Path) -> list[str]:
    """Videos under a final name."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*.mp4") if not path.name.startswith(".")]


def _names(folder: Path) -> list[str]:
    """Of files that are no temporary ones."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
