"""A log's lines are ours: names and prompts in them cannot make one, nor reach the terminal."""

import logging

from calling import process_state_kept

from faceid.logs import log_file, set_up_logging


def test_names_and_prompts_forge_no_line_and_reach_no_terminal(tmp_path, capsys):
    with process_state_kept():
        set_up_logging(0, tmp_path)
        log = logging.getLogger("faceid.test")
        log.info("%s in 1.2 s", "a\nerror: gone\x1b[31m\u202e_pose.mp4")
        log.warning("two\nlines, as they are meant")
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("a defect")
    for text in (capsys.readouterr().err, log_file(tmp_path, 0).read_text(encoding="utf-8")):
        lines = text.splitlines()
        assert lines[0].endswith(" faceid.test: a") and lines[1] == r"    error: gone\x1b[31m\u202e_pose.mp4 in 1.2 s"
        assert lines[3] == "    lines, as they are meant" and "Traceback (most recent call last):" in lines
        assert not any(line.startswith("error:") for line in lines)
