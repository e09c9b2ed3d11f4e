"""CPU seconds and memory beside public packages: loading a base, and sampling. A ratio is theirs by ours.

    python -m benchmarks.peers [--small] [--only loading sampling] [--output FILE]

Outputs are compared before anything is timed, and a difference ends the run. `--small` tries everything at sizes that
say nothing. benchmarks/records/peers.md has more peers, and is frozen: benchmarks/README.md says where its script is.
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
import torch
import transformers

from benchmarks import REPOSITORY
from benchmarks.peers import layouts, sampling
from benchmarks.peers.loading import compare_loading, import_all
from benchmarks.peers.ratios import DifferentError, Ratio
from faceid.files.provenance import describe_provenance
from faceid.files.writing import write_json

Look = Callable[[Path, bool, dict[str, Any]], list[Ratio]]


def main(argv: list[str]) -> int:
    """Compare, print and record; 1 when outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="sizes that say nothing, under a minute")
    parser.add_argument("--only", nargs="+", choices=LOOKS, default=list(LOOKS), help="these comparisons alone")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "outputs" / "peers.json", help="the .json to write")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    _be_quiet()
    details: dict[str, Any] = {"threads": 1, "load_average": os.getloadavg()}
    ratios: list[Ratio] = []
    for name in given.only:
        began = time.perf_counter()
        # On the disk: pages of files in memory would count as the process's own.
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = LOOKS[name](Path(folder), given.small, details)
            except DifferentError as error:
                print(f"{name}: outputs differ, nothing is compared: {error}", file=sys.stderr)
                return 1
        ratios += found
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        for ratio in found:
            print(f"  {ratio.verdict:<5} {ratio.ratios[1]:>8.2f}  {ratio.row}: {ratio.what} [{ratio.peer}]", flush=True)
    rows = [{**asdict(ratio), "ratios": ratio.ratios, "verdict": ratio.verdict} for ratio in ratios]
    given.output.parent.mkdir(parents=True, exist_ok=True)
    record = {**describe_provenance(), "sizes": "small" if given.small else "default", **details, "rows": rows}
    write_json(given.output, record)
    print(f"record in {given.output}")
    return 0


def _load(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    import_all(folder / "tiny")
    base = layouts.Base.write(folder / "base", layouts.TINY if is_small else layouts.MIDDLE)
    ratios, details["loading"] = compare_loading(base, 1 if is_small else 5)
    return ratios


def _sample(folder: Path, is_small: bool, details: dict[str, Any]) -> list[Ratio]:
    size = sampling.TINY if is_small else sampling.MIDDLE
    ratios, details["sampling"] = sampling.compare_sampling(folder, 1 if is_small else 5, size)
    return ratios


LOOKS: dict[str, Look] = {"loading": _load, "sampling": _sample}


def _be_quiet() -> None:
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
