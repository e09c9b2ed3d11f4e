"""Say at a run's start what will decide the likeness: how often each photo is seen, and which paths carry the face."""

from __future__ import annotations

from collections.abc import Mapping

from faceid.data.stream.pairing_settings import Kind
from faceid.data.stream.stream_length import StreamLength


def samples_of_run(
    num_epochs: int, length: StreamLength, quotas: Mapping[Kind, int], num_clips: int, num_photos: int
) -> dict[Kind, int]:
    """Samples of each kind over a whole run. quotas: of an epoch of stage 2; none: it goes on as stage 1 does."""
    first = min(num_epochs, length.stage2_from_epoch) if quotas else num_epochs
    rest = num_epochs - first
    return {
        "photo": first * num_photos + rest * quotas.get("photo", 0),
        "clip": first * num_clips + rest * quotas.get("clip", 0),
        "null": rest * quotas.get("null", 0),
    }


def said_of_likeness(samples: Mapping[Kind, int], num_photos: int, paths: Mapping[str, bool], best_metric: str) -> str:
    """One line. num_photos: views of photos that are samples. paths: what may carry the face, and whether it does."""
    times = samples["photo"] / num_photos if num_photos else 0
    on, off = ([name for name, is_on in paths.items() if is_on == wanted] for wanted in (True, False))
    line = (
        f"likeness: decided by {samples['photo']} photo samples ({num_photos} views of photos, each seen {times:.0f} "
        f"times); {samples['clip']} clip samples teach what a face is, {samples['null']} keep the base; "
        f"the face is carried by {', '.join(on)}"
    )
    if off:
        line += f"; off: {', '.join(off)}"
    return f"{line}; {best_metric}"
