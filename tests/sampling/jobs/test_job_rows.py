"""Rows of a list as they were written; one that cannot be is named and alone, whatever it holds."""

import json

import pytest
from render_flags import changed
from two_poses import rows, run

from faceid.errors import DataError
from faceid.sampling.jobs import job_list
from faceid.sampling.jobs.job_list import read_job_list, read_pose_folder
from faceid.sampling.one_video.video_settings import ContentSettings

CONTENT, ADAPTER = ContentSettings(prompt="p"), "own.safetensors"
GOOD = '{"pose": "good.mp4"}'


def read(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return read_job_list(tmp_path / name, None, CONTENT, ADAPTER)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_byte_that_is_not_utf8_spoils_its_row_alone(tmp_path, kind):
    row = "{},{}\n" if kind == "csv" else '{{"pose": "{}", "prompt": "{}"}}\n'
    rows = [("a.mp4", "caf\xe9"), ("b.mp4", "caf"), ("c.mp4", "fog")]
    lines = [row.format(*values).encode("latin-1") for values in rows]
    (tmp_path / f"x.{kind}").write_bytes((b"\xef\xbb\xbfpose,prompt\n" if kind == "csv" else b"") + b"".join(lines))
    bad, *good = read_job_list(tmp_path / f"x.{kind}", None, CONTENT, ADAPTER)
    assert bad.problem.endswith(f"x.{kind}, line {2 if kind == 'csv' else 1}: is not UTF-8; save the list as UTF-8")
    assert [(job.pose.name, job.prompt) for job in good] == [("b.mp4", "caf"), ("c.mp4", "fog")]


TEXTS = [
    "red\nhat",
    "red\r\nhat",
    ' red, "hat" ',
    "red\u2028hat\u0085\x0b\x1c",
    "[no list]",
    "5\u2033",
    "true",
    "1_0",
    "nan",
]
SEEDS = ["1.9", "true", "1_0", '"7"', "0x10", "\u0663", "1e3", "[true]", "[1.5]", "9" * 20, "9" * 5000]


@pytest.mark.fault("W2")
@pytest.mark.parametrize("prompt", TEXTS)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_prompt_is_what_stands_in_the_file(tmp_path, kind, prompt):
    quoted = prompt.replace('"', '""')
    text = f'pose,prompt\na.mp4,"{quoted}"\nb.mp4,next\n'
    if kind == "jsonl":
        said = [{"pose": "a.mp4", "prompt": prompt}, {"pose": "b.mp4", "prompt": "next"}]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said)
    assert [job.prompt for job in read(tmp_path, f"jobs.{kind}", text)] == [prompt, "next"]


@pytest.mark.fault("W2")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_that_is_no_whole_number_is_refused_not_made_one(tmp_path, kind, seed):
    quoted = seed.replace('"', '""')
    text = f'pose,seed\na.mp4,"{quoted}"\ngood.mp4,-8\n'
    if kind == "jsonl":
        text = f'{{"pose": "a.mp4", "seed": {seed}}}\n{{"pose": "good.mp4", "seed": -8}}\n'
    bad, good = read(tmp_path, f"jobs.{kind}", text)
    number = 2 if kind == "csv" else 1
    assert f"jobs.{kind}, line {number}: " in bad.problem and ("seed=" in bad.problem or "JSON" in bad.problem)
    assert (good.problem, good.seed) == ("", -8)


@pytest.mark.fault("W2")
def test_an_unclosed_quote_is_named_with_its_row_and_swallows_no_other(tmp_path):
    text = 'pose,prompt\na.mp4,"red hat\nb.mp4,blue\nc.mp4,"green\nhat"\nd.mp4,"dark"blue\ne.mp4,end\nf.mp4,"open\n'
    jobs = read(tmp_path, "jobs.csv", text)
    assert [(job.pose.name, job.prompt) for job in jobs if not job.problem] == [
        ("b.mp4", "blue"),
        ("c.mp4", "green\nhat"),
        ("e.mp4", "end"),
    ]
    said = [job.problem.split("jobs.csv, ")[1] for job in jobs if job.problem]
    assert [line.split(":")[0] for line in said] == ["line 2", "line 6", "line 8"]
    assert "a quote is opened and never closed" in said[2]


BAD = {
    "NUL": '{"pose": "a\\u0000.mp4"}',
    "NUL in a prompt": '{"pose": "a.mp4", "prompt": "\\u0000"}',
    "a name over 255 bytes": json.dumps({"pose": "ü" * 130 + ".mp4"}),
    "a path over 4000 bytes": json.dumps({"pose": "a/" * 3000 + "a.mp4"}),
    "an adapter over 255": json.dumps({"pose": "a.mp4", "face_lora_path": "x" * 300}),
    "an identity over 255": json.dumps({"pose": "a.mp4", "identity": "bob:1," + "x" * 300 + ":1"}),
    "half a character": '{"pose": "a.mp4", "prompt": "\\ud800"}',
    "Infinity": '{"pose": "a.mp4", "seed": Infinity}',
    "a large number": '{"pose": "a.mp4", "seed": 1e999}',
    "deep": '{"pose": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep dictionaries": '{"pose":' * 100_000,
    "a list in a list": '{"pose": [["a.mp4"]]}',
    "an object": '{"pose": {"a": 1}}',
    "nothing": '{"pose": null}',
    "an empty list": '{"pose": "a.mp4", "seed": []}',
    "a key twice": '{"pose": "a.mp4", "pose": "b.mp4"}',
    "too many": json.dumps({"pose": ["a.mp4"] * 2000, "seed": list(range(2000))}),
    "an output outside": '{"pose": "a.mp4", "output": "b/../../a.mp4"}',
}


@pytest.mark.fault("W3")
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_named_and_the_others_stay(tmp_path, kind):
    jobs = read(tmp_path, "jobs.jsonl", f'{GOOD}\n{BAD[kind]}\n{GOOD[:-1]}, "seed": 7}}\n')
    assert [(job.pose.name, job.seed) for job in jobs if not job.problem] == [("good.mp4", 42), ("good.mp4", 7)]
    (said,) = (job.problem for job in jobs if job.problem)
    assert said.startswith(f"jobs={tmp_path / 'jobs.jsonl'}, line 2: ") and len(said) < 600 and said.isprintable()


@pytest.mark.fault("W3")
@pytest.mark.slow
def test_what_would_end_a_whole_list_fails_one_job_each(settings, tmp_path):
    """From a list to its rows: exit code 1, the good videos there, and of each other one its reason."""
    listed = [
        {"pose": "x_pose.mp4", "identity": "anna", "output": "one.mp4"},
        {"pose": "y_pose.mp4", "identity": "anna", "output": "one.mp4"},
        {"pose": "x_pose.mp4", "identity": "bob", "output": "two.mp4/three.mp4"},
        {"pose": "x_pose.mp4", "identity": "bob", "output": "two.mp4"},
        {"pose": "x_pose.mp4", "identity": "anna", "output": "n" * 249 + ".mp4"},
        {"pose": "x_pose.mp4", "identity": "anna:nan,bob:1"},
        {"pose": "x_pose.mp4", "identity": "anna:inf,bob:1"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in listed) + "".join(f"{BAD[kind]}\n" for kind in ("NUL", "deep"))
    (tmp_path / "jobs.jsonl").write_text(text)
    asked = changed(settings, jobs=str(tmp_path / "jobs.jsonl"), num_inference_steps=1, cfg_scale=1.0)
    assert run(asked) == 1
    found = rows(tmp_path / "out")
    done = [row["output"] for row in found if not row["error"]]
    # Two rows of one name get one each.
    assert len(done) == 3 and len(set(done)) == 3 and all((tmp_path / "out" / output).is_file() for output in done)
    errors = [row["error"] for row in found if row["error"]]
    for part in ("two.mp4 is another job's video", "253 bytes", "'anna:nan' is not", "line 8: ", "line 9: "):
        assert sum(part in error for error in errors) == 1, part
    assert len(errors) == 6
    # All as before, and no model is loaded for what cannot be.
    assert run(asked) == 1 and rows(tmp_path / "out") == found


@pytest.mark.fault("W3")
def test_a_list_without_one_good_row_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"line 1: is not JSON .*; nor can any other of 2 rows be rendered"):
        read(tmp_path, "jobs.jsonl", '{\n{"pose": 1}\n')
    for header in ("pose,sed\na,1\n", "pose,pose\na,b\n"):
        with pytest.raises(DataError, match="line 1: "):
            read(tmp_path, "jobs.csv", header)


@pytest.mark.fault("W3")
def test_a_pose_whose_name_is_no_text_is_a_job_that_failed(tmp_path):
    for name in (b"a.mp4", b"\xff.mp4"):
        (tmp_path / "poses").mkdir(exist_ok=True)
        with open(bytes(tmp_path / "poses") + b"/" + name, "wb"):
            pass
    jobs = read_pose_folder(tmp_path / "poses", [""], CONTENT, ADAPTER)
    assert [bool(job.problem) for job in jobs] == [False, True] and "rename it" in jobs[1].problem


class Counted(str):
    """A text that counts how often it is compared with another."""

    compared = 0

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.fault("C1")
def test_a_folder_of_poses_is_looked_through_once(monkeypatch):
    """Not each name against every other: 100,000 poses took nine minutes."""

    class Pose:
        def __init__(self, number):
            self.stem = self.name = Counted(f"pose_{number}")

    monkeypatch.setattr(job_list, "list_videos", lambda *_, **__: [Pose(number) for number in range(2000)])
    Counted.compared = 0
    assert len(read_pose_folder("poses", [""], CONTENT, ADAPTER)) == 2000
    assert Counted.compared <= 20 * 2000
