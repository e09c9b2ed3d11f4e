"""Make the report's tables of numbers as text.

Rows are arms and differences, by metric, with intervals and the best marked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from faceid.evaluation.figures.bootstrap import Estimate
from faceid.evaluation.figures.video_metrics import ALL_METRICS, IDENTITY_METRICS, PICTURE_METRICS, Metric
from faceid.evaluation.report.results import Results

# Numbers of an arm that are no means over its videos.
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


@dataclass(frozen=True)
class NumberCell:
    """One number of a table, as text."""

    text: str
    interval: str
    is_best: bool


def arm_tables(results: Results, recogniser: str) -> dict[str, tuple[Sequence[Metric], dict[str, list[NumberCell]]]]:
    """Columns and rows by one recogniser: `identity` and `steadiness` of every arm, `differences` between arms."""
    numbers = results.numbers[recogniser]
    differences = {name: found for name, found in results.comparisons[recogniser]["differences"].items() if found}
    others = [name for name in numbers if name != results.compared.roles.real]
    steadiness = _measured(numbers, STEADINESS_COLUMNS)
    return {
        "identity": (IDENTITY_COLUMNS, _rows(numbers, IDENTITY_COLUMNS, others)),
        "steadiness": (steadiness, _rows(numbers, steadiness, others)),
        "differences": (DIFFERENCE_COLUMNS, _rows(differences, DIFFERENCE_COLUMNS, [])),
    }


def number_cell(value: float, interval: Sequence[float] | None = None, is_best: bool = False) -> NumberCell:
    """A number as text, with a dash for nan. interval: low and high, where there is one."""
    if math.isnan(value):
        return NumberCell("–", "", False)
    return NumberCell(_digits(value), " … ".join(map(_digits, interval)) if interval else "", is_best)


def _measured(numbers: dict[str, dict[str, Estimate]], columns: Sequence[Metric]) -> Sequence[Metric]:
    return [c for c in columns if any(not math.isnan(found[c.name].value) for found in numbers.values())]


def _rows(
    numbers: dict[str, dict[str, Estimate]], columns: Sequence[Metric], competitors: Sequence[str]
) -> dict[str, list[NumberCell]]:
    best = {
        column.name: _best([numbers[name][column.name].value for name in competitors], column) for column in columns
    }
    return {
        name: [
            _cell(found[column.name], name in competitors and found[column.name].value == best[column.name])
            for column in columns
        ]
        for name, found in numbers.items()
    }


def _best(values: Sequence[float], column: Metric) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    if column.better == "neither" or len(known) < 2 or min(known) == max(known):
        return None
    return max(known) if column.better == "higher" else min(known)


def _cell(found: Estimate, is_best: bool) -> NumberCell:
    return number_cell(found.value, (found.low, found.high) if found.has_interval else None, is_best)


def _digits(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
