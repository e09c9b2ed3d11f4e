"""A cluster for this process's tests."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, reason_to_skip
from lab import Lab
from long_run import submit


@pytest.fixture(scope="session")
def cluster():
    """Three nodes; gone when the tests are over."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(f"no Slurm cluster here: {reason}")
    made = Cluster(nodes=3)
    yield made
    made.stop()


@pytest.fixture
def lab(cluster, toy_inputs, tmp_path) -> Lab:
    """The cluster idle and whole, and a folder of its own for the test."""
    yield Lab(cluster, tmp_path, toy_inputs)
    cluster.run("scancel", "--user", "root", expect=None)
    for node in ("n1", "n2", "n3"):
        cluster.plug_in(node)
        if not cluster.is_up(node):
            cluster.start_node(node)
    cluster.wait_idle(60)


@pytest.fixture
def make_lab(cluster, toy_inputs, tmp_path) -> Iterator[Callable[..., Lab]]:
    """Makes further clusters, of other settings (of Cluster), for one test. Only where the usual one can be made."""
    made: list[Cluster] = []

    def make(**settings: Any) -> Lab:
        # A folder each: they all count their jobs from 1.
        folder = tmp_path / f"cluster {len(made)}"
        folder.mkdir()
        made.append(Cluster(**settings))
        return Lab(made[-1], folder, toy_inputs)

    yield make
    for each in made:
        each.stop()


@pytest.fixture(scope="session")
def undisturbed(cluster, toy_inputs, tmp_path_factory) -> Path:
    """The run of long_run.py, to which nothing happens: one for all processes of these tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    folder.mkdir(exist_ok=True)
    run = folder / "run"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / "face_lora_final.safetensors").exists():
            lab = Lab(cluster, folder, toy_inputs)
            lab.wait(submit(lab, run))
    return run
