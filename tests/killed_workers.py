"""Workers over one folder, some of them killed while they work, until all end by themselves."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from warm_process import WarmProcess

LONGEST_S = 120


def kill_at_work(
    begin: Callable[[], WarmProcess | subprocess.Popen], claims: Path, num_workers: int, num_kills: int, within_s: float
) -> None:
    """Kill a worker again and again, each at a moment within `within_s` after one has claimed its share of the work.

    begin: starts a worker. claims: their folder of claims. Another begins in the place of the one that was killed.
    """
    chance = random.Random(0)
    workers = [begin() for _ in range(num_workers)]
    deadline = time.monotonic() + LONGEST_S
    for _ in range(num_kills):
        while not list(claims.glob("at-work-*")):
            assert time.monotonic() < deadline and any(worker.poll() is None for worker in workers), "nobody works"
            time.sleep(0.002)
        time.sleep(chance.uniform(0, within_s))
        victim = chance.choice([place for place in range(num_workers) if workers[place].poll() is None])
        workers[victim].kill()
        assert workers[victim].wait() == -signal.SIGKILL
        workers[victim] = begin()
    assert [worker.wait(LONGEST_S) for worker in workers] == [0] * num_workers
