"""Every file that a user names is read by files/documents.py: a pipe, a device or a file without end is one line."""

from __future__ import annotations

import ast
import importlib
import os
from pathlib import Path

import pytest
from calling import call, refused
from time_limit import at_most

from faceid.files import documents

REPOSITORY = Path(__file__).resolve().parents[1]
# Who else opens a file to read it, and why that is safe: (file, function).
ALLOWED = {
    ("faceid/files/documents.py", "_open"): "the one place",
    **dict.fromkeys(
        [
            ("faceid/processes.py", "_read"),
            ("faceid/files/writing.py", "current_umask"),
            ("faceid/files/placing.py", "_is_mount"),
        ],
        "of the kernel",
    ),
    **dict.fromkeys(
        [("faceid/files/writing.py", "fsync_folder"), ("faceid/files/writing.py", "fsync_file")], "only flushed"
    ),
    ("faceid/files/placing.py", "_alone"): "a folder, only held",
    ("faceid/claims.py", "is_held"): "only asked for its number",
    ("faceid/files/records.py", "sha256_file"): "in pieces, of files that were read already",
    ("faceid/data/shards/index.py", "read"): "ranges of a shard, which its index says",
    ("faceid/data/latents/latent_reader.py", "load_verified"): "a file with the sha256 that its index says",
    ("faceid/models/base/weights.py", "_refuse_what_is_no_file"): "a few bytes of a file",
    ("faceid/models/base/local_places.py", "_recorded"): "a few thousand characters of a file that was read here",
    ("faceid/media/cut_short.py", "present_share"): "the start of a film, which is looked for as a file before",
    ("faceid/media/cut_short.py", "lacks_index"): "headers of a film's boxes, and no more than so many",
    **dict.fromkeys(
        [("faceid/media/images.py", "_remedy"), ("faceid/media/pixels/photo_colours.py", "coded_colours")],
        "a few bytes of a picture",
    ),
    # Our own records, in folders that we made; bounded when they are parsed.
    **dict.fromkeys(
        [
            ("faceid/files/records.py", "_read"),
            ("faceid/training/measuring/metrics.py", "read_metrics"),
            ("faceid/training/measuring/metrics.py", "cut_lines_after"),
        ],
        "our own record",
    ),
}
# Their `open` is of pictures, films, archives and our own classes, which have limits of their own.
OTHER_OPENS = {"Image", "tarfile", "av", "WeightsFile", "ShardIndex", "LatentSet", "LatentSets"}


def readers(source: str) -> list[tuple[int, str]]:
    """(line, function) of every call that reads a file by itself."""
    found: list[tuple[int, str]] = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Call) and _reads(node):
            found.append((node.lineno, function))
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), "")
    return found


def _reads(call: ast.Call) -> bool:
    called = call.func
    if isinstance(called, ast.Name):
        mode = call.args[1:2]
        return called.id == "open" and not _writes(mode)
    if not isinstance(called, ast.Attribute):
        return False
    owner = called.value.id if isinstance(called.value, ast.Name) else ""
    if called.attr in ("read_text", "read_bytes"):
        return owner != "documents"
    if called.attr == "open" and owner not in OTHER_OPENS:
        return not _writes(call.args[:1])
    return called.attr in ("safe_load", "loadtxt", "genfromtxt")


def _writes(mode: list[ast.expr]) -> bool:
    return bool(mode) and isinstance(mode[0], ast.Constant) and str(mode[0].value)[:1] in ("w", "a", "x")


def sources() -> list[Path]:
    files = [p for folder in ("faceid", "tools") for p in (REPOSITORY / folder).rglob("*.py")]
    return [*sorted(files), REPOSITORY / "train.py", REPOSITORY / "sample.py"]


def test_no_file_is_read_past_the_one_reader():
    found = {(str(p.relative_to(REPOSITORY)), f) for p in sources() for _, f in readers(p.read_text())}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "def f(p): return p.read_text()",
        "def f(p): return json.loads((p / 'x').read_bytes())",
        "def f(p):\n    with p.open('rb') as file: return file.read()",
        "def f(p): return open(p).read()",
        "def f(p): return yaml.safe_load(p)",
    ],
)
def test_a_planted_reader_is_found(source):
    assert [function for _, function in readers(source)] == ["f"]
    assert readers("def f(p): p.open('w'); documents.read_bytes(p); read_text(p); Image.open(p)") == []


@pytest.fixture
def imported():
    """What a first command imports takes ten seconds of a busy machine, and is not what is looked at."""
    importlib.import_module("faceid.sampling.sampling_run")


@pytest.fixture
def alarm():
    with at_most(20):
        yield


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", ["read_bytes", "read_text", "read_json", "read_yaml", "read_csv", "read_json_lines"])
def test_no_reader_waits_for_a_pipe_or_drains_a_device(tmp_path, alarm, kind, reader):
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    with pytest.raises(documents.DocumentError, match="a pipe or a device, not a file"):
        list(getattr(documents, reader)(path))


def test_what_is_larger_than_believed_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert documents.read_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(documents.DocumentError, match="over 4 bytes"):
        documents.read_text(tmp_path / "x", 4)


def test_commands_say_it_in_a_line(tmp_path, imported, alarm):
    pipe = tmp_path / "jobs.jsonl"
    os.mkfifo(pipe)
    batch = ("--face_lora_path", "toy", "--batch", "--output_dir", tmp_path / "out", "--jobs")
    refused(call("sample.py", *batch, pipe), f"jobs={pipe}", "a pipe or a device")
    refused(call("sample.py", *batch, "/dev/zero"), "jobs=/dev/zero", "a pipe or a device")
    refused(call("sample.py", "--like", "/dev/zero", "--output", tmp_path / "x.mp4"), "like=/dev/zero", "a device")
    merged = ("--summaries", "[/dev/zero]", "--output", tmp_path / "x.json")
    refused(call("tools/merge_summaries.py", *merged), "summaries=/dev/zero", "a device")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"")
    films = ("--videos_dir", tmp_path / "films", "--crop", "none", "--output_dir", tmp_path / "clips")
    refused(call("tools/split_clips.py", *films, "--only_list", "/dev/zero"), "/dev/zero", "a device")
    assert not (tmp_path / "out").exists() and not (tmp_path / "clips").exists()


def test_a_name_that_no_file_system_takes_is_one_line(tmp_path):
    long = "x" * 300
    films = ("--videos_dir", tmp_path / long, "--crop", "none", "--output_dir", tmp_path / "clips")
    refused(call("tools/split_clips.py", *films), "a name that is too long")
    export = ("--lora_format", "comfyui", "--output", tmp_path / "x.safetensors", "--face_lora_path", long)
    refused(call("tools/export_lora.py", *export), "a name that is too long", "(300 characters)")
    clips = ("--dance_videos_dir", tmp_path / long, "--pose_videos_dir", tmp_path, "--output_dir", tmp_path / "out")
    refused(call("tools/make_shards.py", *clips), "a name that is too long")
