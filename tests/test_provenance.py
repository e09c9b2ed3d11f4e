"""Files come to exist whole or not at all, even when the writer is killed at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faceid import provenance
from faceid.provenance import (
    sha256_file,
    sha256_json,
    staged_file,
    staged_folder,
    write_atomic,
    write_json,
    write_provenance,
)

REPOSITORY = Path(__file__).resolve().parents[1]
# Kills itself before or after the n-th call that changes the disk's state: every point at which a real kill can matter.
KILLED = """
import os, pathlib, shutil, signal, sys
from faceid.provenance import staged_file, staged_folder, write_atomic
left = int(sys.argv[2])
def counted(call):
    def wrapper(*args, **kwargs):
        step()
        result = call(*args, **kwargs)
        step()
        return result
    return wrapper
def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync, shutil.rmtree = counted(os.fsync), counted(shutil.rmtree)
for name in ("mkdir", "rename", "replace", "open", "unlink"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
path = pathlib.Path(sys.argv[1])
"""
WRITERS = {
    "atomic": "write_atomic(path, b'new' * 1000)",
    "file": "with staged_file(path) as temporary:\n    temporary.write_bytes(b'new' * 1000)",
    "folder": "with staged_folder(path) as temporary:\n"
    "    (temporary / 'a').write_bytes(b'new')\n    (temporary / 'b').write_bytes(b'new')",
}


def run_killed(writer: str, path: Path, point: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", KILLED + WRITERS[writer], str(path), str(point)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=30,
    )
    return done.returncode


def killed_at_every_point(writer: str, path: Path, prepare: Callable[[], object]) -> Iterator[tuple[int, int]]:
    """Run the writer, killed one step later each time, until it ends unharmed; yield (step, exit code)."""
    points = 0
    while True:
        prepare()
        points += 1
        code = run_killed(writer, path, points)
        yield points, code
        if code == 0:
            return
        assert code == -signal.SIGKILL


@pytest.mark.parametrize("writer", ["atomic", "file"])
def test_a_killed_file_is_old_or_new(tmp_path, writer):
    path = tmp_path / "state.bin"
    seen = set()
    points = 0
    for point, _ in killed_at_every_point(writer, path, lambda: path.write_bytes(b"old")):
        seen.add(path.read_bytes())
        points = point
    assert seen == {b"old", b"new" * 1000}
    assert points > 3
    assert path.read_bytes() == b"new" * 1000


def test_a_killed_folder_never_shows_a_part_of_the_new_one(tmp_path):
    path = tmp_path / "out"
    points = 0
    for point, code in killed_at_every_point("folder", path, lambda: None):
        points = point
        contents = {file.name for file in path.iterdir()} if path.exists() else set()
        assert contents in (set(), {"a", "b"})
        if code == 0:
            assert contents == {"a", "b"}
    assert points > 5


def test_a_killed_replacement_leaves_the_old_or_the_new_folder(tmp_path):
    path = tmp_path / "out"

    def prepare() -> None:
        if not (path / "a").is_file():
            path.mkdir(exist_ok=True)
        for name in ("a", "b"):
            (path / name).write_bytes(b"old")

    seen = set()
    for _ in killed_at_every_point("folder", path, prepare):
        assert path.is_dir(), "neither the old nor the new folder is at its name"
        contents = {file.read_bytes() for file in path.iterdir()}
        assert len(contents) == 1
        seen |= contents
    assert seen == {b"old", b"new"}


def test_a_block_that_raises_leaves_the_old_state_and_no_temporary(tmp_path):
    write_atomic(tmp_path / "file.txt", "old")
    with pytest.raises(RuntimeError), staged_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "folder") as staged:
        (staged / "a").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_a_staged_folder_replaces_the_old_one_whole(tmp_path):
    for generation in ("one", "two"):
        with staged_folder(tmp_path / "out") as staged:
            (staged / generation).write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "two"]


def test_a_file_system_without_exchange_still_replaces(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_exchange", lambda first, second: False)
    for generation in ("one", "two"):
        with staged_folder(tmp_path / "out") as staged:
            (staged / generation).write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "two"]


def test_a_staged_file_keeps_its_suffix(tmp_path):
    with staged_file(tmp_path / "video.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"x")


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert sha256_json({"b": 1, "a": [2]}) == sha256_json({"a": [2], "b": 1}) != sha256_json({"a": [2], "b": 2})


def test_json_is_readable_text(tmp_path):
    write_json(tmp_path / "deep" / "x.json", {"a": 1})
    assert (tmp_path / "deep" / "x.json").read_text() == '{\n "a": 1\n}\n'


def test_provenance_says_command_versions_and_inputs(tmp_path):
    write_provenance(tmp_path, {"shards": "abc"})
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["inputs"] == {"shards": "abc"}
    assert record["command"] and record["versions"]["torch"] and record["time"].endswith("Z")
