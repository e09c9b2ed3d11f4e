"""What the product's figures and promises were measured with; benchmarks/README.md is the map.

Run from the repository's root: `python -m benchmarks.gpu`. Figures are written to benchmarks/records.
"""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDS = REPOSITORY / "benchmarks" / "records"
# The toy's factory and a few of the tests' helpers are used here as well; they are in no package.
sys.path += [str(REPOSITORY / name) for name in ("tools", "tests", "tests/data")]
