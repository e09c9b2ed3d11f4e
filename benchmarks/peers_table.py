"""A1 to A13 of facts/performance.md 4a in one place: what peers.py measured, and what other records hold.

Each line names the file it comes from and that file's commit. Where a record or a figure in it is missing, the line
says so. Records of the stated sizes (`_full`) come before those of small ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers_ratios import Ratio

TITLES = {
    "loading": "loading a base",
    "sampling": "sampling one video",
    "A1": "pixels delivered as tensors",
    "A2": "latents delivered as tensors",
    "A3": "one training step",
    "A4": "held for the backward pass",
    "A5": "bytes of the adapters",
    "A6": "a batch of jobs",
    "A7": "step cache",
    "A8": "queue with stealing",
    "A9": "shards",
    "A10": "cost against number of clips",
    "A11": "peak memory",
    "A12": "DDP against ZeRO",
    "A13": "operations by the analytic least",
}
# Data records name their peers no closer.
NAIVE = "a loader that reads as DiffSynth-Studio fed7b18 does"


@dataclass(frozen=True)
class Line:
    """One line of the table. verdict: WIN, LOSS, EQUAL, NO PEER or MISSING."""

    row: str
    what: str
    peer: str
    figures: str
    ratio: str
    verdict: str
    record: str


def gather(records: Path, measured: Iterable[Ratio]) -> list[Line]:
    """All lines, in the order of TITLES. records: the folder of JSON files."""
    lines = [_line_of(ratio, "peers.json") for ratio in measured]
    for name, looks in _LOOKS.items():
        found = _newest(records, name)
        for row, look in looks:
            lines += _looked_up(row, name, found, look)
    order = list(TITLES)
    without = [row for row in order if all(line.row != row for line in lines)]
    lines += [Line(row, TITLES[row], "", "", "", "MISSING", "not measured in this run") for row in without]
    return sorted(lines, key=lambda line: order.index(line.row))


def write_table(file: Path, lines: list[Line], head: list[str]) -> None:
    """Markdown, a section for each row of the plan."""
    text = ["# Ours beside its peers", "", *head]
    for row, title in TITLES.items():
        text += ["", f"## {row}: {title}" if row != title.split()[0] else f"## {title}", ""]
        text += ["| what | peer | ours / theirs | ratio (min, median) | | record |", "|---|---|---|---|---|---|"]
        text += [
            f"| {line.what} | {line.peer} | {line.figures} | {line.ratio} | {line.verdict} | {line.record} |"
            for line in lines
            if line.row == row
        ]
    file.write_text("\n".join(text) + "\n", encoding="utf-8")


def _line_of(ratio: Ratio, record: str) -> Line:
    (least, median), (ours, theirs) = ratio.ratios, (ratio.ours[1], ratio.theirs[1])
    figures = f"{ours:.4g} / {theirs:.4g} {ratio.unit}; {ratio.outputs}"
    shown = f"{least:.2f}, {median:.2f}" if least < 1e4 else f"{least:.0e}"
    if not any(ratio.ours):
        shown = "to none"
    return Line(ratio.row, ratio.what, ratio.peer, figures, shown, ratio.verdict, record)


def _newest(records: Path, name: str) -> tuple[str, dict[str, Any]] | None:
    for file in (records / f"{name}_full.json", records / f"{name}.json"):
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            return f"{file.name} ({content.get('commit')})", content
    return None


Look = Callable[[dict[str, Any]], list[Ratio | Line]]


def _looked_up(row: str, name: str, found: tuple[str, dict[str, Any]] | None, look: Look) -> list[Line]:
    if found is None:
        return [Line(row, TITLES[row], "", "", "", "MISSING", f"no {name}_full.json and no {name}.json")]
    record, content = found
    try:
        return [_line_of(one, record) if isinstance(one, Ratio) else one for one in look({**content, "file": record})]
    except (KeyError, IndexError, TypeError) as error:
        return [Line(row, TITLES[row], "", "", "", "MISSING", f"{record} has no {error}")]


def _pixels(record: dict[str, Any]) -> list[Ratio | Line]:
    speed = record["speed"]
    return [
        _of_speed("A1", speed, f"from a {what}", ours, theirs, f"PSNR {speed[f'{name}_psnr_db']} dB", peer)
        for what, name, ours, theirs, peer in (
            ("1080p60 film", "film", "film_by_ours", "film_naively", NAIVE),
            ("1080p60 film", "film", "film_by_ours", "film_in_one_pass", f"{NAIVE}, without counting frames"),
            ("ready 480x832 clip", "clip", "clip_by_ours", "clip_naively", NAIVE),
        )
    ]


def _latents_by_pixels(record: dict[str, Any]) -> list[Ratio | Line]:
    what, outputs = "latents, by pixels of a ready clip", "another kind of sample: not compared"
    return [_of_speed("A2", record["speed"], what, "latents_by_ours", "clip_naively", outputs, NAIVE)]


def _of_speed(row: str, speed: Any, what: str, ours: str, theirs: str, outputs: str, peer: str) -> Ratio:
    mine, other = ((speed["cpu_s"][way]["min"], speed["cpu_s"][way]["median"]) for way in (ours, theirs))
    return Ratio(row, what, peer, mine, other, "CPU s a clip", outputs)


def _writing(record: dict[str, Any]) -> list[Ratio | Line]:
    found: list[Ratio | Line] = []
    for place in ("memory", "disk"):
        times = record["writing"][place]["cpu_s"]
        mine, other = ((times[way]["min"], times[way]["median"]) for way in ("ours", "tar_writer"))
        what = f"writing a shard with checksums, {place}"
        peer = f"webdataset {record['versions']['webdataset']} TarWriter, and sha256"
        found.append(Ratio("A9", what, peer, mine, other, "CPU s", "read back by webdataset: equal"))
    return found


def _scale(record: dict[str, Any]) -> list[Ratio | Line]:
    points = record["scale"]
    said = "; ".join(
        f"{int(size):,} clips: open {point['open_s']:.3f} s, {point['peak_mb']:.0f} MB, "
        f"a sample {point['later_sample_ms']:.2f} ms"
        for size, point in points.items()
    )
    return [Line("A10", TITLES["A10"], "none measured", said, "", "NO PEER", record["file"])]


def _once(row: str, what: str, peer: str, ours: float, theirs: float, unit: str, outputs: str) -> Ratio:
    """Of figures of which a record has one each."""
    return Ratio(row, what, peer, (ours, ours), (theirs, theirs), unit, outputs)


def _step(record: dict[str, Any]) -> list[Ratio | Line]:
    full, attention = _numbers(_row(record, "checkpointing full / attention"), r"([\d.]+) / ([\d.]+) CPU s")
    both, alone, without = _numbers(
        _row(record, "VACE branch with a graph"), r"branches ([\d.]+), a graph alone ([\d.]+), without ([\d.]+)"
    )
    own, unit, equal = "ourselves (diffusers' and DiffSynth's way)", "CPU s a step", "gradients equal to the bit"
    return [
        _once("A3", "attention kept (ours), full", own, attention, full, unit, equal),
        _once("A3", "VACE without a graph (ours), with one", own, without, alone, unit, equal),
        _once("A3", "LoRA on the main blocks (ours), on both", own, without, both, unit, "another LoRA"),
    ]


def _held(record: dict[str, Any]) -> list[Ratio | Line]:
    said = _row(record, "activations a block holds for the backward pass")
    return [Line("A4", "held by one main block", "none", said, "", "NO PEER", record["file"])]


def _operations(record: dict[str, Any]) -> list[Ratio | Line]:
    said = _row(record, "operations of a step by the analytic least")
    return [
        _once("A13", name, "the analytic least", float(ours), float(least), "TFLOP a step", "counted")
        for name, ours, least in re.findall(r"(\S+ \S+) ([\d.]+) / ([\d.]+) TFLOP", said)
    ]


def _batch(record: dict[str, Any]) -> list[Ratio | Line]:
    version, loop = record["versions"]["diffusers"], record["loop"]
    kinds = (
        ("A6", "video_encodes", "encodes"),
        ("A6", "text_encodes", "texts"),
        ("A6", "cpu_s", "CPU s, one run"),
        ("A11", "peak_mib", "MiB at most, with the imports"),
    )
    pairs = (
        ("batch_base", "diffusers", "12 jobs, face_scale 0", f"diffusers {version} WanVACEPipeline in a loop"),
        ("batch_face", "calls", "12 jobs with the face", "our own pipeline, a call a job"),
    )
    return [
        _once(row, what, peer, loop[ours][field], loop[theirs][field], unit, "the same mp4s")
        for ours, theirs, what, peer in pairs
        for row, field, unit in kinds
    ]


def _cache(record: dict[str, Any]) -> list[Ratio | Line]:
    found, version = record["repeated_input"], record["versions"]["diffusers"]
    ours = found["StepCache"]
    kinds = (
        ("relative_error", "error of a skipped pass", "relative"),
        ("vace_calls", "VACE blocks computed on a skip", "blocks"),
    )
    return [
        _once("A7", what, f"diffusers {version} {name}", ours[field], found[name][field], unit, "the input repeated")
        for name in ("FirstBlockCache", "MagCache")
        for field, what, unit in kinds
    ]


def _workers(record: dict[str, Any]) -> list[Ratio | Line]:
    four, static = record["makespan"][2], record["makespan"][3]
    what, peer = "skewed jobs, 4 workers: makespan, denoising a timed wait", "static split, as split_between_processes"
    return [_once("A8", what, peer, four["seconds"], static["seconds"], "s, one run", "the same jobs")]


def _row(record: dict[str, Any], begins: str) -> str:
    for row in record["rows"]:
        if row["promise"].startswith(begins):
            return row["measured"]
    raise KeyError(begins)


def _numbers(text: str, pattern: str) -> list[float]:
    found = re.search(pattern, text)
    if found is None:
        raise KeyError(pattern)
    return [float(value) for value in found.groups()]


_LOOKS: dict[str, list[tuple[str, Look]]] = {
    "prove_data": [("A1", _pixels), ("A2", _latents_by_pixels), ("A9", _writing), ("A10", _scale)],
    "prove_training": [("A3", _step), ("A4", _held), ("A13", _operations)],
    "prove_sampling": [("A6", _batch), ("A7", _cache), ("A8", _workers)],
}
