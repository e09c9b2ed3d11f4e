"""Make report.html, one self-contained page.

It has the numbers, pictures and plots, and the meaning of every number.
"""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2

from faceid.evaluation.figures.video_metrics import IDENTITY_METRICS, PICTURE_METRICS
from faceid.evaluation.report.in_short import ceilings, headlines
from faceid.evaluation.report.plots import Plot, plot_curve, plot_histograms, plot_pose
from faceid.evaluation.report.report_pictures import show_comparison, show_people
from faceid.evaluation.report.results import Results
from faceid.evaluation.report.tables import SEPARATION_METRICS, arm_tables
from faceid.evaluation.videos.arms import genuine_and_impostor


def render_evaluation_report(results: Results) -> str:
    """The page as HTML text. The shown videos are decoded once more."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    compared = results.compared
    return environment.get_template("report.html.j2").render(
        settings=results.report,
        roles=compared.roles,
        results=results,
        notes=[line for line in results.notes if line.strip()],
        compared=compared,
        headlines=headlines(results.summary),
        ceilings=ceilings(results),
        wall_s=results.summary["wall_s"],
        recognisers=[(name, _short(name), arm_tables(results, name)) for name in results.numbers],
        comparison=show_comparison(results),
        people=show_people(results),
        arms=list(compared.arms.values()),
        under=_under_names(results),
        plots=_plots(results),
        meanings=[m for m in (*IDENTITY_METRICS, *SEPARATION_METRICS, *PICTURE_METRICS) if m.is_shown],
        is_pose_scored=results.instruments.pose_reader is not None,
    )


def _short(recogniser: str) -> str:
    kind, _, path = recogniser.partition(":")
    return f"{kind} {Path(path).name}" if path else kind


def _under_names(results: Results) -> dict[str, list[str]]:
    """The lines under the name of each arm and comparison: its part, where the name does not say it, and counts."""
    lines: dict[str, list[str]] = {}
    by_arm = results.videos[results.primary]
    for name, arm in results.compared.arms.items():
        parts = [role.replace("_", " ") for role, given in results.compared.roles.roles().items() if given == name]
        people = len({video.identity for video in by_arm[name]})
        is_given = all(render.identity for render in arm.renders)
        who = f"{'' if is_given else 'scored as '}{people} {'person' if people == 1 else 'people'}"
        # Real clips have none.
        noises = "" if "real" in parts else f" of {arm.num_noises} noise{'s' if arm.num_noises > 1 else ''}"
        counts = f"{len(arm.renders)} videos{noises}, {who}"
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
