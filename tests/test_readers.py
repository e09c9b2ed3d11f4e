"""Every file that a user names is read by faceid.documents: a pipe, a device or a file without end is one line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# Who else opens a file to read it, and why that is safe: (file, function).
ALLOWED = {
    ("faceid/documents.py", "_open"): "the one place",
    **dict.fromkeys([("faceid/processes.py", "_read"), ("faceid/writing.py", "current_umask")], "of the kernel"),
    **dict.fromkeys([("faceid/writing.py", "fsync_folder"), ("faceid/writing.py", "fsync_file")], "only flushed"),
    ("faceid/claims.py", "is_held"): "only asked for its number",
    ("faceid/provenance.py", "sha256_file"): "in pieces, of files that were read already",
    ("faceid/data/index.py", "read"): "ranges of a shard, which its index says",
    ("faceid/data/latents.py", "_load_verified"): "a file with the sha256 that its index says",
    ("faceid/data/photo_latents.py", "read_photo_latents"): "a file with the sha256 that its index says",
    ("faceid/models/model_part.py", "_sample_digest"): "pieces of weights, which were opened already",
    ("faceid/models/weights.py", "_refuse_what_is_no_file"): "a few bytes of a file",
    ("faceid/models/local_places.py", "_recorded"): "a few thousand characters of a file that was read here",
    **dict.fromkeys(
        [("faceid/media/images.py", "_remedy"), ("faceid/media/photo_colours.py", "coded_colours")],
        "a few bytes of a picture",
    ),
    # Our own records, in folders that we made; bounded when they are parsed.
    **dict.fromkeys(
        [
            ("faceid/data/film_records.py", "current_record"),
            ("faceid/data/film_records.py", "_records_in"),
            ("faceid/data/render_poses.py", "_current_record"),
            ("faceid/data/shard_work.py", "_refuse_other_plans"),
            ("faceid/data/shards.py", "read_record"),
            ("faceid/data/shards.py", "refuse_other_content"),
            ("faceid/data/shards.py", "_has_index"),
            ("faceid/outputs.py", "kind_of"),
            ("faceid/outputs.py", "recorded"),
            ("faceid/training/metrics.py", "read_metrics"),
            ("faceid/training/metrics.py", "cut_lines_after"),
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
