"""What is promised of the real model: layouts, memory, adapters for other tools, encoders, speed.

What needs a GPU is read from the record of benchmarks/gpu, whose commit and machine the row names.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks import RECORDS
from benchmarks.proofs.proof import Proof, Work
from benchmarks.proofs.rows import Seen

# Of benchmarks/gpu, which says itself whether its goals are met. By the data sheet's peak there is no goal.
GPU_RECORDS, NO_GOAL = ("gpu.json", "gpu_video.json"), "data sheet"


def on_a_gpu(work: Work) -> list[Seen]:
    """The goals of the GPU records, each from the first record that shows it."""
    found: dict[str, Seen] = {}
    for name in GPU_RECORDS:
        record: dict[str, Any] = json.loads((RECORDS / name).read_text(encoding="utf-8"))
        where = f"{record['gpu']['name']}, {name} at {record['commit']}"
        for goal in record["goals"]:
            if goal["verdict"] != "not shown" and NO_GOAL not in goal["goal"]:
                promise = f"on a GPU, as recorded: {goal['goal'].lstrip('. ')}"
                seen = (promise, "as its name says", f"{goal['measured']}; {where}", goal["verdict"] == "holds")
                found.setdefault(promise, seen)
    return list(found.values())


PROOF = Proof("model", (on_a_gpu,), processes=2, must_be_shown=True)
