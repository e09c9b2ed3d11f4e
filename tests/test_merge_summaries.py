"""Summaries join: the first one's figures stand, the next fill what it leaves empty."""

from __future__ import annotations

import json
import sys

from launching import run_command


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


def test_a_missing_summary_is_one_line(tmp_path):
    command = [sys.executable, "tools/merge_summaries.py", "--output", str(tmp_path / "o.json")]
    done = run_command([*command, "--summaries", f"[{tmp_path}/none.json]"], expect=2)
    assert done.stderr.strip().count("\n") == 0 and "none.json: cannot be read" in done.stderr
