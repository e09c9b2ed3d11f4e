"""Records of benchmarks.identity.arms from several worlds as one record, in which all their people count alike.

    python -m benchmarks.identity.join_arms --records '[A/arms.json, B/arms.json]' --output_dir O

Writes arms.json and arms.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic.dataclasses import dataclass as settings_class

from benchmarks.identity.arm_figures import compare_arms, join_worlds, read_earlier
from faceid.config import parse_sections
from faceid.errors import ConfigError, run_entry_point
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


if __name__ == "__main__":
    run_entry_point(main)
