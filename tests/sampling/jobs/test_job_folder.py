"""A video gets its name whole and once; records say what became of a job; too many tries end it."""

import errno
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from faceid.errors import DataError
from faceid.files.provenance import sha256_file
from faceid.sampling.jobs.job_folder import MOST_DEATHS, MOST_ERRORS, JobFolder
from faceid.sampling.jobs.job_list import RequestedJob
from faceid.sampling.jobs.plan import Job
from faceid.sampling.jobs.worker import conclude
from faceid.sampling.who.rendered_identities import Face

ROW = {"pose": "a.mp4", "seed": 1}


@pytest.fixture
def folder(tmp_path):
    return JobFolder(tmp_path / "out")


@pytest.fixture
def video(tmp_path):
    def make(content=b"video"):
        path = tmp_path / "private.mp4"
        path.write_bytes(content)
        return path

    return make


def visible(folder):
    files = [path for path in folder.output_dir.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if not {".jobs", ".faceid"} & set(path.parts))


def test_a_published_video_has_its_name_its_sidecar_and_its_record(folder, video):
    folder.publish("1a", video(), "anna/a.mp4", ROW, {"seed": 1})
    final = folder.output_dir / "anna" / "a.mp4"
    assert final.read_bytes() == b"video" and json.loads(final.with_suffix(".json").read_text()) == {"seed": 1}
    record = folder.done("1a")
    assert record == {**ROW, "id": "1a", "output": "anna/a.mp4", "sha256": sha256_file(final), "bytes": 5}
    assert folder.is_settled("1a") and not folder.is_settled("2b")
    assert visible(folder) == ["a.json", "a.mp4"]


def test_the_second_of_two_workers_changes_nothing(folder, video):
    folder.publish("1a", video(), "a.mp4", {**ROW, "worker": "first"}, {})
    before = (folder.output_dir / "a.mp4").stat()
    folder.publish("1a", video(), "a.mp4", {**ROW, "worker": "second"}, {})
    after = (folder.output_dir / "a.mp4").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert folder.done("1a")["worker"] == "first"


def test_other_bytes_for_the_same_job_are_an_alarm_and_the_first_stay(folder, video):
    folder.publish("1a", video(), "a.mp4", ROW, {})
    with pytest.raises(DataError, match="another worker published other bytes for the same job; the first stay"):
        folder.publish("1a", video(b"other"), "a.mp4", ROW, {})
    assert (folder.output_dir / "a.mp4").read_bytes() == b"video" and visible(folder) == ["a.json", "a.mp4"]


@pytest.mark.fault("L4")
@pytest.mark.parametrize("taken", ["a.mp4", "a.json"])
def test_a_file_that_no_batch_wrote_is_left_as_it_is(folder, video, taken):
    """Also one that a batch wrote and somebody has changed since, as whoever cuts a video shorter does."""
    (folder.output_dir / taken).write_bytes(b"mine")
    for refuse in (folder.refuse_taken, lambda output: folder.publish("1a", video(), output, ROW, {})):
        with pytest.raises(DataError, match=f"{taken}.*: exists"):
            refuse("a.mp4")
    assert (folder.output_dir / taken).read_bytes() == b"mine" and folder.done("1a") is None
    (folder.output_dir / taken).unlink()
    folder.publish("1a", video(), "a.mp4", ROW, {})
    (folder.output_dir / "a.mp4").write_bytes(b"cut")
    assert folder.done("1a") is None
    with pytest.raises(DataError, match="exists"):
        folder.publish("1a", video(), "a.mp4", ROW, {})
    assert (folder.output_dir / "a.mp4").read_bytes() == b"cut"


def test_a_video_that_a_killed_worker_left_without_a_record_is_replaced(folder, video, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(folder, "_write_once", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.publish("1a", video(b"first"), "a.mp4", ROW, {})
    assert folder.done("1a") is None and (folder.output_dir / "a.mp4").read_bytes() == b"first"
    folder.refuse_taken("a.mp4")
    folder.publish("1a", video(), "a.mp4", ROW, {})
    assert (folder.output_dir / "a.mp4").read_bytes() == b"video" and folder.done("1a")["bytes"] == 5
    (folder.output_dir / "a.mp4").unlink()
    assert folder.done("1a") is None and not folder.is_settled("1a")


def test_three_errors_end_a_job_with_the_last_ones_log(folder):
    for number in range(MOST_ERRORS):
        attempt = folder.begin("1a", "w")
        assert attempt is not None and not folder.is_settled("1a")
        folder.note_error(attempt, f"error {number}", [f"line {number}"])
    assert folder.begin("1a", "w") is None
    failed = folder.failed("1a")
    assert failed["attempts"] == MOST_ERRORS and failed["error"].startswith("error") and len(failed["log"]) == 1
    # The first word stands.
    folder.fail("1a", "another", [], 9)
    assert folder.failed("1a") == failed and folder.is_settled("1a")


def test_workers_that_die_are_forgiven_more_often(folder):
    for _ in range(MOST_DEATHS):
        assert folder.begin("1a", "w") is not None
    assert folder.begin("1a", "w") is None
    assert "10 workers ended in the middle of it" in folder.failed("1a")["error"]


def test_what_killed_workers_left_of_finished_jobs_is_swept(folder, video):
    folder.begin("1a", "w")
    folder.begin("2b", "w")
    folder.publish("1a", video(), "anna/a.mp4", ROW, {})
    left = [folder.output_dir / "anna" / f".{job}.12345678.tmp" for job in ("1a", "2b")]
    for path in left:
        path.write_bytes(b"vi")
    # One who died between the record and the claim's release, one who is still at it, and one at another's job.
    claims = [folder.claims().take(name) for name in ("1a", "again-1a", "2b")]
    folder.sweep(["1a"])
    assert {path.name for path in (folder.folder / "claims").glob("[!.]*")} == {"2b"}
    for claim in claims:
        claim.release()
    assert not list((folder.folder / "claims").iterdir())
    assert [path.exists() for path in left] == [False, True]
    assert [path.name[:2] for path in (folder.folder / "attempts").iterdir()] == ["2b"]


def test_a_worker_whose_copy_was_swept_finds_its_job_done(folder, video, monkeypatch):
    folder.publish("1a", video(), "a.mp4", ROW, {})
    link = folder._publish_copy

    def swept(job, copy, final, sha256):
        copy.unlink()
        final.unlink()
        link(job, copy, final, sha256)

    monkeypatch.setattr(folder, "_publish_copy", swept)
    with pytest.raises(FileNotFoundError):
        folder.publish("1a", video(), "a.mp4", ROW, {})

    def only_copy(job, copy, final, sha256):
        copy.unlink()
        raise FileNotFoundError(copy)

    monkeypatch.setattr(folder, "_publish_copy", link)
    folder.publish("1a", video(), "a.mp4", ROW, {})
    monkeypatch.setattr(folder, "_publish_copy", only_copy)
    folder.publish("1a", video(), "a.mp4", ROW, {})
    assert folder.done("1a") is not None


def test_a_full_disk_leaves_nothing_half(folder, video, monkeypatch):
    import faceid.sampling.jobs.job_folder as module

    def full(source, target):
        target.write_bytes(b"vi")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        folder.publish("1a", video(), "a.mp4", ROW, {})
    assert visible(folder) == [] and folder.done("1a") is None


@pytest.mark.fault("8")
@pytest.mark.parametrize("links", [True, False])
def test_a_copy_is_on_the_disk_before_it_gets_its_name_and_its_name_is_then(tmp_path, video, monkeypatch, links):
    """A power cut between the two must not leave a named file of zeros, nor a record without its file."""
    folder, happened, fsync = JobFolder(tmp_path / "out", links), [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: happened.append(("flushed", os.fstat(number).st_ino)) or fsync(number)
    )

    def watched(function):
        def call(source, target, *more, **how):
            happened.append(("named", Path(target).name, os.stat(source).st_ino))
            return function(source, target, *more, **how)

        return call

    for owner, name in ((os, "link"), (Path, "rename")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    folder.publish("1a", video(), "a.mp4", ROW, {})
    named = [at for at, what in enumerate(happened) if what[:2] == ("named", "a.mp4")]
    (recorded,) = (at for at, what in enumerate(happened) if what[:2] == ("named", "1a.json"))
    copy, parent = happened[named[0]][2], (tmp_path / "out").stat().st_ino
    assert ("flushed", copy) in happened[: named[0]]
    assert ("flushed", parent) in happened[named[0] : recorded]
    assert ("flushed", happened[recorded][2]) in happened[:recorded]
    assert ("flushed", (folder.folder / "done").stat().st_ino) in happened[recorded:]


class Opened:
    """What a piece of code asks the file system: names listed, and files opened by their folder's name."""

    hooked: "Opened | None" = None

    def __init__(self):
        self.listed, self.opened, self.is_on = 0, Counter(), False

    def __call__(self, event, given):
        if not self.is_on or not given or not isinstance(given[0], (str, os.PathLike)):
            return
        if event in ("os.listdir", "os.scandir"):
            self.is_on = False
            self.listed += len(os.listdir(given[0]))
            self.is_on = True
        elif event == "open":
            self.opened[Path(given[0]).parent.name] += 1

    def __enter__(self):
        self.__init__()
        self.is_on = True
        return self

    def __exit__(self, *error):
        self.is_on = False


@pytest.fixture
def asked():
    """One for the process: such a hook cannot be taken off."""
    if Opened.hooked is None:
        Opened.hooked = Opened()
        sys.addaudithook(lambda event, given: Opened.hooked(event, given))
    return Opened.hooked


@pytest.mark.fault("C2")
def test_a_try_costs_the_same_whatever_others_have_tried(folder, asked):
    for number in range(500):
        (folder.folder / "attempts" / f"{number:04x}").mkdir()
        (folder.folder / "attempts" / f"{number:04x}" / "a.json").write_text("{}")
    folder.begin("1a", "w")
    with asked:
        assert folder.begin("1a", "w") is not None
    assert asked.listed < 20 and sum(asked.opened.values()) < 20


@pytest.mark.fault("C2")
def test_of_many_workers_one_reads_all_records_and_writes_the_rows(folder, asked):
    requests = [RequestedJob(Path(f"{number}.mp4"), "", 1, "", "", None) for number in range(60)]
    jobs = [Job(f"{number:04x}", request, "a.mp4", Face()) for number, request in enumerate(requests)]
    for job in jobs:
        (folder.folder / "failed" / f"{job.id}.json").write_text('{"error": "no such pose"}')
    with asked:
        rows = conclude(jobs, folder, 1.0)
    assert len(rows) == 60 and asked.opened["failed"] == 60
    with asked:
        assert conclude(jobs, JobFolder(folder.output_dir), 1.0) == rows
    assert sum(asked.opened.values()) < 20 and not asked.opened["failed"]
    # Where there was work again, or the rows are not there, they are read anew.
    folder.reopen()
    with asked:
        assert conclude(jobs, folder, 1.0) == rows
    assert asked.opened["failed"] == 60
    (folder.output_dir / "jobs.jsonl").unlink()
    assert conclude(jobs, folder, 1.0) == rows and (folder.output_dir / "jobs.jsonl").is_file()


@pytest.mark.fault("C2")
def test_a_worker_reads_each_record_once_to_know_what_is_left(folder, video, asked):
    folder.publish("1a", video(), "a.mp4", ROW, {})
    record = folder.done("1a")
    for number in range(300):
        said = {**record, "id": f"{number:04x}"}
        (folder.folder / "done" / f"{number:04x}.json").write_text(json.dumps(said))
    jobs = [f"{number:04x}" for number in range(400)]
    with asked:
        settled = folder.settled_among(jobs, folder.records())
    assert len(settled) == 300 and sum(asked.opened.values()) <= 301


@pytest.mark.fault("S1")
@pytest.mark.parametrize(
    "changed", [{"output": "../mine.mp4"}, {"output": "/etc/passwd"}, {"id": "../../x"}, {"output": 3}]
)
def test_a_record_that_names_another_place_counts_for_nothing(folder, video, changed):
    """A folder of videos is passed on: its records are files like any."""
    folder.publish("1a", video(), "a.mp4", ROW, {})
    (folder.output_dir.parent / "mine.mp4").write_bytes(b"video")
    path = folder.folder / "done" / "1a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert folder.done("1a") is None and folder.settled_among(["1a"], folder.records()) == set()


@pytest.mark.fault("W7")
def test_without_hard_links_a_worker_that_has_its_jobs_for_itself_publishes(tmp_path, video, monkeypatch):
    def none(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    with pytest.raises(DataError, match=r"out: this file system has no hard links.*give --static"):
        JobFolder.claim(tmp_path / "out", [])
    folder = JobFolder.claim(tmp_path / "out", [], links=False)
    folder.publish("1a", video(), "a.mp4", ROW, {})
    folder.publish("1a", video(), "a.mp4", {**ROW, "worker": "second"}, {})
    folder.fail("2b", "first", [], 1)
    folder.fail("2b", "second", [], 1)
    assert "worker" not in folder.done("1a") and folder.failed("2b")["error"] == "first"
    assert visible(folder) == ["a.json", "a.mp4"]


def test_a_folder_of_before_is_gone_on_with(tmp_path, video):
    """It has no record of what was written into it; that its rows and pictures are ours, its .jobs says."""
    folder = JobFolder(tmp_path / "out")
    folder.publish("1a", video(), "a.mp4", ROW, {})
    (folder.output_dir / "jobs.jsonl").write_text("{}\n")
    shutil.rmtree(folder.output_dir / ".faceid")
    again = JobFolder.claim(tmp_path / "out", [])
    assert again.done("1a") is not None
    again.conclude("x", [{"id": "1a"}])
    assert (folder.output_dir / "jobs.jsonl").read_text() == '{"id": "1a"}\n'
