"""Score the videos of a batch, each by itself.

`sample.py --score` writes the scores and its gallery shows them. A report compares arms and needs their videos
(evaluation_run.py). Here every video of somebody among the references is measured as in a report, by the first
recogniser.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceid.evaluation.evaluation_run import make_instruments
from faceid.evaluation.videos.judge_settings import PeopleSettings, RecogniserSettings
from faceid.evaluation.videos.measure import Measurer
from faceid.evaluation.videos.recognisers import load_recognisers, refuse_conditioning
from faceid.evaluation.videos.reference_people import find_reference_photos
from faceid.evaluation.videos.renders import JOBS_NAME, Render, clip_stem, pose_frames_of
from faceid.evaluation.videos.scoring import score_video
from faceid.files.documents import parse_json, read_text
from faceid.files.outputs import write_output
from faceid.files.provenance import sha256_file, sha256_json
from faceid.logs import progress
from faceid.models.adapter.adapter_file import read_adapter

log = logging.getLogger(__name__)

SCORES_NAME = "scores.jsonl"
SHOWN = ("similarity", "margin", "rank1", "detection_rate", "similarity_min", "flicker")
DIGITS = 4


class BatchJudge:
    """A judge that is ready to score. It is made before anything is rendered, so that faults are refused in time."""

    def __init__(self, people: PeopleSettings, recognisers: RecogniserSettings, adapters: Sequence[Path]) -> None:
        """Raises: ConfigError, DataError or ModelError as an evaluation of these settings would."""
        self.people = find_reference_photos(people.references_dir)
        encoders = load_recognisers(recognisers)[:1]
        for adapter in adapters:
            refuse_conditioning(*encoders[0], read_adapter(adapter)[1].encoder_fingerprint, f"adapter={adapter}")
        self.instruments = make_instruments(people, self.people, encoders)
        photos = {name: [sha256_file(photo) for photo in found] for name, found in self.people.items()}
        choices = {name: str(getattr(people, name)) for name in ("detector", "face_margin", "heads_dir")}
        self._judged_by = sha256_json({**choices, "photos": photos, "encoder": encoders[0][1].fingerprint})

    def score(self, output_dir: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Scores by a row's id, which are also written to scores.jsonl. rows: lines of jobs.jsonl.

        A video that the same judge scored before is not measured again.
        """
        file, recogniser = output_dir / SCORES_NAME, self.instruments.recognisers[0]
        known = {entry["sha256"]: entry for entry in _read(file) if entry.get("judged_by") == self._judged_by}
        measurer, names, found = Measurer(self.instruments), list(self.people), {}
        shown = [row for row in rows if not row["error"] and row["identity"] in self.people]
        for row in progress(shown, "scoring", total=len(shown), unit="video"):
            scores = known.get(row["sha256"])
            if scores is None or scores["identity"] != row["identity"]:
                render = Render(
                    path=output_dir / row["output"],
                    clip=clip_stem(row["pose"]),
                    identity=row["identity"],
                    face_scale=row["face_scale"],
                    seed=row["seed"],
                    sha256=row["sha256"],
                    pose_frames=pose_frames_of(row, str(output_dir / JOBS_NAME)),
                )
                scored = score_video("batch", render, row["identity"], recogniser, measurer.measure(render), names)
                scores = {name: _number(scored.values[name]) for name in SHOWN}
                scores["nearest"] = names[scored.nearest] if scored.nearest >= 0 else ""
            same = {"id": row["id"], "output": row["output"], "identity": row["identity"], "sha256": row["sha256"]}
            judge = {"recogniser": recogniser.name, "judged_by": self._judged_by}
            found[row["id"]] = {**scores, **same, **judge}
        others = sum(not row["error"] for row in rows) - len(shown)
        if others:
            log.warning("%d videos are not scored: they show nobody of --references_dir", others)
        write_output(file, "".join(json.dumps(entry) + "\n" for entry in found.values()))
        return found


def _number(value: float) -> float | None:
    return round(float(value), DIGITS) if np.isfinite(value) else None


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        return [parse_json(line, nan=True) for line in read_text(file).splitlines()]
    except (OSError, ValueError):
        return []
