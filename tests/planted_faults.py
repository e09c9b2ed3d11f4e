"""Plant each known fault in a copy of the tree, run the one test that should notice it, and say whether it did.

`python tests/planted_faults.py [--only NAME ...]`, by hand, weekly, or in `make prove-nothing-lost`. The faults are in
planted_faults.yaml: a file, what stands there, what a careless change would make of it, and the test that must fail.
A fault that nobody notices is a promise without a test.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue
from xml.etree import ElementTree

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".yaml")
# pytest's own: 1 is a failed test; 2 to 5 are that it did not run.
FAILED = 1
# Of a test of under 10 s with the inputs it shares, on a busy machine.
LONGEST_S = 180


@dataclass(frozen=True)
class PlantedFault:
    """One careless change. old occurs once in file. test: what pytest is given (a node id, or files and -k), of
    under 10 s on a quiet machine."""

    name: str
    file: str
    old: str
    new: str
    test: str


@dataclass(frozen=True)
class Outcome:
    """What became of one. noticed: the test failed with the fault; None where it could not be run."""

    fault: PlantedFault
    noticed: bool | None
    seconds: float
    """Of all: start, imports, inputs that tests share, and the test."""
    test_s: float
    """Of the longest test that failed, or of the longest where none did, as pytest counts it."""
    said: str = ""


def read_faults() -> list[PlantedFault]:
    """The list, in its order. Raises: ValueError when two have one name."""
    faults = [PlantedFault(**entry) for entry in yaml.safe_load(LIST.read_text(encoding="utf-8"))]
    if len({fault.name for fault in faults}) < len(faults):
        raise ValueError(f"{LIST}: two faults of one name")
    return faults


def copy_tree(target: Path) -> None:
    """The tracked files as they are on disk now, and a link to the data beside the repository."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        if name and (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)


def plant(fault: PlantedFault, tree: Path) -> str:
    """Change the file and return what it was. Raises: ValueError when `old` does not occur just once."""
    file = tree / fault.file
    whole = file.read_text(encoding="utf-8")
    if whole.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.file} has {whole.count(fault.old)} times {fault.old!r}; needs one")
    file.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    return whole


def look(fault: PlantedFault, tree: Path) -> Outcome:
    """Plant one fault, run its test, and take the fault out again."""
    began = time.perf_counter()
    whole = plant(fault, tree)
    try:
        code, test_s, said = run_test(fault.test, tree)
    finally:
        (tree / fault.file).write_text(whole, encoding="utf-8")
    noticed = {FAILED: True, 0: False}.get(code)
    return Outcome(fault, noticed, time.perf_counter() - began, test_s, said if noticed is None else "")


def run_test(test: str, tree: Path) -> tuple[int, float, str]:
    """pytest's exit code, the seconds of the test that failed (else of the longest), and the end of what it said."""
    report = tree.with_suffix(".xml")
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("FACEID_REAL_DATA", str(REPOSITORY.parent / "shared" / "data"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--junitxml={report}",
        # Without the inputs that tests share, which the first of them makes.
        "--override-ini=junit_duration_report=call",
        *shlex.split(test),
    ]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, errors="replace", timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        # It may only have been slow: a test that is to notice a hang has a time limit of its own.
        return -1, LONGEST_S, f"not done in {LONGEST_S} s"
    # Of a test that failed the word is its own: there are files of that name.
    skipped = done.returncode == 0 and " skipped" in done.stdout and " passed" not in done.stdout
    return (-1 if skipped else done.returncode), _longest(report), done.stdout[-400:]


def _longest(report: Path) -> float:
    """The seconds of the longest test that failed, or of the longest of all where none did."""
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    report.unlink(missing_ok=True)
    failed = [case for case in cases if case.find("failure") is not None]
    return max((float(case.get("time", "nan")) for case in failed or cases), default=0.0)


def look_at(faults: Sequence[PlantedFault]) -> list[Outcome]:
    """All of them, a line each; two at a time where there are two cores, in a copy of the tree each."""
    with tempfile.TemporaryDirectory(prefix="planted_") as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        at_once = min(os.cpu_count() or 1, 2)
        for number in range(at_once):
            tree = Path(folder) / str(number)
            copy_tree(tree)
            # By its content, not by its time: a fault may have as many letters, and come in the same second.
            compileall.compile_dir(tree, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
            trees.put(tree)

        def look_and_say(fault: PlantedFault) -> Outcome:
            tree = trees.get()
            try:
                found = look(fault, tree)
            finally:
                trees.put(tree)
            word = {True: "noticed", False: "NOT NOTICED", None: "NOT RUN"}[found.noticed]
            print(
                f"{word:<12} {found.test_s:5.1f} of {found.seconds:5.1f} s  {fault.name}  ({fault.test}) {found.said}",
                flush=True,
            )
            return found

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(look_and_say, faults))


def main(argv: list[str]) -> int:
    """Exit code 1 when one was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of faults; by default all")
    given = parser.parse_args(argv)
    faults = [fault for fault in read_faults() if not given.only or fault.name in given.only]
    found = look_at(faults)
    noticed = sum(each.noticed is True for each in found)
    print(f"{noticed} of {len(found)} noticed")
    return int(noticed < len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
