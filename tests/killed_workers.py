"""Workers over one folder, some of them killed while they work, until all end by themselves."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from warm_process import WarmProcess

LONGEST_S = 120


def holders(claims: Path) -> dict[int, str]:
    """Which unit of work each process id holds a claim of, as the claims say."""
    held = {}
    for claim in claims.glob("[!.]*"):
        # It may go while it is read, or be begun.
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            held[int(json.loads(claim.read_text(encoding="utf-8").splitlines()[0])["pid"])] = claim.name
    return held


def kill_at_work(
    begin: Callable[[], WarmProcess | subprocess.Popen],
    claims: Path,
    num_workers: int,
    num_kills: int,
    within_s: float,
    seed: int = 0,
) -> None:
    """Kill one that works again and again, each at a moment within `within_s` after one was seen at work.

    begin: starts a worker. claims: their folder of claims. Another begins in the place of the one that was killed.
    """
    chance = random.Random(seed)
    workers = [begin() for _ in range(num_workers)]
    deadline = time.monotonic() + LONGEST_S
    at_work: set[int] = set()

    def working() -> list[int]:
        at_work.update(holders(claims))
        return [place for place, worker in enumerate(workers) if worker.poll() is None and worker.pid in at_work]

    killed = 0
    while killed < num_kills:
        while not working():
            assert time.monotonic() < deadline and any(worker.poll() is None for worker in workers), "nobody works"
            time.sleep(0.002)
        time.sleep(chance.uniform(0, within_s))
        # It may have ended meanwhile, or end before the signal comes. Then another is looked for.
        if not (places := working()):
            continue
        victim = chance.choice(places)
        workers[victim].kill()
        killed += workers[victim].wait() == -signal.SIGKILL
        workers[victim] = begin()
    assert [worker.wait(LONGEST_S) for worker in workers] == [0] * num_workers
