"""Summaries join: the first one's figures stand, the next fill what it leaves empty."""

from __future__ import annotations

import json
import sys

import pytest
from launching import run_command

pytestmark = pytest.mark.starts_process


def merge(tmp_path, summaries: list[dict], *flags: str) -> dict:
    files = [tmp_path / f"{number}.json" for number in range(len(summaries))]
    for file, summary in zip(files, summaries, strict=True):
        file.write_text(json.dumps(summary))
    listed = f"[{', '.join(map(str, files))}]"
    command = [
        sys.executable,
        "tools/merge_summaries.py",
        "--summaries",
        listed,
        "--output",
        str(tmp_path / "out.json"),
    ]
    run_command([*command, *flags])
    return json.loads((tmp_path / "out.json").read_text())


def test_the_first_stands_and_the_next_fill_its_gaps(tmp_path):
    joined = merge(tmp_path, [{"a": 1, "b": None, "wall_s": 2.0}, {"a": 5, "b": False, "c": 0.0, "wall_s": 3.0}])
    assert joined == {"a": 1, "b": False, "c": 0.0, "wall_s": 5.0}
    assert merge(tmp_path, [{"a": 1}], "--wall_s", "7.5")["wall_s"] == 7.5


def test_what_a_judge_leaves_empty_is_filled_too(tmp_path):
    first = {"by_recogniser": {"a": {"known": None, "target": 0.5}}}
    second = {"by_recogniser": {"a": {"known": 0.0, "target": 0.9}, "b": {"known": 0.25}}}
    joined = merge(tmp_path, [first, second])
    assert joined["by_recogniser"] == {"a": {"known": 0.0, "target": 0.5}, "b": {"known": 0.25}}


def test_an_interval_is_that_of_its_figure(tmp_path):
    first = {"known": None, "target": 0.5, "intervals": {"known": None, "target": {"low": None, "count": 2}}}
    second = {"known": 0.2, "target": 0.9, "intervals": {"known": {"low": 0.1, "count": 9}, "target": {"low": 0.8}}}
    joined = merge(tmp_path, [first, {"by_recogniser": {"a": first}}, second, {"by_recogniser": {"a": second}}])
    # A single person's figure has no interval, and another evaluation's would not be its own.
    expected = {"known": {"low": 0.1, "count": 9}, "target": {"low": None, "count": 2}}
    assert joined["intervals"] == joined["by_recogniser"]["a"]["intervals"] == expected
    later = merge(tmp_path, [{"target": 0.5}, {**second, "intervals": {"target": [0.8, 1.0]}}])
    assert later["intervals"] == {}


def test_a_missing_summary_is_one_line(tmp_path):
    command = [sys.executable, "tools/merge_summaries.py", "--output", str(tmp_path / "o.json")]
    done = run_command([*command, "--summaries", f"[{tmp_path}/none.json]"], expect=2)
    assert done.stderr.strip().count("\n") == 0 and "none.json: cannot be read" in done.stderr


def test_headlines_of_two_judges_are_not_joined(tmp_path):
    for judge in ("one", "another"):
        (tmp_path / f"{judge}.json").write_text(json.dumps({"primary_recogniser": judge}))
    listed = f"[{tmp_path}/one.json, {tmp_path}/another.json]"
    command = [sys.executable, "tools/merge_summaries.py", "--summaries", listed, "--output", str(tmp_path / "o.json")]
    done = run_command(command, expect=2)
    assert "another.json: its headlines are by another, those of" in done.stderr
    assert not (tmp_path / "o.json").exists()


def test_the_encoders_equal_error_rate_comes_from_its_verification(tmp_path):
    file = tmp_path / "verification.json"
    file.write_text(json.dumps({"equal_error_rate": {"value": 0.16, "low": 0.1, "high": 0.2, "count": 9}}))
    joined = merge(tmp_path, [{"target": 0.5, "intervals": {"target": [0.4, 0.6]}}], "--verification", str(file))
    assert joined["encoder_eer"] == 0.16
    assert joined["intervals"] == {"target": [0.4, 0.6], "encoder_eer": [0.1, 0.2]}
    # Not one of these: another command's file.
    file.write_text(json.dumps({"equal_error_rate": "low"}))
    command = [sys.executable, "tools/merge_summaries.py", "--output", str(tmp_path / "o.json")]
    command += ["--summaries", f"[{tmp_path}/0.json]", "--verification", str(file)]
    assert f"verification={file}: has no equal_error_rate" in run_command(command, expect=2).stderr
