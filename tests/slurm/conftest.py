"""A cluster for this process's tests."""

from __future__ import annotations

import pytest
from cluster import Cluster, reason_to_skip
from lab import Lab


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
