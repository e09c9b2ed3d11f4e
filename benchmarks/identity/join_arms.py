"""Records of benchmarks.identity.arms from several worlds as one record, in which all their people count alike.

    python -m benchmarks.identity.join_arms --records '[A/arms.json, B/arms.json]' --output_dir O

Writes arms.json and arms.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass as settings_class

from benchmarks.identity.arm_figures import COSTS, Earlier, Rows, compare_arms, read_earlier
from faceid.config import parse_sections
from faceid.errors import ConfigError, DataError, run_entry_point
from faceid.files.documents import read_json
from faceid.files.outputs import claim_folder
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_atomic, write_json


@settings_class(frozen=True)
class JoinSettings:
    """What is joined."""

    records: list[Path]
    """arms.json of two worlds or more, each beside its arms.videos.csv.gz. All other settings are the same."""
    output_dir: Path
    """Folder to write into. A new one, or one that this command made."""


def main(argv: list[str] | None = None) -> int:
    """Parse, read, join, compare."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("benchmarks.identity.join_arms", __doc__ or "", [JoinSettings], words)
    told = [read_json(record) for record in settings.records]
    worlds = [record["settings"]["world"] for record in told]
    if len(worlds) < 2 or len(set(worlds)) < len(worlds):
        raise ConfigError(f"records: are of the worlds {worlds}; give records of two worlds or more, one of each")
    alike = {name: value for name, value in told[0]["settings"].items() if name not in ("arms", "world")}
    joined = join_worlds(
        {
            world: read_earlier(record, one, alike)
            for world, record, one in zip(worlds, settings.records, told, strict=True)
        }
    )
    claim_folder(settings.output_dir, "joined arms of a benchmark", [], key="output_dir")
    record, table = compare_arms(joined.rows, joined.costs)
    kept = {"settings": {**alike, "worlds": worlds}, "commits": [one["commit"] for one in told]}
    write_json(settings.output_dir / "arms.json", {**describe_provenance(), **kept, **record})
    write_atomic(settings.output_dir / "arms.md", table)
    print(table)
    return 0


def join_worlds(of_worlds: dict[int, Earlier]) -> Earlier:
    """Arms of several worlds as one, of all their people. Raises: DataError when a world lacks an arm of another."""
    rows: Rows = {}
    costs: dict[str, dict[str, Any]] = {}
    names = {world: sorted(of.costs) for world, of in of_worlds.items()}
    if len({tuple(of) for of in names.values()}) > 1:
        raise DataError(f"records: the worlds have other arms: {names}; leave out what not all of them have")
    for world, of in of_worlds.items():
        for arm, videos in of.rows.items():
            of_world = {(f"{world}:{person}", clip, seed): row for (person, clip, seed), row in videos.items()}
            rows.setdefault(arm, {}).update(of_world)
    for name in next(iter(names.values())):
        of_arm = [of.costs[name] for of in of_worlds.values()]
        costs[name] = {key: _mean_of([cost[key] for cost in of_arm]) for key in COSTS}
    return Earlier(rows, costs)


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 1) if known else None


if __name__ == "__main__":
    run_entry_point(main)
