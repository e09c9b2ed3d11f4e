"""Write the audit's report.

audit.html is a page without pictures of anybody, and audit.json holds all of the audit for programs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from faceid.data.clips.audit import ENOUGH_CELLS, FEW_CELLS, LEAST_VISIBLE_SHARE, STANDS_STILL, Audit, ClipAudit
from faceid.files.outputs import staged_folder
from faceid.files.provenance import write_provenance
from faceid.files.writing import write_atomic, write_json
from faceid.media.pixels.motion import LOWEST_CORRELATION

AUDIT, PAGE_NAME = "an audit", "audit.html"
# Upper bounds of the bars, in cells a side.
BINS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, float("inf"))
LONGEST_BAR_PX, MOST_LOOKS = 400, 200


def write_audit(audit: Audit, output_dir: Path, spatial_factor: int) -> Path:
    """Write the page and the numbers. Returns the page."""
    content = asdict(audit)
    # The bits are written as text, because JSON readers keep 53 bits of a number.
    content["clips"] = [{**clip, "look": f"{clip['look']:048x}"} for clip in content["clips"]]
    with staged_folder(output_dir, AUDIT) as staged:
        write_json(staged / "audit.json", content)
        write_atomic(staged / PAGE_NAME, render_audit(audit, spatial_factor))
        write_provenance(staged)
    return output_dir / PAGE_NAME


def render_audit(audit: Audit, spatial_factor: int) -> str:
    """HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    looks = [(clip, why) for clip in audit.clips if (why := why_look(clip))]
    return environment.get_template("audit_report.html.j2").render(
        audit=audit,
        spatial_factor=spatial_factor,
        few=FEW_CELLS,
        enough=ENOUGH_CELLS,
        bins=_bins(audit, spatial_factor),
        genres=sorted({genre for counts in audit.dancers_by_genre.values() for genre in counts}),
        looks=looks[:MOST_LOOKS],
        more=max(len(looks) - MOST_LOOKS, 0),
        number=lambda value, digits: "" if value is None else f"{value:.{digits}f}",
        percent=lambda value: "" if value is None else f"{value:.0%}",
    )


def why_look(clip: ClipAudit) -> str | None:
    """What is odd about a clip; None if nothing is."""
    if clip.problem is not None:
        return clip.problem
    if clip.correlation is not None and clip.correlation < LOWEST_CORRELATION:
        return f"moves differently from its pose (correlation {clip.correlation:.2f})"
    if clip.visible is not None and clip.visible < LEAST_VISIBLE_SHARE:
        return f"a head in {clip.visible:.0%} of its frames"
    return "hardly moves" if clip.motion < STANDS_STILL else None


def _bins(audit: Audit, spatial_factor: int) -> list[dict[str, Any]]:
    cells = [clip.head_px / spatial_factor for clip in audit.clips if clip.head_px is not None]
    edges = list(zip((0.0, *BINS), BINS, strict=False))
    counts = [sum(low <= value < high for value in cells) for low, high in edges]
    most = max(counts) or 1
    rows = []
    for (low, high), count in zip(edges, counts, strict=True):
        name = f"{low:g} to {high:g}" if high != float("inf") else f"{low:g} and more"
        width = round(count / most * LONGEST_BAR_PX)
        rows.append({"name": name, "count": count, "few": high <= FEW_CELLS, "width": width})
    return rows
