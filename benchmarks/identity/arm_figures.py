"""Compare the arms of benchmarks.identity.arms: by each judge with paired intervals, and by attribute."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.identity.arm_list import ArmPlan
from faceid.errors import DataError
from faceid.evaluation.figures.bootstrap import Estimate, PeopleBootstrap
from faceid.evaluation.videos.heads import cut_head, known_heads
from faceid.faces.identity_settings import FaceSettings
from faceid.files.writing import write_atomic
from faceid.logs import progress
from faceid.media.video import read_video
from faceid.models.base.latent_codec import through_vae
from faceid.models.base.wan import load_wan
from faceid.toy.people import APPEARANCE
from faceid.toy.readers import load_toy_recogniser
from faceid.toy.shipped import resolve_model_path
from faceid.training.measuring.metrics import read_metrics

JUDGES = ("toy_recogniser", "toy_readout")
FIGURES = ("rank1", "similarity", "margin", "pose_error")
# Resamplings of people, and their seed.
SAMPLES = (2000, 0)
# What is told apart by attribute, by the beginnings of the read-out's names.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin": ("skin_",),
    "hair": (
        "hair_",
        "headwear_bald",
        "headwear_short",
        "headwear_fringe",
        "headwear_long",
        "headwear_afro",
        "headwear_bun",
    ),
    "headwear": ("hat_", "headwear_cap", "headwear_beanie"),
    "glasses": ("glasses_",),
    "eyes": ("iris_", "eye_"),
    "head shape": ("face_width", "mouth_width", "brow"),
}
# Which arm each is compared with, where both were rendered.
COMPARED = (
    ("ours_from_nothing", "base"),
    ("ours_from_nothing", "naive"),
    ("ours_from_nothing", "plain_lora"),
    ("ours_from_nothing", "base_reference"),
    ("ours_from_nothing", "zero_shot_weak"),
    ("ours_from_nothing", "base_found_reference"),
    ("ours_from_nothing", "base_described_reference"),
    ("ours_from_nothing", "ours_without_reference"),
    ("ours_from_nothing", "ours_strangers_reference"),
    ("base_reference", "base_strangers_reference"),
    ("base_described", "base"),
    ("ours_from_stage1", "zero_shot_weak"),
    ("ours_from_stage1_strong", "zero_shot_strong"),
)

# The arm of the people's own clips.
REAL = "real"
# Beside a record: a row for each of its videos and judges.
VIDEOS_SUFFIX = ".videos.csv.gz"
COSTS = ("train_seconds", "train_steps")

# Person, clip, seed.
Key = tuple[str, str, str]
# By arm and judge: figures of each video, and of the first judge's also its distances by attribute.
Rows = dict[tuple[str, str], dict[Key, dict[str, str]]]


@dataclass(frozen=True)
class Earlier:
    """Arms that were measured before: people, poses and noises are the same, so videos still are pairs."""

    rows: Rows
    costs: dict[str, dict[str, Any]]


def read_earlier(record: Path, told: dict[str, Any], settings: dict[str, object]) -> Earlier:
    """The arms of an earlier record. told: its content. settings: of today, which say who is rendered, and how often.

    Raises: DataError when the earlier one had others.
    """
    for name, value in settings.items():
        if told["settings"][name] != value:
            raise DataError(f"earlier={record}: has {name}={told['settings'][name]}, here it is {value}")
    with gzip.open(record.with_suffix(VIDEOS_SUFFIX), "rt", encoding="utf-8", newline="") as text:
        rows = _by_arm(csv.DictReader(text))
    arms = {name: arm for name, arm in told["arms"].items() if name != REAL}
    return Earlier(rows, {name: {key: arm[key] for key in COSTS} for name, arm in arms.items()})


def measure_arms(
    folder: Path,
    plans: Sequence[ArmPlan],
    targets: Sequence[str],
    seconds_of: Callable[[str], float],
    earlier: Earlier | None = None,
) -> tuple[dict[str, Any], str, Rows]:
    """All figures of a benchmark's folder and of earlier arms, a table of them in Markdown, and the rows behind."""
    rows: Rows = {}
    for name in (REAL, *(plan.name for plan in plans)):
        rows |= read_rows(folder / "judged" / name / "videos.csv", targets)
    _add_distances(rows, _read_attributes(folder, rows))
    costs = {plan.name: _costs(folder, plan, targets, seconds_of) for plan in plans}
    if earlier is not None:
        rows, costs = earlier.rows | rows, earlier.costs | costs
    return *compare_arms(rows, costs), rows


def compare_arms(rows: Rows, costs: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Figures of every arm, differences of pairs, and a table of both in Markdown. costs: of each arm but REAL."""
    arms: dict[str, Any] = {}
    for name in (REAL, *costs):
        arms[name] = {judge: _figures(rows, name, judge) for judge in JUDGES}
        arms[name]["attributes"] = _attributes(rows, name)
        arms[name] |= costs.get(name, {})
    names = set(costs)
    ablated = [("ours_from_nothing", name) for name in sorted(names) if name.startswith(("without_", "with_"))]
    pairs = [(one, other) for one, other in (*COMPARED, *ablated) if {one, other} <= names]
    differences = {
        f"{one} - {other}": {judge: _difference(rows, one, other, judge) for judge in JUDGES} for one, other in pairs
    }
    record = {"arms": arms, "differences": differences}
    return record, _table(record)


def write_rows(file: Path, rows: Rows) -> None:
    """The rows behind a record, packed: arms that are measured later can be compared with these."""
    names = ["arm", "recogniser", "scored_as", "clip", "seed", *FIGURES, *ATTRIBUTES]
    text = io.StringIO()
    table = csv.DictWriter(text, names, extrasaction="ignore", restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(row for of in rows.values() for row in of.values())
    # Without a time in it, the same rows are the same bytes.
    write_atomic(file, gzip.compress(text.getvalue().encode(), mtime=0))


def read_rows(file: Path, targets: Sequence[str]) -> Rows:
    """Rows of videos.csv, each target's of the videos that were rendered for that target.

    A render without a face is scored as everybody. Told by a prompt or a reference, it is still one person's.
    """
    with file.open(encoding="utf-8", newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["scored_as"] in targets]
    return _by_arm(row for row in rows if row["arm"] == REAL or Path(row["video"]).parent.name == row["scored_as"])


def _by_arm(table: Iterable[dict[str, str]]) -> Rows:
    found: Rows = {}
    for row in table:
        found.setdefault((row["arm"], row["recogniser"]), {})[row["scored_as"], row["clip"], row["seed"]] = row
    return found


def _figures(rows: Rows, arm: str, judge: str) -> dict[str, Any]:
    videos = rows[arm, judge]
    bootstrap = PeopleBootstrap([person for person, _, _ in videos], *SAMPLES)
    figures = {name: _told(bootstrap.mean(_values(videos.values(), name))) for name in FIGURES}
    return {**figures, "videos": len(videos)}


def _difference(rows: Rows, one: str, other: str, judge: str) -> dict[str, Any]:
    """First minus second, over videos of one person, pose and noise."""
    first, second = rows[one, judge], rows[other, judge]
    keys = sorted(first.keys() & second.keys())
    bootstrap = PeopleBootstrap([person for person, _, _ in keys], *SAMPLES)
    found = {
        name: _told(
            bootstrap.mean(_values([first[key] for key in keys], name) - _values([second[key] for key in keys], name))
        )
        for name in FIGURES
    }
    return {**found, "pairs": len(keys)}


def _values(videos: Any, name: str) -> np.ndarray:
    return np.array([float(row[name]) if row[name] else math.nan for row in videos])


def _told(estimate: Estimate) -> dict[str, float | None]:
    return {
        name: round(value, 4) if math.isfinite(value) else None
        for name, value in (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
    }


def _read_attributes(folder: Path, rows: Rows) -> dict[str, np.ndarray]:
    """The read-out's mean over each video's frames, [A], by the video's path."""
    readout, found = load_toy_recogniser("toy_readout"), {}
    vae = load_wan(resolve_model_path("toy"), ("vae",)).vae
    videos = {
        row["video"]: (row["clip"], arm)
        for (arm, judge), of in rows.items()
        if judge == JUDGES[0]
        for row in of.values()
    }
    for path, (clip, arm) in progress(videos.items(), "attributes", total=len(videos), unit="video"):
        frames = read_video(Path(path)).frames
        # As they were judged.
        frames = through_vae(vae, frames) if arm == REAL else frames
        boxes = known_heads(folder / "heads", clip, range(len(frames)), (frames.shape[1], frames.shape[2]))
        crops = [
            cut_head(frame, box, FaceSettings.face_margin)
            for frame, box in zip(frames, boxes, strict=True)
            if box is not None
        ]
        found[path] = readout.read(crops).mean(0).numpy()  # type: ignore[attr-defined]
    return found


def _add_distances(rows: Rows, read: dict[str, np.ndarray]) -> None:
    """Add to the first judge's rows how far each attribute is from the person's real clips, as a squared distance."""
    real: dict[str, list[np.ndarray]] = {}
    for (person, _, _), row in rows[REAL, JUDGES[0]].items():
        real.setdefault(person, []).append(read[row["video"]])
    truth = {person: np.mean(values, axis=0) for person, values in real.items()}
    places = {
        group: [place for place, name in enumerate(APPEARANCE) if name.startswith(beginnings)]
        for group, beginnings in ATTRIBUTES.items()
    }
    for (_, judge), of in rows.items():
        for (person, _, _), row in of.items() if judge == JUDGES[0] else ():
            squared = (read[row["video"]] - truth[person]) ** 2
            row |= {group: f"{squared[where].sum():.6g}" for group, where in places.items()}


def _attributes(rows: Rows, arm: str) -> dict[str, float]:
    """How far each attribute has come from the base (0) to the person's real clips (1), by squared distance."""
    if arm in (REAL, "base") or ("base", JUDGES[0]) not in rows:
        return {}
    ours, base = (rows[name, JUDGES[0]].values() for name in (arm, "base"))
    return {
        group: round(float(1 - np.mean(_values(ours, group)) / np.mean(_values(base, group))), 3)
        for group in ATTRIBUTES
    }


def _costs(folder: Path, plan: ArmPlan, targets: Sequence[str], seconds_of: Callable[[str], float]) -> dict[str, Any]:
    """Seconds and steps of one training; both are none where nothing is trained."""
    trained = plan.trained_by or plan.name
    if not (plan.train or plan.trained_by):
        return dict.fromkeys(COSTS)
    seconds = [seconds_of(f"train_{trained}_{target}") for target in targets]
    rows = read_metrics(folder / "train" / trained / targets[0] / "metrics.jsonl")
    return {"train_seconds": round(float(np.mean(seconds)), 1), "train_steps": max(row["step"] for row in rows)}


def _table(record: dict[str, Any]) -> str:
    head = [
        "arm",
        *(f"{name}, {judge.removeprefix('toy_')}" for judge in JUDGES for name in ("rank-1", "cosine", "margin")),
    ]
    head += ["pose error", *ATTRIBUTES, "steps", "s"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, arm in record["arms"].items():
        cells = [name]
        for judge in JUDGES:
            cells += [_cell(arm[judge][figure]) for figure in ("rank1", "similarity", "margin")]
        cells += [_cell(arm[JUDGES[0]]["pose_error"])]
        cells += [str(arm["attributes"].get(group, "")) for group in ATTRIBUTES]
        cells += [str(arm.get("train_steps") or ""), str(arm.get("train_seconds") or "")]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| difference | judge | rank-1 | cosine | margin | pose error |", "|---|---|---|---|---|---|"]
    for name, judges in record["differences"].items():
        for judge, found in judges.items():
            lines.append(f"| {name} | {judge} | {' | '.join(_cell(found[figure]) for figure in FIGURES)} |")
    return "\n".join(lines) + "\n"


def _cell(figure: dict[str, float | None]) -> str:
    if figure["value"] is None:
        return ""
    interval = "" if figure["low"] is None else f" ({figure['low']:.2f} … {figure['high']:.2f})"
    return f"{figure['value']:.3f}{interval}"
