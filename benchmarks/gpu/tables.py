"""What was measured beside what is wanted, as lines to read and rows to keep; `make prove-model` reads the rows."""

from __future__ import annotations

from benchmarks.gpu.bench import REACHED_TFLOPS, Bench, Figures

STEP_GOAL_S, MFU_GOAL, PEAK_GOAL_GB, SMALL_PEAK_GOAL_GB, VIDEO_GOAL_S, STALL_GOAL = 2.0, 0.45, 18.0, 14.5, 60.0, 0.01


def print_goals(bench: Bench) -> Figures:
    """Print the goals, at the first length; returns their rows for the record."""
    goals = [*_training_goals(bench), *_sampling_goals(bench), _stall_goal(bench)]
    if bench.scale.is_tiny:
        # A toy keeps every goal.
        goals = [{**row, "verdict": "tiny"} for row in goals]
    print("\nmeasured beside the goals")
    for row in goals:
        print(f"  {row['verdict'].upper():<12} {row['goal']:<62} {row['measured']}")
    return {"goals": goals}


def _rows(bench: Bench, section: str) -> list[Figures]:
    """What could be measured in a section, at the first length."""
    begins = f"{bench.scale.frames[0]} frames"
    rows = [row for row in bench.rows if (row["section"], row["status"]) == (section, "ok")]
    return [row for row in rows if row["name"].startswith(begins)]


def _training_goals(bench: Bench) -> list[Figures]:
    trained = _rows(bench, "training")
    fits = [row for row in trained if (row["peak_gb"] or 0) <= PEAK_GOAL_GB]
    best = min(fits, key=lambda row: row["step_s"], default={})
    small = [row for row in trained if (row["peak_gb"] or 0) <= SMALL_PEAK_GOAL_GB]
    smallest = min(trained, key=lambda row: row["peak_gb"] or 0, default={})
    fastest = min(small, key=lambda row: row["step_s"], default={})
    reached = best["mfu"] * bench.peak_tflops / REACHED_TFLOPS if best else None
    return [
        _goal(f"training step within {PEAK_GOAL_GB} GB <= {STEP_GOAL_S} s", best.get("step_s"), STEP_GOAL_S, best),
        _goal(f"MFU of that, by {REACHED_TFLOPS:.0f} TFLOP/s, >= {MFU_GOAL:.0%}", reached, MFU_GOAL, best, least=True),
        _goal("... and by the data sheet", best.get("mfu"), MFU_GOAL, best, least=True),
        _goal(f"peak of that <= {PEAK_GOAL_GB} GB", best.get("peak_gb"), PEAK_GOAL_GB, best),
        _goal(f"small profile <= {SMALL_PEAK_GOAL_GB} GB", smallest.get("peak_gb"), SMALL_PEAK_GOAL_GB, smallest),
        _goal("... and the fastest step within it", fastest.get("step_s"), float("inf"), fastest),
    ]


def _sampling_goals(bench: Bench) -> list[Figures]:
    said = f"exact 50-step CFG video <= {VIDEO_GOAL_S:.0f} s"
    best = min(_rows(bench, "sampling"), key=lambda row: row["step_s"], default={})
    video = next(iter(_rows(bench, "video")), {})
    return [
        _goal(f"{said}, denoising by its step", best.get("denoising_s_of_50_steps"), VIDEO_GOAL_S, best),
        _goal(f"{said}, one made, with decoding", video.get("video_s"), VIDEO_GOAL_S, video),
    ]


def _stall_goal(bench: Bench) -> Figures:
    found = next((row for row in _rows(bench, "loader") if "stall_share" in row), {})
    return _goal(f"loader stall < {STALL_GOAL:.0%} of the step", found.get("stall_share"), STALL_GOAL, found)


def _goal(goal: str, value: float | None, bar: float, row: Figures, least: bool = False) -> Figures:
    """One line; without a value it is not shown."""
    if value is None:
        return {"goal": goal, "measured": "", "verdict": "not shown"}
    holds = value >= bar if least else value <= bar
    measured = f"{value:.4g} ({row['section']}: {row['name']})"
    return {"goal": goal, "measured": measured, "verdict": "holds" if holds else "falls short"}
