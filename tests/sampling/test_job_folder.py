"""A video gets its name whole and once; records say what became of a job; too many tries end it."""

import json

import pytest

from faceid.errors import DataError
from faceid.provenance import sha256_file
from faceid.sampling.job_folder import MOST_DEATHS, MOST_ERRORS, JobFolder

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
    import errno

    import faceid.sampling.job_folder as module

    def full(source, target):
        target.write_bytes(b"vi")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        folder.publish("1a", video(), "a.mp4", ROW, {})
    assert visible(folder) == [] and folder.done("1a") is None
