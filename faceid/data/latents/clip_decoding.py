"""Decode a shard's clips into the pixels to encode, view by view.

The next clip is decoded while one is encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceid.data.latents.clip_views import drawn_style, joints_in, plan_views, show, show_boxes, show_pose, view_key
from faceid.data.latents.view_settings import ViewSettings
from faceid.data.shards.index import Sample, ShardIndex
from faceid.media.video import decode_video_bytes


@dataclass(frozen=True)
class ShownView:
    """One view of a clip, as pixels. video, pose: uint8 [T, H, W, 3]."""

    key: str
    clip: Sample
    video: np.ndarray
    pose: np.ndarray
    details: dict[str, Any]


def clips_ahead(
    index: ShardIndex, samples: Sequence[Sample], views: ViewSettings, dropped: list[dict[str, Any]]
) -> Iterator[ShownView]:
    """Views of clips in turn. While one clip is encoded, the next is decoded."""
    with ThreadPoolExecutor(1) as pool:
        coming = None
        for sample in [*samples, None]:
            ready, coming = coming, pool.submit(_show_clip, index, sample, views) if sample is not None else None
            if ready is not None:
                shown, missing = ready.result()
                dropped += missing
                yield from shown


def _show_clip(
    index: ShardIndex, sample: Sample, settings: ViewSettings
) -> tuple[list[ShownView], list[dict[str, Any]]]:
    """All views of one clip, and the impossible ones with reasons."""
    video, pose = (decode_video_bytes(index.read(sample.key, f"{name}.mp4")).frames for name in ("video", "pose"))
    details = index.read_details(sample.key)
    keypoints = joints_in(details) if settings.are_drawn else None
    style = drawn_style(pose, keypoints)
    views, missing = plan_views(settings, details, style)
    # The joints serve only for a mask and what the index repeats. The latents need them no more.
    kept = {name: value for name, value in details.items() if name not in ("joints", "face_boxes", "frontal")}
    shown = []
    for view in views:
        key = view_key(sample.key, view.ending)
        more = {} if key == sample.key else {"clip": sample.key, "view": view.name, "is_flipped": view.is_flipped}
        boxes = show_boxes(view, details["head_boxes"])
        about = {**kept, **more, "key": key, "size_hw": list(view.fit.size_hw), "head_boxes": boxes}
        pixels = show(view, video), show_pose(view, pose, keypoints, style)
        shown.append(ShownView(key, sample, *pixels, about))
    return shown, [{"key": sample.key + ending, "reason": reason} for ending, reason in missing]
