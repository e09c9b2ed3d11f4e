"""Every command with every one of its inputs closed to the user: one line that names it, or the rest is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from calling import call
from launching import QUIET, SMALL_ADAPTER
from nothing_lost import COMMANDS, Command
from permissions import obeyed_permissions
from test_nothing_lost import named, out_of, place, run, shared_world  # noqa: F401

# What lies in a folder that is named, and is not read by this command.
NOT_READ = {
    "split": (".heads.json",),
    "poses": (".heads.json", "_pose.mp4"),
    "latents": ("clips-000000.json",),
    "face bank": (".heads.json",),
    "audit": (".joints.json",),
    "evaluation": (".heads.json",),
    "contact sheet": (".heads.json", ".joints.json"),
    "shards' sheet": ("clips-000000.json",),
    "run": ("report.html",),
}


def inputs_of(command: Command, world, out: Path) -> list[Path]:
    """The files and folders that it names, and of each folder the first file of each kind, and the first subfolder."""
    words = [Path(str(word).strip("[]").rpartition("=")[2]) for word in command.words(world, out, False)]
    given = [path for path in words if path.is_absolute() and path.exists() and path != out]
    inner = []
    for folder in given:
        kinds: dict[object, Path] = {}
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            is_read = not path.name.endswith(NOT_READ.get(command.name, ()))
            if is_read and not path.relative_to(folder).parts[0].startswith("."):
                kinds.setdefault(path.suffix or path.is_dir(), path)
        inner += kinds.values()
    return list(dict.fromkeys([*given, *inner]))


@contextmanager
def closed(path: Path) -> Iterator[None]:
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with obeyed_permissions():
            yield
    finally:
        path.chmod(mode)


@pytest.mark.starts_process
# With --text, as there, a description reads no photos: tests/description has those closed.
@pytest.mark.parametrize("command", named(command for command in COMMANDS if command.name != "description"))
def test_a_closed_input_is_told_in_one_line(command, shared_world, place):  # noqa: F811
    """Or left out with this reason, on the screen or in what is written, and the rest is used."""
    said = []
    for number, path in enumerate(inputs_of(command, shared_world, out_of(command, place))):
        out = out_of(command, place / str(number))
        out.parent.mkdir()
        with closed(path):
            ended = run(command, shared_world, out)
        is_told = "Permission denied" in (ended.error if ended.code == 2 else ended.screen + texts_in(out))
        # 1: a part could not be made, and the rest is. A traceback comes through as itself.
        if not is_told:
            said.append(f"{path.relative_to(shared_world.folder)}: {ended.code} {ended.error}")
    assert not said


def texts_in(folder: Path) -> str:
    """What a user can read of the output."""
    kinds = (".csv", ".html", ".json", ".jsonl")
    return "".join(path.read_text() for path in folder.rglob("*") if path.suffix in kinds and path.is_file())


@pytest.mark.parametrize("command", named(command for command in COMMANDS if command.name in ("batch", "run")))
@pytest.mark.slow
def test_a_closed_part_of_ones_own_output_is_told_in_one_line(command, shared_world, place):  # noqa: F811
    out = out_of(command, place)
    flags = () if command.name == "batch" else (*SMALL_ADAPTER, *QUIET, *"--num_epochs 1 --tensorboard true".split())
    words = [*command.words(shared_world, out, False), *flags]
    assert call(command.script, *words).code == 0
    said = []
    for path in sorted(out.iterdir()):
        with closed(path):
            ended = call(command.script, *words)
        is_told = "Permission denied" in (ended.error if ended.code == 2 else ended.screen)
        if ended.code not in (0, 2) or (ended.code and not is_told):
            said.append(f"{path.relative_to(out)}: {ended.code} {ended.error}")
    assert not said


def test_of_people_the_others_are_prepared(shared_world, place):  # noqa: F811
    references = shared_world.dataset / "references"
    first = min(path for path in references.iterdir() if path.is_dir())
    words = ("--people_dir", references, "--output_dir", place / "out", "--encoder_path", "toy", "--allow_few")
    with closed(first):
        ended = call("tools/prepare_face_embeddings.py", *words)
    assert ended.code == 1 and f"not made: {first}: Permission denied: it is " in ended.screen
    assert "2 identities made" in ended.screen
