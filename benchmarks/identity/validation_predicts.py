"""Do validations say what the judges will say at the end? Rank correlation over the checkpoints of several runs.

    python -m benchmarks.identity.validation_predicts --output_dir O        O: a folder of benchmarks.identity.arms

Some arms are trained again, with validations and an adapter every few epochs. Each adapter renders the target in poses
that no validation shows; the judges are two that neither training nor validation has used. Writes validation.json.
"""

from __future__ import annotations

import re
import sys
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.stats import spearmanr

from benchmarks.identity.arm_figures import JUDGES, read_rows
from benchmarks.identity.arm_list import ARMS
from benchmarks.identity.arms import RENDER, SIZE, WORK, ArmsSettings, Bench
from benchmarks.identity.steps import two_at_once
from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.files.outputs import claim_folder
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json
from faceid.training.measuring.metrics import read_metrics

METRICS = ("swap_gap_target", "similarity_target", "margin_target", "rank1_target", "head_loss_target")
# Lower is better.
LOSSES = ("head_loss_target",)
WATCH = "--heldout_photos 2 --validation_videos 2 --validation_people 0 --validation_steps 6 --validation_cfg_scale 1.5"
WATCH += " --validation_recogniser clip:toy_strong"


@dataclass(frozen=True)
class WatchSettings:
    """Which runs are watched, and how often."""

    output_dir: Path
    """A folder that benchmarks.identity.arms made, or a new one."""
    arms: list[str] = field(default_factory=lambda: ["ours_from_nothing", "naive", "without_target_words"])
    """Arms whose training is watched, by name."""
    num_targets: Annotated[int, Field(ge=1, le=16)] = 3
    """People who are learnt, each by every arm."""
    every: Annotated[int, Field(ge=1)] = 4
    """Epochs between validations."""
    num_poses: Annotated[int, Field(ge=1, le=99)] = 8
    """Poses that each adapter renders."""


def main(argv: list[str] | None = None) -> int:
    """Parse, train, render, judge, correlate."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("benchmarks.identity.validation_predicts", __doc__ or "", [WatchSettings], words)
    claim_folder(settings.output_dir, WORK, [], key="output_dir")
    folder = settings.output_dir.resolve()
    bench = Bench(folder, ArmsSettings(folder, num_targets=settings.num_targets))
    bench.prepare()
    watch = ("--validate_every", str(settings.every), "--save_every", str(settings.every), *WATCH.split())
    arms = [replace(ARMS[name], name=f"watched_{name}", train=(*ARMS[name].train, *watch)) for name in settings.arms]
    runs = [(arm, target) for arm in arms for target in bench.targets]
    two_at_once("descriptions", [partial(bench.describe, target) for target in bench.targets])
    two_at_once("trainings", [partial(bench.train, arm, target) for arm, target in runs])
    saved = [(arm.name, target, file) for arm, target in runs for file in _adapters(bench, arm.name, target)]
    two_at_once("renders", [partial(_judge, bench, *one, settings.num_poses) for one in saved])
    rows = [row for arm, target in runs for row in _checkpoints(bench, arm.name, target)]
    known = [metric for metric in METRICS if any(metric in row for row in rows)]
    found = {f"{metric} - {judge}": spearman(rows, metric, judge) for metric in known for judge in JUDGES}
    # An early stop compares checkpoints of one person.
    found |= {
        f"{metric} - {judge}, within a person": spearman(within_people(rows, metric, judge), metric, judge)
        for metric in known
        for judge in JUDGES
    }
    record = {**describe_provenance(), "spearman": found, "rows": rows}
    write_json(folder / "validation.json", record)
    for name, value in found.items():
        print(f"{name}: {value:.2f} over {len(rows)} checkpoints")
    return 0


def spearman(rows: list[dict[str, Any]], metric: str, judge: str) -> float:
    """Rank correlation of a validation's metric and a judge's cosine, over all checkpoints of all runs."""
    known = [row for row in rows if metric in row]
    sign = -1 if metric in LOSSES else 1
    return float(spearmanr([sign * row[metric] for row in known], [row[judge] for row in known]).statistic)


def within_people(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """The rows that have these values, each less the mean of its person's."""
    of_person: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if all(name in row for name in names):
            of_person.setdefault(row["run"].split("/")[1], []).append(row)
    means = {person: {name: np.mean([row[name] for row in of]) for name in names} for person, of in of_person.items()}
    return [{name: row[name] - means[person][name] for name in names} for person, of in of_person.items() for row in of]


def _adapters(bench: Bench, arm: str, target: str) -> list[Path]:
    return sorted((bench.folder / "train" / arm / target).glob("face_lora_epoch_*.safetensors"))


def _checkpoints(bench: Bench, arm: str, target: str) -> list[dict[str, Any]]:
    """A row for each adapter that a run saved: what its validation said, and what the judges said."""
    metrics = read_metrics(bench.folder / "train" / arm / target / "metrics.jsonl")
    steps = {int(row["epoch/number"]): int(row["step"]) for row in metrics if "epoch/number" in row}
    said: dict[int, dict[str, float]] = {}
    names = {f"validation/{metric}": metric for metric in METRICS}
    for row in metrics:
        said.setdefault(int(row["step"]), {}).update({names[key]: row[key] for key in names.keys() & row.keys()})
    rows = []
    for adapter in _adapters(bench, arm, target):
        epoch = int(re.findall(r"\d+", adapter.stem)[-1])
        if validated := said.get(steps[epoch]):
            judged = _judged(bench, _step(arm, target, adapter), target)
            rows.append({"run": f"{arm}/{target}", "epoch": epoch, **validated, **judged})
    return rows


def _step(arm: str, target: str, adapter: Path) -> str:
    return f"{arm}_{target}_{adapter.stem}"


def _judge(bench: Bench, arm: str, target: str, adapter: Path, num_poses: int) -> None:
    """Render a target by an adapter, and let both judges look."""
    out, step = bench.folder, _step(arm, target, adapter)
    poses = [file.name for file in sorted((out / "poses/poses").glob("*_pose.mp4"))[:num_poses]]
    jobs = [{"pose": poses, "identity": target, "face_lora_path": str(adapter)}]
    renders = bench.render_jobs(step, jobs, ["--identities_dir", out / "identities/weak", *RENDER, *SIZE])
    bench.evaluate(f"judge_{step}", [f"{step}={renders}"], out / "judged" / step, [])


def _judged(bench: Bench, step: str, target: str) -> dict[str, float]:
    """The judges' mean cosine of an adapter's renders of its target."""
    rows = read_rows(bench.folder / "judged" / step / "videos.csv", [target])
    return {judge: float(np.mean([float(row["similarity"]) for row in rows[step, judge].values()])) for judge in JUDGES}


if __name__ == "__main__":
    run_entry_point(main)
