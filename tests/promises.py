"""Promises are marks on tests: `make prove-*` runs the tests of one proof, and writes a row for each promise.

    @pytest.mark.promise("a new adapter changes nothing", bar="torch.equal", proof="main")

Several tests may hold one promise, and a test several. `pytest --proof main --proof_rows FILE` is what a proof runs;
FACEID_SIZES says how large (launching.py). A test that is too long for `make test` is marked as well:

    @pytest.mark.proof_only("a minute and a half", proof="main")
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launching import SIZES


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a proof asks for."""
    group = parser.getgroup("proofs")
    group.addoption("--proof", help="run the tests alone that hold a promise of this proof")
    group.addoption("--proof_rows", type=Path, help="the .json that a row for each promise is written to")


def pytest_configure(config: pytest.Config) -> None:
    """One process gathers the rows, however many run the tests."""
    file = config.getoption("--proof_rows")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(PromiseRows(file), "promise rows")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files without a promise of the proof alone: to import all of them takes half a minute."""
    proof = config.getoption("--proof")
    if proof is None or collection_path.suffix != ".py":
        return None
    return f'proof="{proof}"' not in collection_path.read_text(encoding="utf-8") or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the tests of the proof, and leave out what is too long for the size at hand."""
    for item in items:
        for mark in item.iter_markers("proof_only"):
            _leave_to_its_proof(item, *mark.args, **mark.kwargs)
    proof = config.getoption("--proof")
    if proof is None:
        return
    for item in items:
        item.user_properties += [("promise", promise) for promise in promises_of(item, proof)]
    left_out = [item for item in items if not item.user_properties]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.user_properties]


def _leave_to_its_proof(item: pytest.Item, why: str, proof: str, full: bool = False) -> None:
    """Skip a test but in its proof. full: but with FULL=1."""
    if not any(mark.kwargs["proof"] == proof for mark in item.iter_markers("promise")):
        raise pytest.UsageError(f"{item.nodeid}: is left to make prove-{proof}, and holds no promise of it")
    item.add_marker(pytest.mark.slow)
    if SIZES == "tests" or (full and SIZES != "full"):
        item.add_marker(pytest.mark.skip(reason=f"{why}: in make prove-{proof}{' FULL=1' if full else ''}"))


def promises_of(item: pytest.Item, proof: str) -> Iterator[dict[str, Any]]:
    """What a test promises in a proof at the size at hand."""
    for mark in item.iter_markers("promise"):
        if mark.kwargs["proof"] == proof:
            yield from _promise(*mark.args, **mark.kwargs)


def _promise(
    text: str, *, bar: str, proof: str, full: bool = False, longest_s: float | None = None
) -> Iterator[dict[str, Any]]:
    """full: a promise of FULL=1 alone. longest_s: that its tests may take together."""
    if SIZES == "full" or not full:
        yield {"promise": text, "bar": bar, "longest_s": longest_s}


class PromiseRows:
    """What became of each promise: gathered while the tests run, written at their end."""

    def __init__(self, file: Path) -> None:
        """file: the .json to write."""
        self.file = file
        self.reports: dict[str, list[pytest.TestReport]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep it: set-up, call and tear-down of a test each have one."""
        self.reports.setdefault(report.nodeid, []).append(report)

    def pytest_sessionfinish(self) -> None:
        """Write a row for each promise, in the order in which the tests ran."""
        tests: dict[str, dict[str, list[pytest.TestReport]]] = {}
        promises: dict[str, dict[str, Any]] = {}
        for name, reports in self.reports.items():
            for promise in _properties(reports, "promise"):
                promises[promise["promise"]] = promise
                tests.setdefault(promise["promise"], {})[name] = reports
        rows = [judge(promise, tests[text]) for text, promise in promises.items()]
        self.file.write_text(json.dumps(rows), encoding="utf-8")


def judge(promise: dict[str, Any], tests: dict[str, list[pytest.TestReport]]) -> dict[str, Any]:
    """The row of a promise: what its tests say of it, and the figures they measured."""
    reports = [report for found in tests.values() for report in found]
    seconds = sum(report.duration for report in reports)
    failed = [name for name, found in tests.items() if any(report.failed for report in found)]
    skipped = [report for report in reports if report.skipped]
    figures = [figure for found in tests.values() for figure in _properties(found, "measured")]
    passed = f"{len(tests) - len(failed) - len(skipped)} of {len(tests)} checks pass"
    verdict, measured = "holds", "; ".join(dict.fromkeys(figures)) or passed
    is_late = promise["longest_s"] is not None and seconds > promise["longest_s"]
    if failed or is_late:
        verdict = "falls short"
        measured += f"; failed: {', '.join(name.split('::')[-1] for name in failed)}" if failed else ""
    elif len(skipped) == len(tests):
        verdict, measured = "not shown", f"skipped: {_reason(skipped[0])}"
    row = {"promise": promise["promise"], "bar": promise["bar"], "measured": measured, "verdict": verdict}
    return {**row, "seconds": round(seconds, 1)}


def _properties(reports: list[pytest.TestReport], name: str) -> list[Any]:
    """Of a test. Each of its reports has those of the one before."""
    return [value for key, value in reports[-1].user_properties if key == name]


def _reason(report: pytest.TestReport) -> str:
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return why.removeprefix("Skipped: ")
