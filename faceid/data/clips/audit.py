"""Measure what a data set would teach, before anything is trained.

The audit tells how large heads are, and who dances what. Every pair is decoded once. Nothing is judged by names alone,
and only the report is written.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from faceid.data.body.keypoints import belong_together
from faceid.data.body.sidecars import read_heads
from faceid.data.clip_settings import ClipSettings
from faceid.data.clips.pairs import ClipPair
from faceid.errors import DataError
from faceid.logs import progress
from faceid.media.pixels.fit import fit_sizes
from faceid.media.pixels.motion import ENERGY_WIDTH_PX, LOWEST_CORRELATION, energy_correlation
from faceid.media.video import measure_video

# A face needs about ENOUGH_CELLS latent cells a side. Below FEW_CELLS there is hardly anything to learn from. AIST at
# 480p has 3 for the whole dancer in landscape, 5.4 in portrait, and 8 and more from head to hips.
ENOUGH_CELLS, FEW_CELLS = 5.0, 4.0
# The first is a share of clips, the second a share of frames.
MOST_BAD_SHARE, LEAST_VISIBLE_SHARE = 0.01, 0.5
# Mean |difference| in grey levels. Below it a clip stands still.
STANDS_STILL = 0.3
# Two clips of one picture differ in at most this many of 192 bits.
NEAR_BITS = 10
HASH_HW = (8, 9)


@dataclass(frozen=True)
class ClipAudit:
    """One pair. problem: why it cannot be used, as far as was seen. All other fields are empty then.

    head_px: median height of the head in the clip as trained, None without head boxes. visible: share of frames with a
    head. motion: mean change from frame to frame in grey levels. look: 192 bits of three frames.
    """

    key: str
    dancer: str
    genre: str | None
    camera: str | None
    problem: str | None = None
    frames: int = 0
    fps: float = 0.0
    size_hw: tuple[int, int] = (0, 0)
    head_px: float | None = None
    visible: float | None = None
    motion: float = 0.0
    correlation: float | None = None
    look: int = 0


@dataclass(frozen=True)
class Group:
    """Clips of one camera, dancer or genre: how many, and medians over them."""

    name: str
    clips: int
    dancers: int
    head_px: float | None
    head_cells: float | None
    visible: float | None


@dataclass(frozen=True)
class Audit:
    """The whole content of the report. warnings: in plain words, the worst first."""

    clips: list[ClipAudit]
    warnings: list[str]
    cameras: list[Group]
    sizes: list[Group]
    dancers_by_genre: dict[str, dict[str, int]]
    near_duplicates: list[tuple[str, str]]
    facts: dict[str, str]


def audit_pairs(pairs: Sequence[ClipPair], settings: ClipSettings, spatial_factor: int, left_out: int = 0) -> Audit:
    """Measure every pair. spatial_factor: pixels per latent cell. left_out: number of clips that were not examined."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        looked = pool.map(lambda pair: audit_clip(pair, settings), pairs)
        clips = list(progress(looked, "clips", len(pairs), "clip"))
    usable = [clip for clip in clips if clip.problem is None]
    near = near_duplicates(usable)
    table: dict[str, dict[str, int]] = defaultdict(dict)
    for clip in usable:
        genre = clip.genre or "unknown"
        table[clip.dancer][genre] = table[clip.dancer].get(genre, 0) + 1
    return Audit(
        clips=clips,
        warnings=_warnings(clips, usable, near, settings, spatial_factor),
        cameras=_groups(usable, lambda clip: clip.camera or "unknown", spatial_factor),
        sizes=_groups(usable, lambda clip: f"{clip.size_hw[1]}x{clip.size_hw[0]}", spatial_factor),
        dancers_by_genre=dict(sorted(table.items())),
        near_duplicates=near,
        facts=_facts(clips, usable, settings, left_out),
    )


def audit_clip(pair: ClipPair, settings: ClipSettings) -> ClipAudit:
    """Decode a pair and measure it. A file that cannot be used is recorded as a problem, not raised."""
    named = pair.key, pair.dancer, pair.genre, pair.camera
    try:
        looks: list[np.ndarray] = []
        video = measure_video(pair.video, ENERGY_WIDTH_PX, lambda small: looks.append(_coarse(small)))
        pose = measure_video(pair.pose, ENERGY_WIDTH_PX)
        if not belong_together(video.frames, pose.frames) and settings.uneven_pairs == "refuse":
            raise DataError(f"{video.frames} frames, its pose {pose.frames}")
        needed = video.timeline.indices(settings.fps, settings.num_frames)[-1] + 1
        if min(video.frames, pose.frames) < needed:
            raise DataError(f"{video.frames} frames at {float(video.fps):g} fps, a clip needs {needed}")
        heads, visible = _heads(pair, video.size_hw, settings)
    except DataError as error:
        return ClipAudit(*named, problem=str(error).replace(f"{pair.video}: ", ""))
    correlation = energy_correlation(video.energy, pose.energy)
    return ClipAudit(
        *named,
        frames=video.frames,
        fps=float(video.fps),
        size_hw=video.size_hw,
        head_px=float(np.median(heads)) if heads else None,
        visible=visible,
        motion=float(video.energy.mean()) if video.frames > 1 else 0.0,
        correlation=None if np.isnan(correlation) else float(correlation),
        look=look_of(np.stack(looks)),
    )


def look_of(thumbnails: np.ndarray) -> int:
    """192 bits of three frames, grey [T, h, w]: whether each of 64 places is brighter than its right neighbour."""
    bits = 0
    for at in (0.25, 0.5, 0.75):
        small = _coarse(thumbnails[int(at * (len(thumbnails) - 1))])
        for bit in (small[:, :-1] > small[:, 1:]).ravel():
            bits = bits << 1 | int(bit)
    return bits


def _coarse(frame: np.ndarray) -> np.ndarray:
    """Means of 8x9 equal parts of a grey picture [h, w]. No more is kept of a frame, however long the clip."""
    return np.stack([_means(row, HASH_HW[1]) for row in _means(frame.astype(float), HASH_HW[0])])


def near_duplicates(clips: Sequence[ClipAudit]) -> list[tuple[str, str]]:
    """Pairs of keys that look alike in three frames. Only pairs that share a third of their bits are compared."""
    third = 64
    places: dict[tuple[int, int], list[ClipAudit]] = defaultdict(list)
    for clip in clips:
        for part in range(3):
            places[part, clip.look >> (part * third) & ((1 << third) - 1)].append(clip)
    found = set()
    for alike in places.values():
        # Many clips of one blank frame are reported once each, beside the first.
        for other in alike[1:]:
            if (alike[0].look ^ other.look).bit_count() <= NEAR_BITS:
                found.add((alike[0].key, other.key))
    return sorted(found)


def _heads(pair: ClipPair, size_hw: tuple[int, int], settings: ClipSettings) -> tuple[list[float], float | None]:
    """Heights of the head in pixels of the clip as trained, and the share of frames that have one."""
    if pair.head_boxes is None:
        return [], None
    fit = fit_sizes(size_hw, settings.height, settings.width, settings.fit)
    moved = fit.boxes(read_heads(pair.head_boxes, size_hw))
    seen = [box[3] - box[1] for box in moved if box is not None]
    return seen, len(seen) / len(moved) if moved else 0.0


def _groups(clips: Sequence[ClipAudit], name_of: Callable[[ClipAudit], str], spatial_factor: int) -> list[Group]:
    members: dict[str, list[ClipAudit]] = defaultdict(list)
    for clip in clips:
        members[name_of(clip)].append(clip)
    groups = []
    for name, group in sorted(members.items()):
        head = _median(clip.head_px for clip in group)
        cells = head / spatial_factor if head is not None else None
        visible = _median(clip.visible for clip in group)
        groups.append(Group(name, len(group), len({clip.dancer for clip in group}), head, cells, visible))
    return groups


def _warnings(
    clips: Sequence[ClipAudit],
    usable: Sequence[ClipAudit],
    near: list[tuple[str, str]],
    settings: ClipSettings,
    spatial_factor: int,
) -> list[str]:
    said = []
    if not usable:
        return [f"none of {len(clips)} clips can be used; the first: {clips[0].key}: {clips[0].problem}"]
    head = _median(clip.head_px for clip in usable)
    if head is None:
        said.append(
            "no clip has head boxes: heads are looked for by the detector, and the loss cannot be taken at the face; "
            "make them with tools/split_clips.py or tools/render_poses.py --from_videos"
        )
    elif head / spatial_factor < FEW_CELLS:
        said.append(
            f"heads are {head:.0f} px, {head / spatial_factor:.1f} latent cells: identity will hardly be learned; cut "
            "clips closer (tools/split_clips.py --crop upper_body)"
        )
    elif head / spatial_factor < ENOUGH_CELLS:
        said.append(f"heads are {head:.0f} px, {head / spatial_factor:.1f} latent cells: little to learn a face from")
    bad = [clip for clip in clips if clip.problem is not None]
    if len(bad) > MOST_BAD_SHARE * len(clips):
        said.append(f"{len(bad)} of {len(clips)} clips cannot be used, such as {bad[0].key}: {bad[0].problem}")
    swapped = [clip for clip in usable if clip.correlation is not None and clip.correlation < LOWEST_CORRELATION]
    if swapped:
        said.append(
            f"{len(swapped)} clips move differently from their poses, such as {swapped[0].key} (correlation "
            f"{swapped[0].correlation:.2f}): are they the poses of other clips?"
        )
    hidden = [clip for clip in usable if clip.visible is not None and clip.visible < LEAST_VISIBLE_SHARE]
    if hidden:
        said.append(f"{len(hidden)} clips show a head in less than half of their frames, such as {hidden[0].key}")
    still = [clip for clip in usable if clip.motion < STANDS_STILL]
    if still:
        said.append(f"{len(still)} clips hardly move, such as {still[0].key}")
    if near:
        said.append(f"{len(near)} clips look like another one, such as {near[0][1]} like {near[0][0]}")
    said += _who(usable)
    small = [clip for clip in usable if clip.size_hw[0] < settings.height and clip.size_hw[1] < settings.width]
    if small:
        said.append(f"{len(small)} clips are smaller than {settings.width}x{settings.height} and would be enlarged")
    return said


def _who(usable: Sequence[ClipAudit]) -> list[str]:
    said = []
    clips_of = Counter(clip.dancer for clip in usable)
    genres_of: dict[str, set[str]] = defaultdict(set)
    for clip in usable:
        if clip.genre:
            genres_of[clip.dancer].add(clip.genre)
    lonely = [dancer for dancer, count in clips_of.items() if count == 1]
    if len(lonely) == len(clips_of):
        said.append(
            f"every clip is of another dancer ({len(clips_of)}): faces of the same clip are given, which teaches to "
            "copy; say who dances in dancers.csv"
        )
    elif lonely:
        said.append(f"{len(lonely)} dancers have one clip: their faces come from that very clip, such as {lonely[0]}")
    if len(genres_of) > 1 and all(len(genres) == 1 for genres in genres_of.values()):
        said.append(
            "every dancer has one genre: genre words in captions, and the way of moving itself, say who it is; keep "
            "captions neutral"
        )
    return said


def _facts(
    clips: Sequence[ClipAudit], usable: Sequence[ClipAudit], settings: ClipSettings, left_out: int
) -> dict[str, str]:
    head = [clip for clip in usable if clip.head_px is not None]
    several = Counter(clip.dancer for clip in usable)
    with_others = sum(several[clip.dancer] > 1 for clip in usable)
    return {
        "clips looked at": str(len(clips)),
        "left out by name or list": str(left_out),
        "can be used": str(len(usable)),
        "trained as": f"{settings.num_frames} frames of {settings.width}x{settings.height} at {settings.fps:g} fps",
        "dancers": str(len(several)),
        "clips with head boxes": str(len(head)),
        "clips whose dancer has others": str(with_others),
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _means(values: np.ndarray, count: int) -> np.ndarray:
    """`count` means over equal parts of the first axis."""
    return np.stack([part.mean(0) for part in np.array_split(values, count)])
