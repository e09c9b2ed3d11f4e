"""What is promised of Slurm, on a real cluster of three nodes that is made here and taken away again.

Needs root and Slurm (`make slurm-packages`). A promise that cannot be shown fails.
"""

from __future__ import annotations

from benchmarks.proofs.proof import Proof

# One for each group of tests/slurm, with a cluster of its own; one of them mostly waits.
PROCESSES = 3
PROOF = Proof("slurm", processes=PROCESSES, must_be_shown=True, details={"processes": PROCESSES})
