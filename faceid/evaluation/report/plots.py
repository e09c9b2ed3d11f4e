"""Plots of the report, each drawn twice: for light pages and for dark ones.

matplotlib's object interface draws without a screen or global state. It is imported inside the functions, because only
an evaluation needs it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceid.evaluation.figures.bootstrap import Estimate
from faceid.evaluation.videos.curve import ScalePoint

DPI = 130
HISTOGRAM_BINS = 24
VERIFICATION_BINS = 40
ROC_POINTS = 2000
PLOTS_A_ROW = 3


@dataclass(frozen=True)
class Theme:
    """Colours of one kind of page."""

    background: str
    ink: str
    grid: str
    own: str
    other: str


LIGHT = Theme(background="#ffffff", ink="#1f2328", grid="#d8dee4", own="#2563c9", other="#b0b7c0")
DARK = Theme(background="#161b22", ink="#e6edf3", grid="#30363d", own="#5b9bf5", other="#6b7480")


@dataclass(frozen=True)
class Plot:
    """One plot as PNG bytes for each kind of page."""

    light: bytes
    dark: bytes


def plot_curve(points: Sequence[ScalePoint]) -> Plot:
    """Mean own similarity against face_scale, with intervals."""

    def draw(figure: Any, theme: Theme) -> None:
        axes = _axes(figure, theme, (1, 1, 1))
        scales = [point.face_scale for point in points]
        values = [point.similarity.value for point in points]
        axes.errorbar(
            scales, values, yerr=_reach([p.similarity for p in points]), color=theme.own, marker="o", capsize=3
        )
        axes.set_xlabel("face_scale")
        axes.set_ylabel("similarity × rate")
        axes.set_xticks(scales)

    return _both(draw, (5.2, 3.2))


def plot_pose(errors: dict[str, Estimate]) -> Plot:
    """Pose error of each arm, in torsos, with intervals. The arms are in order from the top."""

    def draw(figure: Any, theme: Theme) -> None:
        axes = _axes(figure, theme, (1, 1, 1))
        places = np.arange(len(errors))[::-1]
        estimates = list(errors.values())
        style = {"color": theme.own, "ecolor": theme.ink, "capsize": 3, "height": 0.6}
        axes.barh(places, [e.value for e in estimates], xerr=_reach(estimates), **style)
        axes.set_yticks(places, list(errors))
        axes.set_xlabel("pose error, torsos")
        axes.set_xlim(left=0)

    return _both(draw, (5.2, 0.9 + 0.38 * len(errors)))


def plot_histograms(scores: dict[str, tuple[np.ndarray, np.ndarray]]) -> Plot:
    """Genuine against impostor scores, one small plot per arm on one axis. scores: ([N], [M]) by arm."""
    rows = -(-len(scores) // PLOTS_A_ROW)
    everything = np.concatenate([values for pair in scores.values() for values in pair])
    low, high = float(everything.min()), float(everything.max())
    # For equal scores numpy would choose a range of its own.
    bins = np.linspace(low, high if high > low else low + 1e-3, HISTOGRAM_BINS + 1)

    def draw(figure: Any, theme: Theme) -> None:
        for number, (arm, (genuine, impostor)) in enumerate(scores.items(), start=1):
            axes = _axes(figure, theme, (rows, min(PLOTS_A_ROW, len(scores)), number))
            # Outlines are drawn over areas, so that both are visible where they agree, as for the base.
            for values, colour, name, kind in (
                (impostor, theme.other, "others", "stepfilled"),
                (genuine, theme.own, "own", "step"),
            ):
                share = np.full(len(values), 1 / len(values))
                axes.hist(values, bins, weights=share, color=colour, histtype=kind, linewidth=1.8, label=name)
            axes.set_title(arm, color=theme.ink, fontsize=10)
            if number == 1:
                axes.legend(loc="upper left", labelcolor=theme.ink, frameon=False, fontsize=8)
                axes.set_ylabel("share")

    return _both(draw, (3.0 * min(PLOTS_A_ROW, len(scores)) + 0.4, 2.2 * rows + 0.3))


def plot_verification(
    genuine: np.ndarray,
    impostor: np.ndarray,
    roc: tuple[np.ndarray, np.ndarray, np.ndarray],
    equal_error: tuple[float, float],
    false_accept_threshold: float,
) -> Plot:
    """Histogram of the cosines of pairs, [G] and [I], beside the ROC curve, with the equal error rate marked in both.

    roc: thresholds, false accepts, false rejects, [K]. equal_error: rate and threshold. false_accept_threshold: the
    threshold at 1 % false accepts; nan is not drawn.
    """
    low, high = min(genuine.min(), impostor.min()), max(genuine.max(), impostor.max())
    bins = np.linspace(low, high if high > low else low + 1e-3, VERIFICATION_BINS + 1)
    _, accepts, rejects = roc
    # The curve is thinned. More corners are invisible, and millions would bloat the page.
    shown = np.unique(np.linspace(0, len(accepts) - 1, min(len(accepts), ROC_POINTS)).astype(int))
    rate, threshold = equal_error

    def draw(figure: Any, theme: Theme) -> None:
        axes = _axes(figure, theme, (1, 2, 1))
        # The legend stands above the bars, wherever those are.
        under_legend = 0.69
        for values, colour, name, kind in (
            (impostor, theme.other, f"two people ({len(impostor):,} pairs)", "stepfilled"),
            (genuine, theme.own, f"one person ({len(genuine):,} pairs)", "step"),
        ):
            share = np.full(len(values), 1 / len(values))
            axes.hist(values, bins, weights=share, color=colour, histtype=kind, linewidth=1.8, label=name)
        axes.axvline(threshold, ymax=under_legend, color=theme.ink, linewidth=1.2, label="equal error")
        if np.isfinite(false_accept_threshold):
            style = {"color": theme.ink, "linewidth": 1.2, "linestyle": ":", "label": "1 % false accepts"}
            axes.axvline(false_accept_threshold, ymax=under_legend, **style)
        axes.set_xlabel("cosine of two photos")
        axes.set_ylabel("share of the pairs")
        axes.set_ylim(top=axes.get_ylim()[1] / under_legend)
        axes.legend(loc="upper left", labelcolor=theme.ink, frameon=False, fontsize=8)

        axes = _axes(figure, theme, (1, 2, 2))
        axes.plot([0, 1], [0, 1], color=theme.other, linewidth=1.2, linestyle="--", label="chance")
        axes.plot(accepts[shown], 1 - rejects[shown], color=theme.own, linewidth=1.8, label="this encoder")
        axes.plot([rate], [1 - rate], "o", color=theme.ink, label=f"equal error rate {100 * rate:.1f} %", clip_on=False)
        axes.set_xlabel("pairs of two people taken for one (false accepts)")
        axes.set_ylabel("pairs of one person known")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="lower right", labelcolor=theme.ink, frameon=False, fontsize=8)

    return _both(draw, (9.6, 3.9))


def _reach(estimates: Sequence[Estimate]) -> np.ndarray:
    """Lengths of the error bars below and above, [2, N]; none where there is no interval."""
    reach = np.array([[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]])
    return np.clip(np.nan_to_num(reach), 0, None)


def _axes(figure: Any, theme: Theme, place: tuple[int, int, int]) -> Any:
    axes = figure.add_subplot(*place)
    axes.set_facecolor(theme.background)
    axes.tick_params(colors=theme.ink, labelsize=8)
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    axes.grid(color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.grid)
    return axes


def _both(draw: Callable[[Any, Theme], None], size_inch: tuple[float, float]) -> Plot:
    return Plot(_png(draw, size_inch, LIGHT), _png(draw, size_inch, DARK))


def _png(draw: Callable[[Any, Theme], None], size_inch: tuple[float, float], theme: Theme) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inch, facecolor=theme.background, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, theme)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png")
    return buffer.getvalue()
