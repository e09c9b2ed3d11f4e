"""report.html: one self-contained page with the numbers, the pictures, the plots and what every number means."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from faceid.evaluation.arms import genuine_and_impostor
from faceid.evaluation.bootstrap import Estimate
from faceid.evaluation.metrics import ALL_METRICS, IDENTITY_METRICS, PICTURE_METRICS, Metric
from faceid.evaluation.pictures import show_people
from faceid.evaluation.plots import Plot, plot_curve, plot_histograms, plot_pose
from faceid.evaluation.results import Results

# Numbers of an arm that are not means over its videos.
SEPARATION_METRICS = (
    Metric(
        "auc",
        "ROC-AUC",
        "higher",
        "How often a video scores higher with its own person than a video (this or another) with somebody else. "
        "0.5 is chance.",
    ),
    Metric(
        "equal_error_rate",
        "EER",
        "lower",
        "Error rate at the threshold where false rejects equal false accepts. 0.5 is chance.",
    ),
    Metric("d_prime", "d′", "higher", "Distance of own and others' mean scores, in standard deviations."),
    Metric(
        "true_accept_rate_at_1_percent",
        "TAR at FAR 1 %",
        "higher",
        "Share of videos accepted where 1 % of others would be; empty with fewer than 100 impostor scores.",
    ),
)
_SHOWN = tuple(metric for metric in IDENTITY_METRICS if metric.is_shown)
IDENTITY_COLUMNS = _SHOWN[:5] + SEPARATION_METRICS
STEADINESS_COLUMNS = _SHOWN[5:] + PICTURE_METRICS
DIFFERENCE_COLUMNS = tuple(
    metric
    for metric in ALL_METRICS
    if metric.name in ("rank1", "similarity_times_rate", "margin", "flicker", "dynamic_degree", "pose_error")
)
SUMMARY_TITLES = {
    "identity_rank1_heldout_poses": "Rank-1, people trained on, new poses",
    "identity_rank1_heldout_people": "Rank-1, people not trained on",
    "identity_auc_heldout_people": "ROC-AUC, people not trained on",
    "target_rank1": "Rank-1 of the target",
    "base_rank1": "Rank-1 of the base (no face)",
    "naive_recipe_rank1": "Rank-1 of the control recipe",
    "real_rank1": "Rank-1 of real clips (ceiling)",
    "chance_rank1": "Rank-1 by chance",
    "wrong_identity_follows_embedding": "Other people's embeddings: rank-1 of the given one",
    "wrong_identity_nearest_is_target": "Other people's embeddings: looks like the target",
    "face_scale_spearman": "face_scale against similarity, Spearman",
    "face_scale_zero_equals_base": "face_scale 0 is the base, byte for byte",
    "pose_error_ratio_to_base": "Pose error over the base's",
    "driver_leak": "Driver leak, against the base",
    "driver_leak_within_person": "Driver leak, within a person",
    "similarity_between_base_and_real": "Similarity between base (0) and real clips (1)",
}


@dataclass(frozen=True)
class NumberCell:
    """One number of a table, as text."""

    text: str
    interval: str
    is_best: bool


def render_report(results: Results) -> str:
    """The page as HTML text; decodes the shown videos once more."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    facts = results.facts
    summary = {
        title: _plain_text(results.summary[key])
        for key, title in SUMMARY_TITLES.items()
        if results.summary[key] is not None
    }
    return environment.get_template("report.html.j2").render(
        settings=facts.settings,
        notes=[line for line in results.notes if line.strip()],
        facts=facts,
        summary=summary,
        wall_s=results.summary["wall_s"],
        recognisers=[(name, _short(name), _tables(results, name)) for name in results.numbers],
        people=show_people(results),
        arms=list(facts.arms.values()),
        under=_under_names(results),
        plots=_plots(results),
        meanings=[m for m in (*IDENTITY_METRICS, *SEPARATION_METRICS, *PICTURE_METRICS) if m.is_shown],
        is_pose_scored=results.instruments.pose_reader is not None,
    )


def _tables(results: Results, recogniser: str) -> dict[str, Any]:
    numbers = results.numbers[recogniser]
    differences = results.comparisons[recogniser]["differences"]
    others = [name for name in numbers if name != results.facts.settings.real]
    return {
        "identity": (IDENTITY_COLUMNS, _rows(numbers, IDENTITY_COLUMNS, others)),
        "steadiness": (
            _measured(numbers, STEADINESS_COLUMNS),
            _rows(numbers, _measured(numbers, STEADINESS_COLUMNS), others),
        ),
        "differences": (DIFFERENCE_COLUMNS, _rows({k: v for k, v in differences.items() if v}, DIFFERENCE_COLUMNS, [])),
    }


def _measured(numbers: dict[str, dict[str, Any]], columns: Sequence[Metric]) -> Sequence[Metric]:
    return [c for c in columns if any(not math.isnan(_value(found[c.name])) for found in numbers.values())]


def _rows(
    numbers: dict[str, dict[str, Any]], columns: Sequence[Metric], competitors: Sequence[str]
) -> dict[str, list[NumberCell]]:
    best = {
        column.name: _best([_value(numbers[name][column.name]) for name in competitors], column) for column in columns
    }
    return {
        name: [
            _cell(found[column.name], name in competitors and _value(found[column.name]) == best[column.name])
            for column in columns
        ]
        for name, found in numbers.items()
    }


def _best(values: Sequence[float], column: Metric) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    if column.better == "neither" or len(known) < 2 or min(known) == max(known):
        return None
    return max(known) if column.better == "higher" else min(known)


def _cell(found: Any, is_best: bool) -> NumberCell:
    value = _value(found)
    if math.isnan(value):
        return NumberCell("–", "", False)
    has_interval = isinstance(found, Estimate) and not math.isnan(found.low)
    interval = f"{_digits(found.low)} … {_digits(found.high)}" if has_interval else ""
    return NumberCell(_digits(value), interval, is_best)


def _value(found: Any) -> float:
    return float(found.value if isinstance(found, Estimate) else found)


def _digits(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _plain_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _digits(float(value))


def _short(recogniser: str) -> str:
    kind, _, path = recogniser.partition(":")
    return f"{kind} {Path(path).name}" if path else kind


def _under_names(results: Results) -> dict[str, list[str]]:
    """What stands under the name of each arm and comparison: its part, where the name does not say it, and counts."""
    lines: dict[str, list[str]] = {}
    by_arm = results.videos[results.primary]
    for name, arm in results.facts.arms.items():
        parts = [role.replace("_", " ") for role, given in results.facts.settings.roles().items() if given == name]
        people = len({video.identity for video in by_arm[name]})
        is_given = all(render.identity for render in arm.renders)
        who = f"{'' if is_given else 'scored as '}{people} {'person' if people == 1 else 'people'}"
        counts = f"{len(arm.renders)} videos, {who}"
        lines[name] = [*([", ".join(parts)] if parts and parts != [name] else []), counts]
    for name, found in results.comparisons[results.primary]["differences"].items():
        if found:
            lines[name] = [f"{found['similarity_times_rate'].count} pairs"]
    return lines


def _plots(results: Results) -> dict[str, tuple[str, str]]:
    by_arm = results.videos[results.primary]
    numbers = results.numbers[results.primary]
    curve = results.comparisons[results.primary]["curve"]
    scores = {arm: genuine_and_impostor(videos) for arm, videos in by_arm.items()}
    errors = {arm: found["pose_error"] for arm, found in numbers.items() if found["pose_error"].count}
    plots: dict[str, Plot] = {}
    if len(curve) > 1:
        plots["Similarity against face_scale"] = plot_curve(curve)
    plots["Scores with the own person and with others"] = plot_histograms(
        {arm: (genuine, impostor.ravel()) for arm, (genuine, impostor) in scores.items()}
    )
    if errors:
        plots["Pose error"] = plot_pose(errors)
    return {title: (_png_uri(plot.light), _png_uri(plot.dark)) for title, plot in plots.items()}


def _png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
