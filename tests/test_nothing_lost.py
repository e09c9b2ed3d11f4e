"""Every command that writes, in every place a user may name: nothing is lost, and one line says why."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import call, refused
from launching import REPOSITORY, start_function
from nothing_lost import COMMANDS, REPLACED, Command, World, make_world, run_until_flush

from faceid.models.adapter_settings import AdapterSettings

pytestmark = pytest.mark.promise(
    (
        "every command that writes: output = input, a folder of the user's, a read-only disk, a "
        "full disk, killed, an older result"
    ),
    bar="the stated outcome of each; no file of the user's changes",
    proof="nothing_lost",
)

BATCH_THAT_CANNOT_BE = pytest.mark.promise(
    "empty folder, a file for a folder to write to, read-only disk, full disk in mid-batch",
    bar="exit code 2 and one line each; with room again the same command does the rest",
    proof="sampling",
)

# The claims of workers that have ended, and records of what was written: no result.
BOOKKEEPING = {".faceid", ".claims"}
# No command here takes a tenth of it.
LONGEST_S = 120
# Of a disk that is full soon after the work began.
SMALL_DISK = "size=24k"


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory, toy_inputs) -> World:
    settings = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, mapper_dropout=0.0)
    return make_world(tmp_path_factory.mktemp("world"), toy_inputs, settings)


@pytest.fixture
def world(shared_world) -> Iterator[World]:
    """The inputs, which no command may change, whatever becomes of its output."""
    before = content(shared_world.folder)
    yield shared_world
    assert content(shared_world.folder) == before


@pytest.fixture
def place(tmp_path) -> Path:
    """Where outputs go: a folder of its own, to see what else comes to lie there."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def out_of(command: Command, place: Path) -> Path:
    return place / f"out{command.suffix}"


def run(command: Command, world: World, out: Path, other: bool = False):
    return call(command.script, *command.words(world, out, other))


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not BOOKKEEPING & set(path.relative_to(folder).parts)
    }


def named(commands, **marks) -> list:
    return [pytest.param(command, id=command.name, marks=marks.get(command.name, ())) for command in commands]


@pytest.mark.fault("L7")
@pytest.mark.parametrize("command", named(command for command in COMMANDS if command.reads))
def test_an_output_that_is_an_input_is_refused(command, world):
    assert command.reads is not None
    refused(run(command, world, command.reads(world)), str(command.reads(world)))


@pytest.mark.fault("L1")
@pytest.mark.parametrize("command", named(COMMANDS))
def test_what_the_user_has_there_is_refused_by_name(command, world, place):
    out = out_of(command, place)
    mine = out if command.suffix else out / "me.jpg"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("years of work")
    refused(run(command, world, out), str(out))
    assert content(place) == {str(mine.relative_to(place)): hashlib.sha256(b"years of work").hexdigest()}


@pytest.mark.parametrize("command", named(command for command in COMMANDS if command.suffix))
def test_a_file_within_another_commands_result_is_refused(command, world, place):
    """Made anew, an identity took with it the description that lay in its folder."""
    shutil.copytree(world.identity, place / "identity")
    before = content(place)
    (place / "identity" / "deeper").mkdir()
    for out in (place / "identity" / f"out{command.suffix}", place / "identity" / "deeper" / f"out{command.suffix}"):
        refused(run(command, world, out), str(out), "is replaced as a whole; name a file beside it")
    assert content(place) == before


@pytest.mark.parametrize("command", named(command for command in COMMANDS if not command.suffix))
def test_a_link_to_a_folder_that_is_not_there_is_refused_and_not_followed(command, world, place):
    """A disk that is not mounted, most often."""
    out_of(command, place).symlink_to(place / "not_mounted")
    refused(run(command, world, out_of(command, place)), "is a link to", "not_mounted")
    assert [path.name for path in place.iterdir()] == ["out"]


@pytest.mark.parametrize("command", named(COMMANDS))
def test_an_output_without_a_name_is_refused(command, world, place, monkeypatch):
    """A shell's variable that is not set. To Python it is the folder one stands in."""
    monkeypatch.chdir(place)
    words = [str(word) for word in command.words(world, Path("THE_OUTPUT"), False)]
    key = words[words.index("THE_OUTPUT") - 1].removeprefix("--")
    ended = call(command.script, *("" if word == "THE_OUTPUT" else word for word in words))
    refused(ended, f"{key}: is empty")
    assert not list(place.iterdir())


@pytest.fixture
def read_only(place) -> Iterator[Path]:
    mount(place, "size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_disk(place) -> Iterator[Path]:
    mount(place, SMALL_DISK)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def mount(folder: Path, size: str) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted here ({mounted.stderr.decode().strip()})")


@pytest.mark.starts_process
@pytest.mark.fault("L9")
@pytest.mark.parametrize("command", named(COMMANDS, batch=BATCH_THAT_CANNOT_BE))
def test_a_place_that_cannot_be_written_is_refused_before_the_work(command, world, read_only):
    ended = run(command, world, out_of(command, read_only))
    refused(ended, "be written", str(read_only))
    assert not any(word in ended.screen for word in ("loaded", "100%"))


@pytest.fixture
def mounted_out(place) -> Iterator[Path]:
    """An output folder that is a disk of its own, as in a container."""
    (place / "out").mkdir()
    mount(place / "out", "size=200m")
    yield place / "out"
    subprocess.run(["umount", "-l", str(place / "out")], check=True)


@pytest.mark.starts_process
@pytest.mark.parametrize(
    "command", named(command for command in COMMANDS if not command.suffix and not command.not_run)
)
def test_an_output_folder_that_is_a_mount_is_written_into(command, world, place, mounted_out):
    assert (ended := run(command, world, mounted_out)).code == 0, ended.screen
    assert content(mounted_out), "nothing was written"
    assert not [*mounted_out.glob(".faceid-*"), *mounted_out.glob(".faceid/a*")], "nothing half is left"
    if command.older == REPLACED:
        assert (ended := run(command, world, mounted_out, other=True)).code == 0, ended.screen
        assert list(place.iterdir()) == [mounted_out]


@pytest.mark.starts_process
@pytest.mark.fault("W1")
@pytest.mark.parametrize("command", named(command for command in COMMANDS if not command.not_run))
def test_a_full_disk_is_one_line_and_leaves_what_was_there(command, world, small_disk):
    (small_disk / "mine.txt").write_text("mine")
    # Room for a start, and not for a result.
    filling = 20_000 if command.suffix else 12_000
    (small_disk / "filling").write_bytes(b"x" * filling)
    ended = run(command, world, out_of(command, small_disk))
    refused(ended, str(small_disk))
    assert any(words in ended.error for words in ("o space left on", "are free there")), ended.error
    assert (small_disk / "mine.txt").read_text() == "mine"
    assert not list(small_disk.rglob("*.tmp*")), "half-written files take the room that is needed"


@pytest.mark.starts_process
@pytest.mark.parametrize("command", named(command for command in COMMANDS if not command.not_run))
def test_a_killed_command_leaves_nothing_half_and_the_next_one_finishes(command, world, place, tmp_path):
    (tmp_path / "quiet").mkdir()
    assert run(command, world, out_of(command, tmp_path / "quiet")).code == 0
    for moment in (1, 3):
        assert killed(command, world, out_of(command, place), moment) == 9
    assert run(command, world, out_of(command, place)).code == 0
    assert content(place).keys() == content(tmp_path / "quiet").keys()
    assert not list(place.rglob(".faceid-*")), "what the killed ones left is swept"


def killed(command: Command, world: World, out: Path, moment: int) -> int:
    """Run a command in a process that ends without a word at its n-th flush to disk. Its exit code."""
    words = [str(word) for word in command.words(world, out, False)]
    # Not a child of pytest's: what this process has begun (threads of decoders) cannot be forked.
    return start_function(run_until_flush, command.script, words, moment).wait(LONGEST_S)


@pytest.mark.fault("L8")
@pytest.mark.parametrize("command", named(command for command in COMMANDS if not command.not_run))
@pytest.mark.slow
def test_an_older_result_of_other_inputs_is_replaced_whole_or_kept_whole(command, world, place, tmp_path):
    out = out_of(command, place)
    assert run(command, world, out, other=True).code == 0
    before = content(place)
    ended = run(command, world, out)
    if command.older == REPLACED:
        assert ended.code == 0, ended.screen
        assert content(place) != before
    else:
        refused(ended, command.older)
        assert content(place) == before


def test_every_command_has_a_row():
    """A new tool is added to the table, or said to write no result."""
    commands = {path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("tools/*.py")}
    no_row = {
        "tools/check_cluster.py": "writes into a run folder, as train.py, and removes that again",
        "tools/judge_attempt.py": "reads a run folder",
    }
    assert {command.script for command in COMMANDS} | no_row.keys() == commands | {"train.py", "sample.py"}
