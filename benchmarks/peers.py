"""CPU ratios of facts/performance.md 4a against public packages: loading, reading, a step, its memory, sampling.

    python benchmarks/peers.py [--small] [--only step bytes] [--output_dir DIR]

By default within 10 minutes on two cores; `--small` tries everything at sizes that say nothing. Outputs are compared
before anything is timed, and a difference ends the run. Writes peers.json and peers.md: what was measured here and,
gathered from the other records, all of A1 to A13. A ratio is theirs by ours; losing ones stay.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import peers_layouts
import peers_reading
import peers_sampling
import torch
import transformers
from data_speed import MissingError
from peers_bytes import compare_bytes
from peers_layouts import Base
from peers_loading import compare_loading, import_all
from peers_models import install_diffsynth
from peers_ratios import EQUAL_WITHIN, DifferentError, Ratio
from peers_reading import compare_reading
from peers_sampling import compare_sampling
from peers_step import compare_steps
from peers_table import gather, write_table
from peers_worlds import compare_worlds
from proof import RECORDS, REPOSITORY

from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json

PACKAGES = REPOSITORY / "outputs" / "peers"
LONGEST_DEFAULT_S = 600
Look = Callable[[Path, bool, dict[str, Any]], list[Ratio]]


def main(argv: list[str]) -> int:
    """Compare, print and record; 1 when outputs differ or the default sizes took too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="sizes that say nothing, under a minute")
    parser.add_argument("--only", nargs="+", choices=LOOKS, default=list(LOOKS), help="these comparisons alone")
    parser.add_argument("--output_dir", type=Path, default=RECORDS, help="where peers.json and peers.md go")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    _be_quiet()
    began = time.perf_counter()
    details: dict[str, Any] = {"threads": 1, "load_average": {"start": os.getloadavg()}, "missing": {}}
    ratios: list[Ratio] = []
    for name in given.only:
        at = time.perf_counter()
        # On the disk: pages of files in memory would count as the process's own.
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = LOOKS[name](Path(folder), given.small, details)
            except DifferentError as error:
                print(f"{name}: outputs differ, nothing is compared: {error}", file=sys.stderr)
                return 1
        details["load_average"][name] = os.getloadavg()
        ratios += found
        print(f"{name}: {time.perf_counter() - at:.0f} s", flush=True)
        for ratio in found:
            print(f"  {ratio.verdict:<5} {ratio.ratios[1]:>8.2f}  {ratio.row}: {ratio.what} [{ratio.peer}]", flush=True)
    seconds, size = time.perf_counter() - began, "small" if given.small else "default"
    record = {**describe_provenance(), "sizes": size, "seconds": round(seconds, 1), **details}
    rows = [{**asdict(ratio), "ratios": ratio.ratios, "verdict": ratio.verdict} for ratio in ratios]
    lines = gather(RECORDS, ratios)
    record |= {"rows": rows, "table": [asdict(line) for line in lines]}
    given.output_dir.mkdir(parents=True, exist_ok=True)
    write_json(given.output_dir / "peers.json", record)
    write_table(given.output_dir / "peers.md", lines, _head(record))
    print(f"{seconds:.0f} s in all; record in {given.output_dir / 'peers.json'}")
    return int(size == "default" and seconds > LONGEST_DEFAULT_S)


def _load(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    import_all(folder / "tiny")
    base = Base.write(folder / "base", peers_layouts.TINY if is_small else peers_layouts.MIDDLE)
    ratios, details["loading"] = compare_loading(base, 1 if is_small else 5)
    return ratios


def _read(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    clips = peers_reading.TINY_CLIPS if is_small else peers_reading.MIDDLE_CLIPS
    ratios, details["reading"] = compare_reading(folder, 1 if is_small else 5, clips)
    return ratios


def _step(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    ratios, details["step"], missing = compare_steps(PACKAGES, 1 if is_small else 5, is_small)
    details["missing"] |= missing
    return ratios


def _hold(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    try:
        install_diffsynth(PACKAGES)
    except MissingError as error:
        details["missing"]["DiffSynth-Studio"] = str(error)
    ratios, details["bytes"] = compare_bytes("DiffSynth-Studio" not in details["missing"], is_small)
    return ratios


def _sample(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    size = peers_sampling.TINY if is_small else peers_sampling.MIDDLE
    ratios, details["sampling"] = compare_sampling(folder, 1 if is_small else 5, size)
    return ratios


def _join(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    ratios, details["worlds"] = compare_worlds(folder, 1, is_small)
    return ratios


LOOKS: dict[str, Look] = {
    "loading": _load,
    "reading": _read,
    "step": _step,
    "bytes": _hold,
    "sampling": _sample,
    "worlds": _join,
}


def _head(record: dict[str, Any]) -> list[str]:
    loads = ", ".join(f"{name} {load[0]:.1f}" for name, load in record["load_average"].items())
    return [
        f"Written by `python benchmarks/{' '.join(record['command'])}` at {record['commit']}, {record['time']}: "
        f"{record['seconds']:.0f} s, {record['machine']['cpus']} CPUs, one thread, sizes {record['sizes']}; "
        f"load average: {loads}.",
        f"Ratios are theirs by ours; WIN or LOSS where the least and the median both say so by more than "
        f"{EQUAL_WITHIN:.0%}. Figures are medians. Outputs were compared before.",
        *(f"Missing: {name}: {why}" for name, why in record["missing"].items()),
    ]


def _be_quiet() -> None:
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
