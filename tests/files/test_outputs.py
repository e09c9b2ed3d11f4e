"""Files come to exist whole or not at all, even when the writer is killed at any moment; and only ours are replaced."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from killed_writes import killed_at
from launching import run_command

from faceid.errors import DataError
from faceid.files import outputs, records, writing
from faceid.files.outputs import (
    claim_folder,
    is_ours,
    new_folder,
    refuse_file,
    remove_output,
    staged_file,
    staged_folder,
    sweep_folders,
    write_bookkeeping,
)
from faceid.files.records import recorded
from faceid.files.writing import sweep, temporary_beside, told, write_atomic, write_json

pytestmark = pytest.mark.promise(
    "a write killed before and after each of its calls",
    bar="the old state or the new one; the next command sweeps the rest",
    proof="nothing_lost",
)

REPOSITORY = Path(__file__).resolve().parents[2]
# Calls that change the disk's state: before and after each is a point at which a real kill can matter.
CALLS = ("mkdir", "rename", "replace", "open", "unlink")


def write_by_atomic(path: Path) -> None:
    write_atomic(path, b"new" * 1000)


def write_by_file(path: Path) -> None:
    with staged_file(path) as temporary:
        temporary.write_bytes(b"new" * 1000)


def write_by_folder(path: Path) -> None:
    with staged_folder(path, "a test") as temporary:
        (temporary / "a").write_bytes(b"new")
        (temporary / "b").write_bytes(b"new")


WRITERS = {"atomic": write_by_atomic, "file": write_by_file, "folder": write_by_folder}


# A process that has imported next to nothing: to fork one with torch in it takes a hundred times as long.
SMALL = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def run_killed(writer: str, path: Path, point: int, can_exchange: bool = True) -> int:
    """Write in a copy of this process, which kills itself at its n-th point; its exit code."""

    def write() -> None:
        sweep.cache_clear()
        if not can_exchange:
            outputs.exchange = lambda first, second: False
        WRITERS[writer](path)

    return killed_at(point, write, CALLS, after=True)


def killed_at_every_point(
    writer: str, path: Path, prepare: Callable[[], object], can_exchange: bool = True
) -> Iterator[tuple[int, int]]:
    """Run the writer, killed one step later each time, until it ends unharmed; yield (step, exit code)."""
    points = 0
    while True:
        prepare()
        points += 1
        code = SMALL.submit(run_killed, writer, path, points, can_exchange).result()
        yield points, code
        if code == 0:
            return
        assert code == -signal.SIGKILL


@pytest.mark.starts_process
@pytest.mark.parametrize("writer", ["atomic", "file"])
def test_a_killed_file_is_old_or_new(tmp_path, writer):
    path = tmp_path / "in" / "state.bin"
    path.parent.mkdir()
    seen = set()

    def prepare() -> None:
        # Each process keeps a record of its own, and reads all of them: with those of before there would be no end.
        shutil.rmtree(path.parent)
        with staged_file(path) as temporary:
            temporary.write_bytes(b"old")

    points = 0
    for point, _ in killed_at_every_point(writer, path, prepare):
        seen.add(path.read_bytes())
        points = point
    assert seen == {b"old", b"new" * 1000}
    assert points > 3
    assert path.read_bytes() == b"new" * 1000


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {".faceid"} if folder.exists() else set()


@pytest.mark.starts_process
def test_a_killed_folder_never_shows_a_part_of_the_new_one(tmp_path):
    path = tmp_path / "out"
    points = 0

    def prepare() -> None:
        shutil.rmtree(path, ignore_errors=True)

    for point, code in killed_at_every_point("folder", path, prepare):
        points = point
        assert names_in(path) in (set(), {"a", "b"})
        if code == 0:
            assert names_in(path) == {"a", "b"}
    assert points > 5
    assert os.listdir(tmp_path) == ["out"], "what the killed ones left is swept by the next"


@pytest.mark.starts_process
def test_a_killed_replacement_leaves_the_old_or_the_new_folder(tmp_path):
    path = tmp_path / "out"

    def prepare() -> None:
        shutil.rmtree(tmp_path)
        with staged_folder(path, "a test") as staged:
            for name in ("a", "b"):
                (staged / name).write_bytes(b"old")

    seen = set()
    for _ in killed_at_every_point("folder", path, prepare):
        assert path.is_dir(), "neither the old nor the new folder is at its name"
        contents = {(path / name).read_bytes() for name in names_in(path)}
        assert len(contents) == 1
        seen |= contents
    assert seen == {b"old", b"new"}


@pytest.mark.starts_process
def test_where_names_cannot_be_exchanged_a_killed_replacement_is_put_right_by_the_next(tmp_path):
    """NFS: the next command, whatever it writes there, swept the new folder and the old one."""
    path = tmp_path / "x" / "out"

    def prepare() -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        with staged_folder(path, "a test") as staged:
            (staged / "a").write_bytes(b"old")

    was_away = 0
    for _ in killed_at_every_point("folder", path, prepare, can_exchange=False):
        sweep.cache_clear()
        put(path.parent / "other.txt", "another command's")
        sweep_folders(path.parent)
        seen = path if path.exists() else path.with_name("out.replaced")
        was_away += not path.exists()
        assert (seen / "a").read_bytes() in (b"old", b"new")
        with pytest.raises(RuntimeError), staged_folder(path, "a test"):
            raise RuntimeError
        assert sorted(os.listdir(path.parent)) == [".faceid", "other.txt", "out"]
        assert (path / "a").read_bytes() in (b"old", b"new")
    assert was_away >= 1


def test_a_block_that_raises_leaves_the_old_state_and_no_temporary(tmp_path):
    write_atomic(tmp_path / "file.txt", "old")
    with pytest.raises(RuntimeError), staged_file(tmp_path / "other.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "folder", "a test") as staged:
        (staged / "a").write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), new_folder(tmp_path / "new") as staged:
        (staged / "a").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_staged_folder_replaces_its_older_one_whole(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(outputs, "exchange", lambda first, second: False)
    for generation in ("one", "two"):
        with staged_folder(tmp_path / "out", "a test") as staged:
            (staged / generation).write_text("x")
    assert os.listdir(tmp_path) == ["out"]
    assert names_in(tmp_path / "out") == {"two"}


def test_a_staged_file_keeps_its_suffix(tmp_path):
    with staged_file(tmp_path / "video.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"x")


def test_json_is_readable_text(tmp_path):
    write_json(tmp_path / "deep" / "x.json", {"a": 1})
    assert (tmp_path / "deep" / "x.json").read_text() == '{\n "a": 1\n}\n'


@pytest.mark.parametrize("writer", WRITERS)
def test_everything_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch, writer):
    """A rename may reach the disk before what it names: after a power cut there would be an empty file."""
    happened: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def noted(what, call, path_of):
        def wrapper(*args):
            happened.append((what, path_of(*args)))
            return call(*args)

        return wrapper

    monkeypatch.setattr(os, "fsync", noted("flush", fsync, lambda number: os.readlink(f"/proc/self/fd/{number}")))
    monkeypatch.setattr(Path, "rename", noted("name", rename, lambda old, new: str(new)))
    monkeypatch.setattr(Path, "replace", noted("name", replace, lambda old, new: str(new)))
    path = tmp_path / "out"
    WRITERS[writer](path)
    named = happened.index(("name", str(path)))
    flushed = [Path(name).name for what, name in happened[:named] if what == "flush"]
    if writer == "folder":
        assert {"a", "b"} <= set(flushed)
        assert any(Path(name).name.startswith(".faceid-") for what, name in happened[:named] if what == "flush")
    else:
        assert any(name.startswith(".faceid-") for name in flushed)
    assert ("flush", str(tmp_path)) in happened[named:]


# What may be replaced.


def put(path: Path, text: str) -> None:
    with staged_file(path) as temporary:
        temporary.write_text(text)


@pytest.mark.fault("L4")
def test_a_file_of_somebody_is_not_replaced(tmp_path):
    mine = tmp_path / "dance.mp4"
    mine.write_text("a real clip")
    with pytest.raises(DataError, match=r"dance\.mp4: exists, and is not as this command wrote it"):
        put(mine, "a render")
    assert mine.read_text() == "a real clip"


def test_a_file_of_ours_is_replaced_until_somebody_changes_it(tmp_path):
    path = tmp_path / "x.txt"
    put(path, "one")
    put(path, "two")
    assert is_ours(path)
    path.write_text("edited by hand")
    assert not is_ours(path)
    with pytest.raises(DataError, match="exists"):
        put(path, "three")
    assert not remove_output(path)
    assert path.read_text() == "edited by hand"


def test_a_file_that_appears_while_we_work_is_left_and_the_result_kept_beside_it(tmp_path):
    path = tmp_path / "x.txt"
    with staged_file(path) as temporary:
        temporary.write_text("hours of work")
        path.write_text("somebody's")
    assert path.read_text() == "somebody's"
    assert (tmp_path / "x-2.txt").read_text() == "hours of work"


def test_a_link_is_not_followed(tmp_path):
    """Replacing it would replace a name of the user's; writing through it, a file elsewhere."""
    put(tmp_path / "x.txt", "one")
    (tmp_path / "x.txt").rename(tmp_path / "elsewhere.txt")
    (tmp_path / "x.txt").symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(DataError, match="exists"):
        put(tmp_path / "x.txt", "two")


@pytest.mark.fault("L1")
@pytest.mark.parametrize("where", ["photos/me.jpg", "one"])
def test_a_folder_with_a_file_of_somebody_is_not_replaced(tmp_path, where):
    with staged_folder(tmp_path / "out", "a test") as staged:
        (staged / "one").write_text("ours")
    mine = tmp_path / "out" / where
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    refused = pytest.raises(DataError, match=f"holds {where}, not as this command wrote it")
    with refused, staged_folder(tmp_path / "out", "a test"):
        pytest.fail("the work began")
    assert mine.read_text() == "mine"


def test_what_is_put_into_a_folder_while_we_work_is_kept(tmp_path):
    out = tmp_path / "out"
    with staged_folder(out, "a test") as staged:
        (staged / "one").write_text("ours")
    with staged_folder(out, "a test") as staged:
        (staged / "two").write_text("ours")
        (out / "mine").write_text("mine")
    assert names_in(out) == {"one", "mine"}
    assert names_in(tmp_path / "out-2") == {"two"}


def test_what_is_put_into_a_folder_in_the_last_moment_has_a_name_that_is_seen_and_stays(tmp_path, monkeypatch, caplog):
    out = tmp_path / "out"
    with staged_folder(out, "a test") as staged:
        (staged / "one").write_text("ours")

    def put_in_and_exchange(first, second):
        (out / "me.jpg").write_text("mine")
        return writing.exchange(first, second)

    monkeypatch.setattr(outputs, "exchange", put_in_and_exchange)
    with staged_folder(out, "a test") as staged:
        (staged / "two").write_text("ours")
    assert names_in(out) == {"two"} and "kept as" in caplog.text
    assert names_in(tmp_path / "out.replaced") == {"one", "me.jpg"}


def test_a_folder_that_a_killed_process_had_replaced_is_kept_when_it_holds_a_file_of_somebody(tmp_path):
    with staged_folder(tmp_path / "out", "a test") as staged:
        (staged / "one").write_text("ours")
    (tmp_path / "out" / "me.jpg").write_text("mine")
    left = tmp_path / ".faceid-h0-1-0-abcdef.tmp"
    (tmp_path / "out").rename(left)
    os.utime(left, (0, 0))
    sweep.cache_clear()
    sweep(tmp_path)
    assert left.is_dir()
    sweep_folders(tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.name == "result.replaced" and (kept / "me.jpg").read_text() == "mine"


@pytest.mark.parametrize("how", ["replaced", "new"])
def test_a_result_goes_where_a_link_leads_and_the_link_stays(tmp_path, how):
    """The work was lost at its end, or the link replaced and the result on the wrong disk."""
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")
    for text in ("one", "two") if how == "replaced" else ("one",):
        with staged_folder(link, "a test") if how == "replaced" else new_folder(link) as staged:
            (staged / "a").write_text(text)
    assert link.is_symlink() and (tmp_path / "disk" / "a").read_text() == text
    assert sorted(os.listdir(tmp_path)) == ["disk", "link"]


@pytest.mark.parametrize("name", [".", "../here"])
@pytest.mark.parametrize("writer", [new_folder, lambda path: staged_folder(path, "a test")])
def test_the_folder_one_is_in_is_not_replaced(tmp_path, monkeypatch, name, writer):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match="is the folder you are in"), writer(Path(name)):
        pytest.fail("the work began")


def test_a_file_of_another_command_is_not_replaced(tmp_path, monkeypatch):
    """An exported LoRA took the place of the adapter that a run had trained."""
    monkeypatch.setattr(sys, "argv", ["somewhere/train.py"])
    claim_folder(tmp_path / "run", "a run")
    for folder in (tmp_path, tmp_path / "run"):
        put(folder / "x.safetensors", "hours of training")
    refuse_file(tmp_path / "run" / "x.safetensors", within="a run")
    monkeypatch.setattr(sys, "argv", ["tools/export_lora.py"])
    for folder in (tmp_path, tmp_path / "run"):
        with pytest.raises(DataError, match=r"x\.safetensors: exists, and is not as this command wrote it"):
            refuse_file(folder / "x.safetensors")
    with pytest.raises(DataError, match="is not as this command wrote it"):
        put(tmp_path / "x.safetensors", "a LoRA")
    put(tmp_path / "run" / "y.safetensors", "a LoRA")
    refuse_file(tmp_path / "run" / "y.safetensors")


def test_bookkeeping_that_somebody_edited_is_kept_and_written_anew(tmp_path, caplog):
    file = tmp_path / "config.yaml"
    for content in ("a: 1\n", "a: 2\n"):
        write_bookkeeping(file, content)
    assert names_in(tmp_path) == {"config.yaml"}
    file.write_text("a: 2 # mine\n")
    write_bookkeeping(file, "a: 3\n")
    assert file.read_text() == "a: 3\n" and "config.edited.yaml" in caplog.text
    assert (tmp_path / "config.edited.yaml").read_text() == "a: 2 # mine\n"
    write_bookkeeping(file, "a: 4\n")
    assert names_in(tmp_path) == {"config.yaml", "config.edited.yaml"}


def test_records_are_read_once_and_grow_only_by_what_is_new(tmp_path, monkeypatch):
    """To rewrite a folder of 4,000 files read 8 million lines."""
    for number in range(20):
        put(tmp_path / f"{number}.txt", "x")
    (file,) = (tmp_path / ".faceid").iterdir()
    size, seen = file.stat().st_size, []
    parse = records.parse_json
    monkeypatch.setattr(records, "parse_json", lambda text: seen.append(text) or parse(text))
    for number in range(20):
        put(tmp_path / f"{number}.txt", "x")
    assert file.stat().st_size == size and len(seen) <= 20
    # Another process's, and a line that is half written.
    with (tmp_path / ".faceid" / "written-other.jsonl").open("w") as other:
        other.write('{"name": "a", "sha256": "1"}\n{"name": "b", "sha')
        other.flush()
        assert "b" not in recorded(tmp_path) and recorded(tmp_path)["a"] == {"1"}
        other.write('256": "2"}\n')
    assert recorded(tmp_path)["b"] == {"2"}
    shutil.rmtree(tmp_path / ".faceid")
    assert recorded(tmp_path) == {}


def test_a_folder_within_a_private_one_is_private_too(tmp_path):
    """Posters of faces lay in folders for everybody, which opened as soon as somebody copied or packed them."""
    earlier = os.umask(0)
    try:
        for name, private in (("batch", True), ("shared", False)):
            claim_folder(tmp_path / name, "renders", private=private)
            put(tmp_path / name / "gallery" / "posters" / "a.jpg", "a face")
            put(tmp_path / name / "gallery" / "b.jpg", "a face")
    finally:
        os.umask(earlier)
    (recorded_in,) = (path.name for path in (tmp_path / "batch" / "gallery" / ".faceid").iterdir())
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in sorted(tmp_path.rglob("*"))}
    assert {modes[name] for name in ("batch/.faceid/folder.json", "batch/gallery/.faceid/" + recorded_in)} == {0o600}
    assert {
        modes[name]
        for name in ("batch", "batch/.faceid", "batch/gallery/.faceid", "batch/gallery", "batch/gallery/posters")
    } == {0o700}
    assert {modes[name] for name in ("batch/gallery/posters/a.jpg", "batch/gallery/b.jpg")} == {0o600}
    assert modes["shared/gallery/posters"] == 0o777 and modes["shared/gallery/posters/a.jpg"] == 0o666


def test_a_link_that_leads_nowhere_is_no_place_to_write(tmp_path):
    link = tmp_path / "disk"
    link.symlink_to(tmp_path / "not mounted")
    with pytest.raises(DataError, match=r"is a link to .*not mounted, which is not there"):
        claim_folder(link, "clips")
    for writer in (new_folder, lambda path: staged_folder(path, "a test")):
        with pytest.raises(DataError, match="which is not there"), writer(link):
            pytest.fail("the work began")


def test_a_private_file_is_private_while_it_grows(tmp_path):
    earlier = os.umask(0)
    try:
        with staged_file(tmp_path / "dance.mp4", private=True) as temporary:
            temporary.write_text("a face")
            assert temporary.stat().st_mode & 0o777 == 0o600
            # As a film's writer does.
            with staged_file(temporary) as inner:
                inner.write_text("a face")
                assert inner.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "dance.mp4").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(earlier)


def test_a_folder_of_another_kind_is_not_replaced(tmp_path):
    with staged_folder(tmp_path / "out", "an identity") as staged:
        (staged / "one").write_text("ours")
    refused = pytest.raises(DataError, match="holds an identity, not an evaluation")
    with refused, staged_folder(tmp_path / "out", "an evaluation"):
        pytest.fail("the work began")
    with pytest.raises(DataError, match="holds an identity, not clips"):
        claim_folder(tmp_path / "out", "clips")


def test_a_new_folder_takes_no_name_that_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(DataError, match="exists"), new_folder(tmp_path / "out"):
        pytest.fail("the work began")


# Folders that are filled bit by bit.


def test_a_folder_of_somebody_is_not_claimed(tmp_path):
    (tmp_path / "me.jpg").write_text("mine")
    with pytest.raises(DataError, match=r"holds me\.jpg, not written by this command"):
        claim_folder(tmp_path, "clips")
    claim_folder(tmp_path / "new", "clips")
    (tmp_path / "new" / "notes.txt").write_text("mine")
    claim_folder(tmp_path / "new", "clips")


@pytest.mark.fault("L2")
def test_a_folder_that_is_read_from_is_not_claimed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="is read from by the same command"):
        claim_folder(tmp_path / "link", "clips", inputs=[tmp_path])


def test_a_record_is_written_before_a_file_gets_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path / "x.txt", "one")
    assert list(recorded(tmp_path)) == ["x.txt"]


def test_half_a_line_in_a_record_hides_no_other(tmp_path):
    put(tmp_path / "x.txt", "one")
    (file,) = (tmp_path / ".faceid").glob("written-*")
    file.write_text('{"name": "y"\n' + file.read_text() + '{"name": "z.txt", "sha')
    assert list(recorded(tmp_path)) == ["x.txt"]


# Disks, permissions, and what killed processes leave.


@pytest.mark.fault("W1")
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, error):
    monkeypatch.setattr(writing, "_is_full", lambda path: True)
    refused = pytest.raises(DataError, match=r"x\.pt: no space left on the disk; make room")
    with refused, staged_file(tmp_path / "x.pt"):
        raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "words", ["Error while serializing: I/O error: No space left on device (os error 28)", "file write failed"]
)
def test_a_library_that_has_made_room_again_is_believed(tmp_path, words):
    """safetensors removes what it could not finish: after that there is room, and it was a traceback."""
    refused = pytest.raises(DataError, match=r"x\.pt: no space left on the disk; make room")
    with refused, staged_file(tmp_path / "x.pt"):
        raise RuntimeError(words)


def test_a_full_disk_names_the_folder_that_was_asked_for(tmp_path, monkeypatch):
    def is_full(descriptor):
        raise OSError(28, "No space left on device")

    refused = pytest.raises(DataError, match=f"^{tmp_path / 'out'}: no space left on the disk")
    with refused, staged_folder(tmp_path / "out", "a test") as staged:
        monkeypatch.setattr(os, "fsync", is_full)
        write_atomic(staged / "deep" / "report.html", "x")


def test_a_file_that_is_read_is_not_said_to_be_written(tmp_path):
    denied = PermissionError(13, "Permission denied", "/elsewhere/photo.jpg")
    with pytest.raises(PermissionError), told(tmp_path / "x.pt"):
        raise denied


@pytest.mark.starts_process
@pytest.mark.fault("S5")
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    program = "import sys, pathlib; from faceid.files.writing import temporary_beside as t;"
    program += " p = t(pathlib.Path(sys.argv[1])); p.mkdir(); (p / 'photo.jpg').touch()"
    run_command([sys.executable, "-c", program, str(tmp_path / "x")])
    living = temporary_beside(tmp_path / "y.mp4")
    living.touch()
    (tmp_path / ".faceid-notes.tmp").touch()
    assert len(os.listdir(tmp_path)) == 3
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living.name, ".faceid-notes.tmp"}


@pytest.mark.fault("S4")
def test_what_shows_a_face_is_private_and_all_else_as_the_umask_says(tmp_path):
    for private in (True, False):
        with staged_folder(tmp_path / str(private), "a test", private=private) as staged:
            (staged / "deep").mkdir()
            os.close(os.open(staged / "deep" / "x", os.O_CREAT, 0o600))
    modes = [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "True", tmp_path / "True/deep/x")]
    assert modes == ["0o700", "0o600"]
    modes = [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "False", tmp_path / "False/deep/x")]
    assert modes == [oct(0o777 & ~writing.current_umask()), oct(0o666 & ~writing.current_umask())]
    claim_folder(tmp_path / "faces", "faces", private=True)
    put(tmp_path / "faces" / "x.mp4", "a face")
    assert (tmp_path / "faces").stat().st_mode & 0o077 == 0
    assert (tmp_path / "faces" / "x.mp4").stat().st_mode & 0o077 == 0
