"""A user's fault is one line and exit code 2; a defect of ours keeps its traceback."""

from __future__ import annotations

import pytest

from faceid import errors
from faceid.errors import ConfigError, DataError, FaceidError, ModelError, run_entry_point


def raising(error: Exception):
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize("kind", [FaceidError, ConfigError, DataError, ModelError])
def test_a_users_error_is_one_line_and_exit_code_2(kind, capsys):
    with pytest.raises(SystemExit) as end:
        run_entry_point(raising(kind("clip.mp4: no frame\n   can be decoded")))
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: clip.mp4: no frame can be decoded\n"


def test_another_process_prints_only_what_the_launcher_gives_it_time_for(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    waited = []
    monkeypatch.setattr(errors.time, "sleep", waited.append)
    with pytest.raises(SystemExit) as end:
        run_entry_point(raising(DataError("damaged")))
    assert end.value.code == 2 and waited == [errors.GRACE_S]
    assert capsys.readouterr().err == "error: damaged\n"


def test_a_reader_processs_traceback_is_left_out(capsys):
    message = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n"
    )
    with pytest.raises(SystemExit):
        run_entry_point(raising(DataError(message + "faceid.errors.DataError: a.tar: damaged\n")))
    assert capsys.readouterr().err == "error: a.tar: damaged\n"


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_entry_point(raising(ZeroDivisionError()))


@pytest.mark.fault("W1")
def test_a_full_disk_is_one_line_wherever_it_is_met(capsys):
    with pytest.raises(SystemExit) as end:
        run_entry_point(raising(OSError(28, "No space left on device", "out/x.json")))
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: out/x.json: no space left on the disk; make room")
    with pytest.raises(OSError, match="No such"):
        run_entry_point(raising(OSError(2, "No such file", "in.mp4")))


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_exit_code_is_what_main_returns(returned, code):
    with pytest.raises(SystemExit) as end:
        run_entry_point(lambda: returned)
    assert end.value.code == code


@pytest.mark.fault("W5")
def test_a_rank_that_is_no_number_hides_no_error(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "abc")
    monkeypatch.setattr(errors.time, "sleep", lambda seconds: pytest.fail("waited for another process"))
    with pytest.raises(SystemExit) as end:
        run_entry_point(raising(DataError("damaged")))
    assert end.value.code == 2 and capsys.readouterr().err == "error: damaged\n"


@pytest.mark.fault("W5")
def test_what_a_file_says_is_shown_and_not_obeyed(capsys):
    with pytest.raises(SystemExit):
        run_entry_point(raising(DataError("\x1b[2Jred\0\u202e \ud800" + "x" * 10_000)))
    line = capsys.readouterr().err
    assert line.startswith(r"error: \x1b[2Jred\x00\u202e \ud800xxx") and line.count("\n") == 1 and len(line) < 2_100
    assert line.endswith("characters)\n")
