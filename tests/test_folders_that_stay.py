"""Folders that have to stay the ones they are: mounts, other people's, ones with a group, a mode or a list of theirs.

A result gets into them piece by piece, and what is made there opens as the folder says.
"""

from __future__ import annotations

import codecs
import multiprocessing
import os
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from killed_writes import killed_at

from faceid.errors import OutputError
from faceid.files import outputs
from faceid.files.outputs import (
    claim_folder,
    new_folder,
    refuse_existing,
    refuse_file,
    refuse_replacing,
    staged_file,
    staged_folder,
)
from faceid.files.writing import sweep

# Nobody's on any machine: two colleagues and their group.
ANNA, BEN, TEAM = 64101, 64102, 64200
# A process that has imported next to nothing.
SMALL = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users, which only root can")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own are closed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    subprocess.run(["umount", "-l", str(folder / "out")], capture_output=True)
    shutil.rmtree(folder)


def as_user(user: int, work: Callable[..., object], *given: object, umask: int = 0o022) -> str:
    """Do something as somebody else, of the team; what was raised, in words, or an empty text."""
    # By way of a process without threads, which can be forked.
    return SMALL.submit(do_as, user, umask, work, *given).result()


def do_as(user: int, umask: int, work: Callable[..., object], *given: object) -> str:
    """Work in a copy of this process, which becomes the user."""
    for name in ("ascii", "utf-8-sig"):
        # Found at first use, in python's own folder: which the user may not be able to reach.
        codecs.lookup(name)
    reading, writing_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            os.setgroups([TEAM])
            os.setgid(user)
            os.setuid(user)
            os.umask(umask)
            sweep.cache_clear()
            work(*given)
        except Exception as error:  # noqa: BLE001 - told to the process that asked
            said = f"{type(error).__name__}: {error}"
        os.write(writing_end, said.encode())
        os._exit(0)
    os.close(writing_end)
    os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as file:
        return file.read().decode()


def write(path: Path, text: str = "new", private: bool = False, kind: str = "a test") -> None:
    with staged_folder(path, kind, private) as staged:
        for name in ("a", "b", "deep/c"):
            (staged / name).parent.mkdir(exist_ok=True)
            (staged / name).write_text(text)


def write_whole(path: Path) -> None:
    with new_folder(path) as staged:
        (staged / "a").write_text("new")


def write_file(path: Path, private: bool = False) -> None:
    with staged_file(path, private) as temporary:
        temporary.write_text("new")


def content(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".faceid" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def of(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return oct(stat.S_IMODE(status.st_mode)), status.st_uid, status.st_gid


def made(path: Path, mode: int, user: int = 0, group: int = 0) -> Path:
    path.mkdir()
    os.chown(path, user, group)
    path.chmod(mode)
    return path


ALL = {"a", "b", "deep/c"}


@pytest.mark.starts_process
@pytest.mark.parametrize("how", ["a disk", "a folder"])
def test_a_mount_is_written_into_and_replaced_whole(place, how):
    """Every docker user's output folder: the work was done, and its rename answered EBUSY."""
    out = made(place / "out", 0o755)
    words = ["-t", "tmpfs", "none"] if how == "a disk" else ["--bind", str(made(place / "real", 0o755))]
    if subprocess.run(["mount", *words, str(out)], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    (out / "lost+found").mkdir()
    for text in ("one", "two"):
        write(out, text)
        assert content(out) == dict.fromkeys(ALL, text)
    assert sorted(os.listdir(out)) == [".faceid", "a", "b", "deep", "lost+found"]
    assert sorted(path.name.split("-")[0] for path in (out / ".faceid").iterdir()) == ["folder.json", "written"]
    with pytest.raises(OutputError, match="exists"):
        write_whole(out)
    (out / "a").write_text("mine")
    with pytest.raises(OutputError, match="holds a, not as this command wrote it"):
        write(out)
    for name in ("a", "b", "deep", ".faceid"):
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    write_whole(out)
    assert content(out) == {"a": "new"} and sorted(os.listdir(out)) == ["a", "lost+found"]


def test_a_folder_that_is_found_to_stay_at_the_end_only_gets_its_pieces(tmp_path, monkeypatch):
    """Of a container's image no folder can be renamed, and nothing tells so before."""
    write(tmp_path / "out", "one")

    def exchange(first, second):
        raise OSError(18, "Invalid cross-device link", str(first))

    monkeypatch.setattr(outputs, "exchange", exchange)
    write(tmp_path / "out", "two")
    assert content(tmp_path / "out") == dict.fromkeys(ALL, "two") and os.listdir(tmp_path) == ["out"]


def run_killed(path: Path, point: int) -> int:
    """Write into a folder that stays, in a process that is killed at its n-th change of the disk; its exit code."""

    def write() -> None:
        with staged_folder(path, "a test") as staged:
            (staged / "a").write_text("new")
            (staged / "b").write_text("new")

    return killed_at(point, write)


@pytest.fixture
def fast_disk(tmp_path) -> Iterator[Path]:
    """In memory, where there is such a place: a flush to a busy disk takes a tenth of a second."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.mark.starts_process
def test_killed_at_any_moment_there_are_never_pieces_of_two_results_and_the_next_one_finishes(fast_disk):
    out, point, code, seen = fast_disk / "out", 0, -signal.SIGKILL, set()
    while code != 0:
        point += 1
        shutil.rmtree(out, ignore_errors=True)
        made(out, 0o750)
        with staged_folder(out, "a test") as staged:
            (staged / "a").write_text("old")
            (staged / "gone").write_text("old")
        code = SMALL.submit(run_killed, out, point).result()
        assert code in (0, -signal.SIGKILL)
        left = {name: text for name, text in content(out).items() if not name.startswith(".faceid-")}
        assert len(set(left.values())) <= 1, left
        # Whoever comes next, and whatever becomes of his own work.
        sweep.cache_clear()
        with pytest.raises(RuntimeError), staged_folder(out, "a test"):
            raise RuntimeError
        found = content(out)
        assert found in ({"a": "old", "gone": "old"}, {"a": "new", "b": "new"}), point
        seen.add(found["a"])
        assert {name for name in os.listdir(out / ".faceid") if not name.startswith("written-")} == {"folder.json"}
        assert not list(out.glob(".faceid-*")) and os.listdir(fast_disk) == ["out"]
        assert of(out)[0] == "0o750"
    assert seen == {"old", "new"} and point > 20


def test_what_somebody_puts_there_meanwhile_is_kept(tmp_path, monkeypatch):
    out = made(tmp_path / "out", 0o750)
    write(out, "one")
    with staged_folder(out, "a test") as staged:
        (staged / "a").write_text("two")
        (out / "mine").write_text("mine")
    assert content(out) == {**dict.fromkeys(ALL, "one"), "mine": "mine", "out/a": "two"}
    shutil.rmtree(out / "out")
    (out / "mine").unlink()
    rename = Path.rename

    def put_in_and_rename(path, target):
        if Path(target).name == "arriving":
            (out / "deep" / "me.jpg").write_text("mine")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", put_in_and_rename)
    with staged_folder(out, "a test") as staged:
        (staged / "a").write_text("three")
    assert content(out)["a"] == "three" and content(out)["out.replaced/deep/me.jpg"] == "mine"


@pytest.mark.starts_process
@needs_root
@pytest.mark.parametrize("before", ["empty", "an older result"])
def test_a_folder_keeps_its_mode_its_group_and_its_owner(place, before):
    """A group was locked out of its own folder, with exit code 0."""
    # Where it could give its name to a new one.
    os.chown(place, ANNA, ANNA)
    for name, mode, private in (("shared", 0o2770, False), ("sticky", 0o3777, False), ("faces", 0o2770, True)):
        out = made(place / name, mode, 0 if name == "sticky" else ANNA, TEAM)
        for text in ("one", "two") if before == "an older result" else ("two",):
            assert as_user(ANNA, write, out, text, private, umask=0o007) == ""
        assert of(out) == (oct(0o2700 if private else mode), out.stat().st_uid, TEAM)
        made_there = list(out.rglob("*"))
        assert {path.stat().st_gid for path in made_there} == {TEAM} and len(made_there) > 5
        wanted = {"0o2700", "0o600"} if private else {"0o2770", "0o660"} | ({oct(mode)} if name == "sticky" else set())
        assert {of(path)[0] for path in made_there} == wanted


@pytest.mark.starts_process
@needs_root
def test_a_new_folder_in_one_of_a_group_is_the_group_s(place):
    team = made(place / "team", 0o2770, ANNA, TEAM)
    assert as_user(ANNA, write, team / "out", umask=0o007) == ""
    assert {of(path)[0] for path in team.rglob("*")} == {"0o2770", "0o660"}
    assert {path.stat().st_gid for path in team.rglob("*")} == {TEAM}
    assert as_user(BEN, write, team / "out", "ben", umask=0o007) == ""
    assert content(team / "out") == dict.fromkeys(ALL, "ben")


@pytest.mark.starts_process
@needs_root
@pytest.mark.parametrize("private", [True, False])
def test_a_folder_of_another_stays_his_and_what_is_made_in_it_is_ones_own(place, private):
    made(place / "mine", 0o755, ANNA, ANNA)
    out = made(place / "mine" / "out", 0o777)
    assert as_user(ANNA, write, out, "new", private) == ""
    assert of(out) == ("0o777", 0, 0)
    assert of(out / "a") == ("0o600" if private else "0o644", ANNA, ANNA)
    out = made(place / "mine" / "closed", 0o755)
    assert f"output_dir={out}: {out} cannot be written" in as_user(ANNA, refuse_replacing, out, "a test")


@pytest.mark.starts_process
@needs_root
def test_one_s_own_folder_in_one_that_cannot_be_written_works(place):
    """/scratch/me: refused, by the name of the folder above."""
    me, base = (made(place / name, 0o755, ANNA, ANNA) for name in ("me", "base"))
    for text in ("one", "two"):
        assert as_user(ANNA, write, me, text) == ""
    assert content(me) == dict.fromkeys(ALL, "two")
    assert as_user(ANNA, write_whole, base) == "" and os.listdir(base) == ["a"]
    new = place / "new"
    assert f"{new}: {place} cannot be written" in as_user(ANNA, refuse_replacing, new, "a test")
    assert f"{new}: {place} cannot be written" in as_user(ANNA, refuse_existing, new)


def test_a_user_s_own_mode_stays_and_faces_close_it(tmp_path, caplog):
    """What shows faces closes a folder that was open, as it always has; nothing opens one that was closed."""
    earlier = os.umask(0o022)
    try:
        for mode, private, wanted in ((0o750, False, 0o750), (0o700, False, 0o700), (0o755, True, 0o700)):
            out = made(tmp_path / f"{mode}", mode)
            write(out, private=private)
            assert stat.S_IMODE(out.stat().st_mode) == wanted
            assert of(out / "a")[0] == ("0o600" if private else "0o644")
    finally:
        os.umask(earlier)
    assert f"{tmp_path / '448'}: only its owner can look into it, and it stays so" in caplog.text


def test_a_list_of_who_may_read_is_kept_and_holds_for_what_is_made(tmp_path):
    """An access list allows what the umask forbids."""
    out = made(tmp_path / "out", 0o700)
    rights = (0x01, 7, -1), (0x04, 0, -1), (0x08, 7, TEAM), (0x10, 7, -1), (0x20, 0, -1)
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in rights)
    try:
        for name in ("access", "default"):
            os.setxattr(out, f"system.posix_acl_{name}", acl)
    except OSError as error:
        pytest.skip(f"no access lists here ({error})")
    write(out)
    assert os.getxattr(out, "system.posix_acl_access") == acl
    # The mask, which stands where the group's bits are, lets the team in.
    assert (of(out)[0], of(out / "deep")[0], of(out / "deep" / "c")[0]) == ("0o770", "0o770", "0o660")


# Records in folders of many.


@pytest.mark.starts_process
@needs_root
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2775])
def test_a_folder_of_many_takes_everybody_s_results(place, mode):
    """The first who wrote there was the last."""
    many = made(place / "many", mode, 0, TEAM)
    for user in (ANNA, BEN):
        assert as_user(user, write_file, many / f"{user}.mp4", True) == ""
        assert as_user(user, write_file, many / f"{user}.mp4", True) == "", "his own again"
    assert of(many / ".faceid")[0] == oct(mode)
    assert {path.stat().st_uid for path in (many / ".faceid").iterdir()} == {ANNA, BEN}
    # Anna's is closed to Ben, and so is the proof of who wrote it.
    for ask in (refuse_file, write_file):
        said = as_user(BEN, ask, many / f"{ANNA}.mp4")
        assert said.startswith("OutputError") and "exists and cannot be read" in said, said
    assert (many / f"{ANNA}.mp4").read_text() == "new"


@pytest.mark.starts_process
@needs_root
def test_records_that_cannot_be_written_are_refused_before_the_work(place):
    many = made(place / "many", 0o777)
    made(many / ".faceid", 0o755)
    asked = {
        "a file": (refuse_file, many / "x.mp4"),
        "a folder": (claim_folder, many, "a test"),
        "a whole folder": (refuse_replacing, many, "a test"),
    }
    for ask in asked.values():
        assert f"{many / '.faceid'}, where what is written is noted, cannot be written" in as_user(ANNA, *ask)
    (many / ".faceid").rmdir()
    (many / ".faceid").touch()
    assert "is a file, where what is written is noted" in as_user(ANNA, *asked["a file"])


@pytest.mark.starts_process
@needs_root
def test_what_cannot_be_looked_at_is_one_line(place):
    closed = made(place / "closed", 0o700)
    made(place / "blind", 0o333)
    for path in (closed / "x", closed / "x" / "y", place / "blind"):
        for ask in (refuse_replacing, claim_folder):
            said = as_user(ANNA, ask, path, "a test")
            assert said.startswith(f"OutputError: output_dir={path}: cannot be looked into; name another place")
    for ask in (refuse_file, write_file):
        assert as_user(ANNA, ask, closed / "x.mp4").startswith("OutputError")


@pytest.mark.starts_process
@needs_root
def test_a_folder_in_a_result_that_cannot_be_looked_at_is_not_taken_for_empty(place):
    mine = made(place / "mine", 0o755, ANNA, ANNA)
    assert as_user(ANNA, write, mine / "out") == ""
    made(mine / "out" / "his", 0o700)
    assert "holds his, not as this command wrote it" in as_user(ANNA, refuse_replacing, mine / "out", "a test")
