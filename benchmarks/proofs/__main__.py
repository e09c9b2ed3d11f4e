"""Show, row by row, what is promised: run a proof, print figures, write benchmarks/records/prove_NAME[_full].json.

    python -m benchmarks.proofs main [--full]

`make prove-NAME` is this at smaller sizes, `make prove-NAME FULL=1` at the stated ones. Ends non-zero when a promise
falls short.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.proofs.proof import prove

NAMES = ("main", "identity", "data", "training", "sampling", "slurm", "model", "nothing_lost")


def main(argv: list[str]) -> int:
    """Run one proof; 1 when a promise falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--full", action="store_true", help="the stated sizes")
    given = parser.parse_args(argv)
    return prove(importlib.import_module(f"benchmarks.proofs.{given.name}").PROOF, given.full)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
