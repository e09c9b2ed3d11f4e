"""Inputs that cannot be, given to real sample.py processes: what is said of each, and that the rest goes on.

One batch holds every fault that can be one job of many. What stops a whole command is a command of its own: an empty
folder, a folder to write to that is a file or on a read-only disk, and a disk that fills up in the middle.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import REPOSITORY
from benchmarks.faults.sampling_workers import write_adapter, write_person, write_pose
from faceid.models.adapter.adapter_file import read_adapter, save_adapter

# A name that does harm to whoever passes it through a shell, and what it would leave behind.
SHELL_NAME, SHELL_TRACE = "$(touch hacked) `touch hacked`; touch hacked & 'a' | b*?", "hacked"
SHELL_PERSON = "bob; touch hacked #"
# In a row of jobs.jsonl or on the last line of a command: a file or key, what is wrong with it.
SMALL_DISK_KIB = 60


@dataclass(frozen=True)
class Fault:
    """One fault. said: the line that was given; empty when none was. is_clear: it names what it must, in one line."""

    name: str
    said: str
    is_clear: bool


@dataclass(frozen=True)
class Faults:
    """All of them. of_jobs: within the one batch, whose other jobs are `rendered` of `wanted`."""

    of_jobs: list[Fault]
    of_commands: list[Fault]
    rendered: int
    wanted: int
    exit_code: int
    rendered_once: bool
    """Jobs given twice."""
    traces: list[str]
    """Of shell commands in names."""
    full_disk_left: str
    """What was wrong after the disk was full and had room again; empty when all was well."""


def meet_faults(folder: Path) -> Faults:
    """Make the inputs, run the commands, two at a time."""
    inputs = _Inputs(folder)
    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(_run_batch, inputs)
        commands = [pool.submit(check, inputs) for check in (_empty_folder, _file_for_folder, _read_only, _full_disk)]
        of_jobs, rendered, code, is_once = batch.result()
        found = [command.result() for command in commands]
    traces = [str(path) for root in (folder, REPOSITORY) for path in root.glob(f"**/{SHELL_TRACE}")]
    return Faults(
        of_jobs=of_jobs,
        of_commands=[fault for fault, _ in found],
        rendered=rendered,
        wanted=inputs.num_good,
        exit_code=code,
        rendered_once=is_once,
        traces=traces,
        full_disk_left=found[-1][1],
    )


def _of_another_rank(adapter: Path, path: Path) -> Path:
    """The same tensors in a file that says another rank."""
    tensors, metadata = read_adapter(adapter)
    save_adapter(path, tensors, replace(metadata, settings=replace(metadata.settings, lora_rank=8)))
    return path


class _Inputs:
    """Good and bad files, and the list of jobs that names them all."""

    num_good = 4

    def __init__(self, folder: Path) -> None:
        self.folder, self.poses, self.people = folder, folder / "poses", folder / "people"
        for seed, name in enumerate(("x", "y", SHELL_NAME)):
            write_pose(self.poses / f"{name}.mp4", seed)
        (self.poses / "unreadable.mp4").write_bytes(b"no video" * 100)
        for seed, name in enumerate(("anna", SHELL_PERSON)):
            write_person(self.people / name, seed)
        write_person(self.people / "wide", 3, size=12)
        write_person(folder / "one_person" / "anna", 0)
        self.adapter = write_adapter(folder / "adapter.safetensors")
        other_base = write_adapter(folder / "other_base.safetensors", fingerprint="f" * 64)
        other_rank = _of_another_rank(self.adapter, folder / "other_rank.safetensors")
        good: dict[str, object] = {"pose": "x.mp4", "identity": "anna"}
        self.bad: dict[str, tuple[dict[str, object], str]] = {
            "unreadable pose": ({**good, "pose": "unreadable.mp4"}, "unreadable.mp4"),
            "absent pose": ({**good, "pose": "absent.mp4"}, "absent.mp4"),
            "adapter of another base": ({**good, "face_lora_path": str(other_base)}, "other_base.safetensors"),
            "adapter of another rank": ({**good, "face_lora_path": str(other_rank)}, "other_rank.safetensors"),
            "embedding of another size": ({**good, "identity": "wide"}, "wide"),
        }
        jobs: list[dict[str, object]] = [good, good, {**good, "pose": "y.mp4"}, {**good, "pose": f"{SHELL_NAME}.mp4"}]
        jobs += [{**good, "identity": SHELL_PERSON}, {**good, "seed": [42, 42]}, *(job for job, _ in self.bad.values())]
        (folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))

    def command(self, output_dir: Path, *changes: str) -> list[str]:
        """The words of a batch of the whole list; of `changes` where they are given."""
        given = changes or ("--jobs", str(self.folder / "jobs.jsonl"), "--pose_videos_dir", str(self.poses))
        # Without a list everybody in the folder is rendered, so everybody there must be good.
        people = self.folder / "one_person" if changes and "--jobs" not in changes else self.people
        words = ["--batch", *given, "--output_dir", str(output_dir), "--face_lora_path", str(self.adapter)]
        words += ["--identities_dir", str(people), "--num_inference_steps", "1", "--cfg_scale", "1"]
        return [*words, "--device", "cpu", "--gallery", "false"]


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "sample.py", *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _run_batch(inputs: _Inputs) -> tuple[list[Fault], int, int, bool]:
    """Of the batch with all faults: what was said, videos rendered, exit code, whether doubled jobs were told."""
    out = inputs.folder / "out"
    done = _run(inputs.command(out))
    rows = [json.loads(line) for line in (out / "jobs.jsonl").read_text(encoding="utf-8").splitlines()]
    errors = [row["error"] for row in rows if row["error"]]
    faults = []
    for name, (_, named) in inputs.bad.items():
        said = next((error for error in errors if named in error), "")
        # On the screen as well as in the record.
        faults.append(Fault(name, said, _is_clear(said, named) and said in done.stderr))
    rendered = {row["output"] for row in rows if not row["error"] and (out / row["output"]).is_file()}
    # The list's second row, and a seed that is named twice.
    is_once = done.stderr.count("rendered once") >= 2 and len(rows) == inputs.num_good + len(inputs.bad)
    return faults, len(rendered), done.returncode, is_once


def _is_clear(said: str, *names: str) -> bool:
    """One line that names what it must and is no bare exception."""
    is_ours = not re.match(r"[A-Z]\w*(Error|Exception)\b", said) and "Traceback" not in said
    return bool(said) and "\n" not in said and is_ours and all(name in said for name in names)


def _refused(name: str, words: list[str], *names: str) -> Fault:
    """A command that must end with exit code 2 and one line."""
    done = _run(words)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    said = lines[-1].removeprefix("error: ") if len(lines) == 1 else done.stderr[-300:]
    return Fault(name, said, done.returncode == 2 and "Traceback" not in done.stderr and _is_clear(said, *names))


def _empty_folder(inputs: _Inputs) -> tuple[Fault, str]:
    empty = inputs.folder / "empty"
    empty.mkdir()
    words = inputs.command(inputs.folder / "out_of_empty", "--pose_videos_dir", str(empty))
    return _refused("empty folder", words, f"pose_videos_dir={empty}"), ""


def _file_for_folder(inputs: _Inputs) -> tuple[Fault, str]:
    (inputs.folder / "a_file").touch()
    out = inputs.folder / "a_file"
    return _refused("a file for a folder to write to", inputs.command(out), f"output_dir={out}"), ""


def _read_only(inputs: _Inputs) -> tuple[Fault, str]:
    # We may be root, whom no permission stops.
    with _mounted(inputs.folder / "read_only", "ro,size=1m") as disk:
        out = disk / "out"
        return _refused("read-only disk", inputs.command(out), f"output_dir={out}"), ""


def _full_disk(inputs: _Inputs) -> tuple[Fault, str]:
    """The disk fills up after some videos; then it has room, and the same command does the rest."""
    jobs = inputs.folder / "many.jsonl"
    job = {"pose": ["x.mp4", "y.mp4"], "identity": "anna", "seed": list(range(8))}
    jobs.write_text(json.dumps(job) + "\n")
    with _mounted(inputs.folder / "small_disk", f"size={SMALL_DISK_KIB}k") as disk:
        out = disk / "out"
        words = inputs.command(out, "--jobs", str(jobs), "--pose_videos_dir", str(inputs.poses))
        fault = _refused("full disk in mid-batch", words, f"output_dir={out}", "No space left on device")
        before = {path: path.read_bytes() for path in out.rglob("*.mp4")}
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        again = _run(words)
        after = {path: path.read_bytes() for path in out.rglob("*.mp4")}
        checks: dict[str, Callable[[], bool]] = {
            "nothing was rendered before the disk was full": lambda: 0 < len(before) < 16,
            "the same command did not do the rest": lambda: again.returncode == 0 and len(after) == 16,
            "a published video changed": lambda: before.items() <= after.items(),
        }
        return fault, "; ".join(wrong for wrong, holds in checks.items() if not holds())


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small disk in memory. Raises: CalledProcessError where nothing can be mounted: run as root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
