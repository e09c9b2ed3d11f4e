"""Lists of jobs: rows, combinations, names with anything in them, and what is refused with its line."""

import json
import logging

import pytest

from faceid.errors import DataError
from faceid.sampling.jobs.job_list import RequestedJob, read_job_list, read_pose_folder
from faceid.sampling.one_video.video_settings import ContentSettings, seed_of_video

CONTENT, ADAPTER = ContentSettings(prompt="p"), "own.safetensors"


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_a_row_does_not_say_is_as_on_the_command_line(tmp_path):
    (job,) = read_job_list(jsonl(tmp_path / "jobs.jsonl", {"pose": "a.mp4"}), None, CONTENT, ADAPTER)
    assert job == RequestedJob(tmp_path / "a.mp4", "", 42, "p", CONTENT.negative_prompt, "own.safetensors")
    row = {"pose": "/x/a.mp4", "identity": "anna:0.5,bob:0.5", "seed": 7, "prompt": "q", "negative_prompt": "n"}
    row |= {"face_lora_path": "other.safetensors", "output": "sub/one.mp4"}
    (job,) = read_job_list(jsonl(tmp_path / "jobs.jsonl", row), None, CONTENT, ADAPTER)
    assert (str(job.pose), job.identity, job.seed, job.prompt) == ("/x/a.mp4", "anna:0.5,bob:0.5", 7, "q")
    assert (job.negative_prompt, job.adapter, job.output) == ("n", "other.safetensors", "sub/one.mp4")


def test_lists_expand_to_every_combination_in_both_formats(tmp_path):
    row = {"pose": ["a.mp4", "b.mp4"], "identity": ["anna", "bob"], "seed": [1, 2, 3]}
    jobs = read_job_list(jsonl(tmp_path / "jobs.jsonl", row), None, CONTENT, ADAPTER)
    assert len(jobs) == len({(job.pose.name, job.identity, job.seed) for job in jobs}) == 12
    (tmp_path / "jobs.csv").write_text(
        'pose,identity,seed\n"[""a.mp4"", ""b.mp4""]","[""anna"", ""bob""]","[1, 2, 3]"\n', encoding="utf-8-sig"
    )
    assert read_job_list(tmp_path / "jobs.csv", None, CONTENT, ADAPTER) == jobs


def test_names_may_hold_anything_and_duplicates_are_one(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    names = ["a b.mp4", "$(touch x).mp4", "-rf;'\".mp4", "ü\n.mp4", "{a,b}.mp4"]
    jobs = read_job_list(jsonl(tmp_path / "jobs.jsonl", {"pose": names}, {"pose": "a b.mp4"}), None, CONTENT, ADAPTER)
    assert [job.pose.name for job in jobs] == names
    assert "line 2: the same as line 1; rendered once" in caplog.text


@pytest.mark.parametrize(
    "output",
    [
        *("gallery/x.mp4", "gallery/posters/x.mp4", "Gallery/x.mp4", "gallery.html/x.mp4", "jobs.jsonl/x.mp4"),
        *("provenance.mp4", "a/.faceid/x.mp4", "a/.claims/x.mp4", "a/.x.mp4"),
    ],
)
def test_a_video_gets_no_name_that_the_batch_itself_uses(tmp_path, output):
    path = jsonl(tmp_path / "jobs.jsonl", {"pose": "a.mp4", "output": output}, {"pose": "b.mp4"})
    first, second = read_job_list(path, None, CONTENT, ADAPTER)
    assert f"line 1: output={output}: " in first.problem and "the batch itself uses there" in first.problem
    assert not second.problem


@pytest.mark.parametrize("output", ["my gallery/x.mp4", "a/gallery/x.mp4", "gallery.mp4", "a/provenance.mp4", "x..mp4"])
def test_a_video_may_have_a_name_that_is_only_like_ours(tmp_path, output):
    (job,) = read_job_list(jsonl(tmp_path / "jobs.jsonl", {"pose": "a.mp4", "output": output}), None, CONTENT, ADAPTER)
    assert job.output == output


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("j.jsonl", '\n{"pse": "b"}\n', "line 2: unknown key 'pse'; did you mean pose?"),
        ("j.jsonl", '\n{"seed": 1}\n', "line 2: says no pose"),
        ("j.jsonl", "[1]\n", "line 1: is not an object"),
        ("j.jsonl", "{pose}\n", "line 1: is not JSON"),
        ("j.jsonl", '{"pose": "a", "seed": "x"}\n', "line 1: seed='x' is not a whole number"),
        ("j.jsonl", '{"pose": "a", "prompt": 3}\n', "line 1: prompt=3 is not a text"),
        ("j.jsonl", '{"pose": ["a", "b"], "output": "o.mp4"}\n', "line 1: one output for 2 videos"),
        ("j.jsonl", '{"pose": "a", "output": "../o.mp4"}\n', "line 1: output=../o.mp4: must be a path inside"),
        (
            "j.jsonl",
            '{"pose": "a", "output": "o.txt"}\n',
            "must be a path inside the output folder",
        ),
        ("j.csv", "pose,seed\na,1,2\n", "line 2: more cells than the first line has names"),
        ("j.jsonl", "", "holds no jobs"),
        ("j.txt", "", "is neither .jsonl nor .csv"),
    ],
)
def test_what_is_no_job_is_refused_with_its_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as refused:
        read_job_list(tmp_path / name, None, CONTENT, ADAPTER)
    assert said in str(refused.value) and str(tmp_path / name) in str(refused.value)


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: cannot be read"):
        read_job_list(tmp_path / "absent.csv", None, CONTENT, ADAPTER)


def test_a_folder_is_every_pose_as_everybody_with_every_seed(tmp_path):
    for name in ("b.mp4", "a.mov"):
        (tmp_path / name).write_bytes(b"x")
    jobs = read_pose_folder(tmp_path, ["anna", "bob"], ContentSettings(seed=[1, 2]), "a")
    assert [(w.pose.name, w.identity, w.seed) for w in jobs][:3] == [
        ("a.mov", "anna", 1),
        ("a.mov", "anna", 2),
        ("a.mov", "bob", 1),
    ]
    assert len(jobs) == 8


class TestANoiseForEachVideo:
    OWN = ContentSettings(prompt="p", seed="per_video")

    def test_every_pose_and_person_has_its_own_the_same_whatever_renders_it(self, tmp_path):
        for name in ("a.mp4", "b.mp4"):
            (tmp_path / name).touch()
        jobs = read_pose_folder(tmp_path, ["anna", "bob"], self.OWN, "one.safetensors")
        assert len({job.seed for job in jobs}) == 4
        other = read_pose_folder(tmp_path, ["anna", "bob"], self.OWN, "other.safetensors")
        assert [job.seed for job in other] == [job.seed for job in jobs]
        listed = read_job_list(
            jsonl(tmp_path / "jobs.jsonl", {"pose": ["a.mp4", "b.mp4"], "identity": ["anna", "bob"]}),
            None,
            self.OWN,
            None,
        )
        assert {(job.pose.name, job.identity, job.seed) for job in listed} == {
            (job.pose.name, job.identity, job.seed) for job in jobs
        }

    def test_a_row_may_ask_for_it_and_another_for_a_number(self, tmp_path):
        path = jsonl(tmp_path / "jobs.jsonl", {"pose": "a.mp4", "seed": "per_video"}, {"pose": "a.mp4", "seed": 3})
        own, given = read_job_list(path, None, CONTENT, None)
        assert (own.seed, own.noise) == (seed_of_video("a", ""), 0) and (given.seed, given.noise) == (3, None)

    def test_several_noises_are_several_videos_with_names_of_their_own(self, tmp_path):
        (tmp_path / "a.mp4").touch()
        several = ContentSettings(prompt="p", seed="per_video", noises_per_video=3)
        jobs = read_pose_folder(tmp_path, ["anna"], several, None)
        assert [job.noise for job in jobs] == [1, 2, 3] and len({job.seed for job in jobs}) == 3
        (refused,) = {
            job.problem
            for job in read_job_list(
                jsonl(tmp_path / "jobs.jsonl", {"pose": "a.mp4", "output": "x.mp4"}, {"pose": "b.mp4"}),
                None,
                several,
                None,
            )
            if job.problem
        }
        assert "one output for 3 noises" in refused

    def test_the_seed_of_a_video_never_changes(self):
        # Renders of an earlier version stay paired with new ones.
        assert seed_of_video("pose", "anna", 1) == 219204001966494
