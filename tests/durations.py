"""What each test costs: CPU seconds of its process and of those it started, and wall seconds. A plugin of pytest.

Inputs that tests share count for themselves and not for the test that happens to come first. A run ends with its ten
dearest tests. `--record_durations FILE` writes all of them down: benchmarks/records/tests.json is from `make test`.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import warm_process

from faceid.files.provenance import describe_provenance
from faceid.files.writing import json_text

# Cheaper tests are written down as a sum for each file.
LEAST_CPU_S = 0.2
SHOWN = 10
# What the record calls the sums of cheaper tests.
OF_FILES = f"files, of their tests under {LEAST_CPU_S} CPU s"
# Of a test, and of one that `make quick` takes, on a quiet machine.
MOST_CPU_S, MOST_QUICK_CPU_S = 20.0, 2.0
# Marks that `make quick` leaves out.
NOT_QUICK = ("slow", "starts_process", "slurm")


@dataclass
class Cost:
    """Of a test, or of an input that tests share."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s - other.cpu_s, self.wall_s - other.wall_s)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s)

    def rounded(self) -> dict[str, float]:
        return {"cpu_s": round(self.cpu_s, 2), "wall_s": round(self.wall_s, 2)}


@dataclass(eq=False)
class Durations:
    """Of all tests. As one of two processes it hands its own on, in the reports of its tests."""

    began: float = field(default_factory=time.perf_counter)
    shared: Cost = field(default_factory=Cost)
    """Since a test began, of inputs that outlive it."""
    test_began: Cost = field(default_factory=Cost)
    tests: dict[str, Cost] = field(default_factory=dict)
    inputs: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    too_dear: list[str] = field(default_factory=list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, Any, Any]:
        self.test_began, self.shared = now(), Cost()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, Any, Any]:
        before, shared_before = now(), self.shared
        result = yield
        self._count_server(request.node.config)
        if fixturedef.scope != "function":
            # Without those it asked for meanwhile.
            own = now() - before - (self.shared - shared_before)
            self.shared += own
            request.node.config.stash.setdefault(_OWN, []).append((fixturedef.argname, own))
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Generator[None, Any, Any]:
        report = yield
        self._count_server(item.config)
        if call.when == "teardown":
            own = now() - self.test_began - self.shared
            given = [(name, cost.cpu_s, cost.wall_s) for name, cost in item.config.stash.get(_OWN, [])]
            item.config.stash[_OWN] = []
            is_left_out = any(map(item.get_closest_marker, NOT_QUICK))
            report.user_properties.append(("durations", [own.cpu_s, own.wall_s, is_left_out, given]))
        return report

    def _count_server(self, config: Any) -> None:
        """The warm server starts when it is first needed. Its CPU seconds are not among those of ended processes."""
        cpu_s, wall_s = warm_process.server_cost
        if wall_s:
            warm_process.server_cost[:] = 0.0, 0.0
            self.shared += Cost(0.0, wall_s)
            config.stash.setdefault(_OWN, []).append(("warm server", Cost(cpu_s, wall_s)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        for name, value in report.user_properties:
            if name == "durations" and report.when == "teardown":
                cpu_s, wall_s, is_left_out, given = value
                self.tests[report.nodeid] = Cost(cpu_s, wall_s)
                if cpu_s > (MOST_CPU_S if is_left_out else MOST_QUICK_CPU_S):
                    self.too_dear.append(report.nodeid)
                for fixture, *cost in given:
                    self.inputs[fixture] += Cost(*cost)

    def pytest_terminal_summary(self, terminalreporter: Any, config: Any) -> None:
        if len(self.tests) > SHOWN:
            terminalreporter.section(f"{SHOWN} dearest tests, CPU s and wall s")
            for name, cost in sorted(self.tests.items(), key=lambda row: -row[1].cpu_s)[:SHOWN]:
                terminalreporter.line(f"{cost.cpu_s:6.1f} {cost.wall_s:6.1f}  {name}{_mark(name in self.too_dear)}")
        if path := config.getoption("record_durations"):
            Path(path).write_text(json_text(self.record()), encoding="utf-8")

    def record(self) -> dict[str, Any]:
        """What is written down: the machine, sums, and each test that costs something, the dearest first."""
        whole = sum([*self.tests.values(), *self.inputs.values()], Cost())
        made = describe_provenance()
        rest: dict[str, Cost] = defaultdict(Cost)
        for name, cost in self.tests.items():
            if cost.cpu_s < LEAST_CPU_S:
                rest[name.partition("::")[0]] += cost
        dear = {name: cost for name, cost in self.tests.items() if cost.cpu_s >= LEAST_CPU_S}
        return {
            "command": made["command"],
            "time": made["time"],
            "commit": made["commit"],
            "machine": {**made["machine"], "processor": _processor(), "loop_cpu_s": round(loop_cpu_s(), 2)},
            "tests_run": len(self.tests),
            "run_wall_s": round(time.perf_counter() - self.began, 1),
            "cpu_s": round(whole.cpu_s, 1),
            "too_dear": sorted(self.too_dear),
            "tests": _dearest_first(dear),
            "shared_inputs": _dearest_first(self.inputs),
            OF_FILES: _dearest_first(rest),
        }


_OWN: pytest.StashKey[list[tuple[str, Cost]]] = pytest.StashKey()


def _mark(is_too_dear: bool) -> str:
    return f"  (over {MOST_CPU_S:.0f} s, or over {MOST_QUICK_CPU_S:.0f} s and in make quick)" if is_too_dear else ""


def now() -> Cost:
    """Spent until now by this process, by its children that ended, and by what its warm server forked."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return Cost(sum(use.ru_utime + use.ru_stime for use in used) + warm_process.spent_s(), time.perf_counter())


def loop_cpu_s() -> float:
    """CPU seconds of a fixed loop, to hold figures of two machines, or of two hours, against each other."""
    began = time.process_time()
    sum(number * number for number in range(5_000_000))
    return time.process_time() - began


def _dearest_first(costs: dict[str, Cost]) -> dict[str, dict[str, float]]:
    return {name: cost.rounded() for name, cost in sorted(costs.items(), key=lambda row: -row[1].cpu_s)}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--record_durations", help="write what each test costs into this JSON file")


def pytest_configure(config: Any) -> None:
    config.pluginmanager.register(Durations(), "durations_of_tests")
