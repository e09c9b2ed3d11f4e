"""What was measured beside what was predicted and what is wanted, as lines to read and rows to keep.

Predictions are those written down before anything was measured (performance.md 4b), for one H200; where they are for a
LoRA on both branches, the product's default (the base branch alone) does 911 of 1,221 operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_bench import REACHED_TFLOPS, Bench, Figures
from gpu_training import MODES, MORE_MODES

# Where the goals are told for.
GOAL_FRAMES = 65
STEP_GOAL_S, MFU_GOAL, PEAK_GOAL_GB, SMALL_PEAK_GOAL_GB, VIDEO_GOAL_S, STALL_GOAL = 2.0, 0.45, 18.0, 14.5, 60.0, 0.01


@dataclass(frozen=True)
class Prediction:
    """section, name: of the row, without its length. key: of the figure."""

    step: str
    section: str
    name: str
    key: str
    said: str


PREDICTIONS = (
    Prediction("B0", "ceilings", "matmul {tokens} x 1536 x 1536", "tflops", "600-780 TFLOP/s"),
    Prediction("B0", "ceilings", "matmul {tokens} x 1536 x 8960", "tflops", "600-780 TFLOP/s"),
    Prediction("B0", "ceilings", "matmul {tokens} x 8960 x 1536", "tflops", "600-780 TFLOP/s"),
    Prediction("B0", "ceilings", "{frames} frames, attention flash_attention", "forward_tflops", "370 TFLOP/s"),
    Prediction("B0", "ceilings", "{frames} frames, attention flash_attention", "backward_tflops", "300 TFLOP/s"),
    Prediction("B0", "ceilings", "{frames} frames, attention cudnn_attention", "forward_tflops", "600 TFLOP/s"),
    Prediction("B0", "ceilings", "{frames} frames, attention cudnn_attention", "backward_tflops", "500 TFLOP/s"),
    Prediction("B0", "ceilings", "copy on the device", "gb_per_s", "4300 GB/s"),
    Prediction(
        "B1", "more_training", "{frames} frames, full, eager, native, LoRA on both branches", "step_s", "3.3-5.2 s"
    ),
    Prediction("B1 x 0.75", "training", "{frames} frames, full, eager, native", "step_s", "2.5-3.9 s"),
    Prediction("B1", "training", "{frames} frames, full, eager, native", "peak_gb", "12-16 GB"),
    Prediction("B3", "training", "{frames} frames, attention, eager, native", "step_s", "0.3-0.5 s less than full"),
    Prediction("B3", "training", "{frames} frames, attention, eager, native", "peak_gb", "3.7 GB more than full"),
    Prediction("B6", "training", "{frames} frames, attention, compiled, native", "step_s", "1.5-1.8 s"),
    Prediction("B6", "training", "{frames} frames, attention, compiled, _native_cudnn", "step_s", "1.5-1.8 s"),
    Prediction("B4", "training", "{frames} frames, attention, compiled, native", "first_pass_s", "< 60 s"),
    Prediction("B5", "more_training", "{frames} frames, none, compiled, native", "step_s", "1.8-2.1 s (LoRA on both)"),
    Prediction("B5", "more_training", "{frames} frames, none, compiled, native", "peak_gb", "70-100 GB (LoRA on both)"),
    Prediction("B8", "vae", "{frames} frames, encode, float32", "encode_s", "0.7-1.0 s"),
    Prediction("B8", "vae", "{frames} frames, decode, float32", "decode_s", "1.2-3 s"),
    Prediction("B9", "sampling", "{frames} frames, eager, native", "denoising_s_of_50_steps", "61-98 s"),
    Prediction("B9", "sampling", "{frames} frames, eager, _native_cudnn", "denoising_s_of_50_steps", "61-73 s"),
    Prediction("B9", "sampling", "{frames} frames, compiled, _native_cudnn", "denoising_s_of_50_steps", "51-62 s"),
    Prediction("B9", "sampling", "{frames} frames, eager, _native_flash", "denoising_s_of_50_steps", "82-98 s"),
)


def print_tables(bench: Bench) -> Figures:
    """Print both tables; returns their rows for the record."""
    predicted = _predicted(bench)
    goals = _goals(bench)
    if bench.scale.is_tiny:
        # A toy keeps every goal.
        goals = [{**row, "verdict": "tiny"} for row in goals]
    print("\nmeasured beside predicted (one H200, 65 frames)")
    for row in predicted:
        measured = "-" if row["measured"] is None else str(row["measured"])
        print(f"  {row['step']:<10} {row['name']:<68} {row['key']:<24} {measured:>9}   {row['predicted']}")
    print("\nmeasured beside the goals")
    for row in goals:
        print(f"  {row['verdict'].upper():<12} {row['goal']:<62} {row['measured']}")
    for status in ("wrong", "error", "left out"):
        found = [row for row in bench.rows if row["status"] == status]
        if found:
            print(f"\n{status}: {len(found)}")
            for row in found:
                print(f"  {row['section']}: {row['name']}: {row.get('error', '')}")
    return {"predicted": predicted, "goals": goals}


def _predicted(bench: Bench) -> list[Figures]:
    frames = bench.scale.frames[0]
    rows = []
    for one in PREDICTIONS:
        name = one.name.format(frames=frames, tokens=bench.scale.tokens(frames))
        measured = bench.find(one.section, name).get(one.key)
        rows.append({"step": one.step, "name": name, "key": one.key, "measured": measured, "predicted": one.said})
    return rows


def _goals(bench: Bench) -> list[Figures]:
    frames = bench.scale.frames[0]
    trained = [bench.find("training", f"{frames} frames, {mode.name}") for mode in MODES]
    trained += [
        bench.find("more_training", f"{frames} frames, {m.name}") for m in MORE_MODES if m.lora_branch == "base"
    ]
    trained = [row for row in trained if row]
    fits = [row for row in trained if (row["peak_gb"] or 0) <= PEAK_GOAL_GB]
    best = min(fits, key=lambda row: row["step_s"], default={})
    small = [row for row in trained if (row["peak_gb"] or 0) <= SMALL_PEAK_GOAL_GB]
    smallest = min(trained, key=lambda row: row["peak_gb"] or 0, default={})
    reached = best["mfu"] * bench.peak_tflops / REACHED_TFLOPS if best else None
    goals = [
        _goal(f"training step within {PEAK_GOAL_GB} GB <= {STEP_GOAL_S} s", best.get("step_s"), STEP_GOAL_S, best),
        _goal(f"MFU of that, by {REACHED_TFLOPS:.0f} TFLOP/s, >= {MFU_GOAL:.0%}", reached, MFU_GOAL, best, least=True),
        _goal("... and by the data sheet", best.get("mfu"), MFU_GOAL, best, least=True),
        _goal(f"peak of that <= {PEAK_GOAL_GB} GB", best.get("peak_gb"), PEAK_GOAL_GB, best),
        _goal(f"small profile <= {SMALL_PEAK_GOAL_GB} GB", smallest.get("peak_gb"), SMALL_PEAK_GOAL_GB, smallest),
    ]
    fastest = min(small, key=lambda row: row["step_s"], default={})
    goals.append(_goal("... and the fastest step within it", fastest.get("step_s"), float("inf"), fastest))
    return [*goals, *_sampling_goals(bench, frames), _stall_goal(bench, frames)]


def _sampling_goals(bench: Bench, frames: int) -> list[Figures]:
    ways = [row for row in bench.rows if row["section"] == "sampling" and row["name"].startswith(f"{frames} frames")]
    ways = [row for row in ways if "step_s" in row and row["status"] == "ok"]
    best = min(ways, key=lambda row: row["step_s"], default={})
    said = f"exact 50-step CFG video <= {VIDEO_GOAL_S:.0f} s"
    goals = [_goal(f"{said}, denoising by its step", best.get("denoising_s_of_50_steps"), VIDEO_GOAL_S, best)]
    videos = [row for row in bench.rows if row["section"] == "video" and row["status"] == "ok"]
    found = videos[-1] if videos else {}
    goals.append(_goal(f"{said}, one made, with decoding", found.get("video_s"), VIDEO_GOAL_S, found))
    return goals


def _stall_goal(bench: Bench, frames: int) -> Figures:
    rows = [row for row in bench.rows if row["section"] == "loader" and "stall_share" in row]
    found = rows[-1] if rows else {}
    return _goal(f"loader stall < {STALL_GOAL:.0%} of the step", found.get("stall_share"), STALL_GOAL, found)


def _goal(goal: str, value: float | None, bar: float, row: Figures, least: bool = False) -> Figures:
    """One line; without a value it is not shown."""
    if value is None:
        return {"goal": goal, "measured": "", "verdict": "not shown"}
    holds = value >= bar if least else value <= bar
    return {
        "goal": goal,
        "measured": f"{value:.4g} ({row['section']}: {row['name']})",
        "verdict": "holds" if holds else "falls short",
    }
