"""Each video of a batch scored by itself: as a report scores it, once, and only those who have references."""

import csv
import json
import logging
from pathlib import Path

import pytest
from drawn_renders import PEOPLE

from faceid.errors import ModelError
from faceid.evaluation.evaluation_run import evaluate
from faceid.evaluation.score_videos import SCORES_NAME, BatchJudge
from faceid.evaluation.videos.measure import Measurer


def judge_of(sections, adapters=()):
    return BatchJudge(sections.people, sections.recognisers, adapters)


def rows_of(folder):
    lines = (folder / "jobs.jsonl").read_text().splitlines()
    return [{**json.loads(line), "id": f"{number:016x}"} for number, line in enumerate(lines)]


@pytest.mark.slow
def test_scores_are_those_of_a_report(world, settings, tmp_path):
    chosen = settings(arms="ours")
    judge = judge_of(chosen)
    rows = rows_of(world / "ours")
    scores = judge.score(tmp_path, [{**row, "output": str(world / "ours" / row["output"])} for row in rows])
    assert len(scores) == len(rows) == 2 * len(PEOPLE)
    evaluate(chosen)
    with (chosen.report.output_dir / "videos.csv").open() as file:
        reported = {(row["given"], row["clip"]): row for row in csv.DictReader(file)}
    for row in rows:
        score, video = scores[row["id"]], reported[(row["identity"], row["pose"].removesuffix("_pose.mp4"))]
        assert score["similarity"] == pytest.approx(float(video["similarity"]), abs=1e-3), row
        assert score["rank1"] == 1.0 and score["nearest"] == row["identity"] and score["margin"] > 0


def test_whoever_is_shown_in_place_of_another_is_named(world, settings, tmp_path):
    rows = [
        {**row, "identity": "eve", "output": str(world / "naive" / row["output"])} for row in rows_of(world / "naive")
    ]
    for score in judge_of(settings()).score(tmp_path, rows).values():
        assert score["rank1"] == 0.0 and score["nearest"] == "d01" and score["margin"] < 0


@pytest.mark.slow
def test_what_was_scored_is_not_measured_again_unless_the_judge_is_another(
    world, settings, tmp_path, monkeypatch, caplog
):
    rows = [{**row, "output": str(world / "ours" / row["output"])} for row in rows_of(world / "ours")][:3]
    failed = {**rows[0], "id": "f" * 16, "error": "no such pose video"}
    stranger = {**rows[0], "id": "e" * 16, "identity": "ann:0.5,bob:0.5"}
    caplog.set_level(logging.WARNING, "faceid")
    first = judge_of(settings()).score(tmp_path, [*rows, failed, stranger])
    assert set(first) == {row["id"] for row in rows} and "1 videos are not scored" in caplog.text
    assert [json.loads(line) for line in (tmp_path / SCORES_NAME).read_text().splitlines()] == list(first.values())
    measured = []
    measure = Measurer.measure
    monkeypatch.setattr(Measurer, "measure", lambda self, render: measured.append(render) or measure(self, render))
    assert judge_of(settings()).score(tmp_path, rows) == first and measured == []
    judge_of(settings(face_margin=0.2)).score(tmp_path, rows)
    assert len(measured) == 3


def test_the_encoder_of_any_adapter_is_refused_as_judge(settings, monkeypatch):
    judge = judge_of(settings())
    fingerprint = judge.instruments.recognisers[0].encoder.fingerprint

    class Metadata:
        encoder_fingerprint = fingerprint

    monkeypatch.setattr("faceid.evaluation.score_videos.read_adapter", lambda path: ({}, Metadata))
    with pytest.raises(ModelError, match=r"is the encoder the renders were conditioned on \(adapter=b.pth\)"):
        judge_of(settings(), [Path("b.pth")])
