"""The loop stays short: what the last recorded run of all tests cost (`make test RECORD=1`)."""

from __future__ import annotations

import json

import pytest
from durations import MOST_CPU_S
from launching import REPOSITORY

from faceid.files.documents import read_json

RECORD = REPOSITORY / "benchmarks" / "records" / "tests.json"


@pytest.fixture(scope="module")
def record() -> dict:
    if not RECORD.is_file():
        pytest.skip("no run is recorded yet: make test RECORD=1")
    return read_json(RECORD)


def test_no_test_takes_over_20_cpu_seconds(record):
    assert {name: cost for name, cost in record["tests"].items() if cost["cpu_s"] > MOST_CPU_S} == {}


def test_what_takes_over_2_cpu_seconds_is_marked_slow(record):
    assert record["too_dear"] == []


def test_all_tests_take_under_12_minutes(record):
    assert record["tests_run"] > 3000 and record["run_wall_s"] < 12 * 60, json.dumps(record["machine"])
