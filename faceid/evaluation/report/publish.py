"""Write an evaluation's files, all or none.

They are numbers as JSON and CSV, the report, and the inputs' provenance.
"""

from __future__ import annotations

import csv
import io
from typing import Any

from faceid.evaluation.figures.video_metrics import ALL_METRICS
from faceid.evaluation.places import EVALUATION
from faceid.evaluation.report.report_page import render_evaluation_report
from faceid.evaluation.report.results import Results
from faceid.evaluation.videos.arms import plain
from faceid.evaluation.videos.curve import ScalePoint
from faceid.files.outputs import staged_folder
from faceid.files.provenance import sha256_file, sha256_json, write_provenance
from faceid.files.writing import write_atomic, write_json

SCORES_NAME = "scores.json"


def publish_evaluation(results: Results) -> None:
    """Write the output folder whole: scores.json, summary.json, videos.csv, report.html and provenance.json."""
    settings = results.report
    with staged_folder(settings.output_dir, EVALUATION, private=not settings.shared) as folder:
        write_json(folder / SCORES_NAME, _scores(results))
        write_json(folder / "summary.json", plain(results.summary))
        write_atomic(folder / "videos.csv", _videos_table(results))
        write_atomic(folder / "report.html", render_evaluation_report(results))
        write_provenance(
            folder,
            {
                "arms_sha256": {
                    name: sha256_json([render.sha256 for render in arm.renders])
                    for name, arm in results.compared.arms.items()
                },
                "references_sha256": sha256_json(
                    [sha256_file(photo) for person in results.gallery for photo in person.photos]
                ),
                "recognisers": {r.name: r.encoder.fingerprint for r in results.instruments.recognisers},
            },
        )


def _scores(results: Results) -> dict[str, Any]:
    """Every number with its interval, as plain types."""
    arms = {
        name: {
            "num_videos": len(arm.renders),
            "num_noises": arm.num_noises,
            "num_failed": arm.num_failed,
            "face_scales": arm.face_scales,
            "by_recogniser": {recogniser: numbers[name] for recogniser, numbers in results.numbers.items()},
        }
        for name, arm in results.compared.arms.items()
    }
    comparisons = {
        recogniser: {**found, "curve": [_curve_point(point) for point in found["curve"]]}
        for recogniser, found in results.comparisons.items()
    }
    return plain({"arms": arms, "comparisons": comparisons, "people": list(results.compared.people)})


def _curve_point(point: ScalePoint) -> dict[str, Any]:
    return {"arm": point.arm, "face_scale": point.face_scale, "similarity": point.similarity}


def _videos_table(results: Results) -> str:
    """videos.csv: a row per video, person that it is scored as, and recogniser. Unmeasured cells are empty."""
    text = io.StringIO()
    names = [metric.name for metric in ALL_METRICS]
    people = list(results.compared.people)
    head = ("arm", "recogniser", "clip", "seed", "face_scale", "given", "scored_as", "nearest", "rank")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*head, *names, "video"])
    for recogniser, by_arm in results.videos.items():
        for arm, videos in by_arm.items():
            for video in videos:
                render = video.render
                nearest = people[video.nearest] if video.nearest >= 0 else ""
                values = [plain(video.values[name]) for name in names]
                table.writerow(
                    [arm, recogniser, render.clip, render.seed, render.face_scale, render.identity, video.identity]
                    + [nearest, video.rank]
                    + ["" if value is None else f"{value:.6g}" for value in values]
                    + [str(render.path)]
                )
    return text.getvalue()
