"""Make the report's pictures.

First come poses of one person, with the leading arms side by side and their heads enlarged. Then, for a few people,
reference photos stand beside every arm's frames and heads. All arms show the same clip, seed and frames of a person,
where they rendered it. Nothing is picked by its score.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from faceid.data.order import spread
from faceid.evaluation.report.in_short import leading_arms, verdicts
from faceid.evaluation.report.results import Results
from faceid.evaluation.videos.comparisons import Videos
from faceid.evaluation.videos.controls import JOINTS_ENDING, joints_of_file
from faceid.evaluation.videos.heads import cut_head
from faceid.evaluation.videos.measure import find_heads
from faceid.evaluation.videos.scoring import ScoredVideo
from faceid.media.pixels.skeleton import draw_skeleton
from faceid.media.video import read_video

NUM_REFERENCES = 5
# Places of a video's shown frames, as shares of its length.
FRAME_PLACES = (0.25, 0.75)
# Longest side of an embedded picture, and the size up to which it is stored without loss.
LONGEST_PX, LOSSLESS_PX = 320, 160


@dataclass(frozen=True)
class ShownFrame:
    """One frame and the head in it, as data URIs. The head is empty where there is none."""

    picture: str
    head: str
    is_small: bool
    """Whether it has few pixels, and is enlarged without smoothing."""


@dataclass(frozen=True)
class Cell:
    """One arm's picture of a person. video: None for the drawn pose."""

    arm: str
    frames: list[ShownFrame]
    video: ScoredVideo | None
    is_other_clip: bool = False
    """The arm has not rendered the row's clip and seed. Another of its videos of this person is shown."""


@dataclass(frozen=True)
class ShownPerson:
    """A row of the report."""

    name: str
    references: list[str]
    clip: str
    cells: list[Cell | None]
    """The control first, where it is known, then a cell for each arm; None where an arm did not render the person."""


@dataclass(frozen=True)
class ShownPose:
    """One pose of the person whom the report begins with, by the leading arms. cells: the control first."""

    clip: str
    cells: list[Cell]


@dataclass(frozen=True)
class Comparison:
    """The person whom the report begins with: photos, poses side by side, and a sentence for each arm."""

    name: str
    references: list[str]
    poses: list[ShownPose]
    verdicts: list[str]


def show_comparison(results: Results) -> Comparison | None:
    """The target (else the first person of the judged arm) in a few poses, evenly chosen; None without such an arm."""
    roles = results.compared.roles
    if roles.judged is None or not results.report.num_shown:
        return None
    by_arm = results.videos[results.primary]
    people = sorted({video.identity for video in by_arm[roles.judged]}, key=lambda name: (name != roles.target, name))
    if not people:
        return None
    name, leading = people[0], leading_arms(results)
    held = _held_of(name, {arm: by_arm[arm] for arm in leading if arm != roles.real})
    places = sorted(held.get(roles.judged) or {(v.render.clip, v.render.seed) for v in by_arm[roles.judged]})
    chosen = [places[number] for number in spread(len(places), min(results.report.num_shown, len(places)))]
    return Comparison(
        name,
        _references_of(name, results),
        [_show_pose(place, held, results) for place in chosen],
        verdicts(results, name),
    )


def _show_pose(
    place: tuple[str, int], held: dict[str, dict[tuple[str, int], ScoredVideo]], results: Results
) -> ShownPose:
    of_arm = {arm: places[place] for arm, places in held.items() if place in places}
    cells = [_control(place[0], (held, place[1]), results)] if results.instruments.joints_dir else []
    cells += [Cell(arm, _frames(video, results), video) for arm, video in of_arm.items()]
    # One frame of each, so that a pose is one row.
    return ShownPose(place[0], [replace(cell, frames=cell.frames[:1]) for cell in cells])


def show_people(results: Results) -> list[ShownPerson]:
    """Rows for the first people: the target, then people whom the judged arm shows, then those of any arm."""
    roles = results.compared.roles
    by_arm = results.videos[results.primary]
    judged = {video.identity for video in by_arm[roles.judged]} if roles.judged else set()
    # The base's renders show nobody in particular, so the people that they are scored as mean nothing here.
    given = {video.identity for videos in by_arm.values() for video in videos if video.render.identity}
    ordered = sorted(judged | given, key=lambda name: (name != roles.target, name not in judged, name))
    return [_show(name, results) for name in ordered[: results.report.num_shown]]


def data_uri(picture: np.ndarray) -> str:
    """A picture for embedding: uint8 [H, W, 3], scaled down to 320 px; PNG when small, else JPEG."""
    image = Image.fromarray(picture)
    image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    is_lossless = max(image.size) <= LOSSLESS_PX
    buffer = io.BytesIO()
    if is_lossless:
        image.save(buffer, format="PNG")
    else:
        image.save(buffer, format="JPEG", quality=88)
    kind = "png" if is_lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _show(name: str, results: Results) -> ShownPerson:
    held = _held_of(name, results.videos[results.primary])
    # Take the clip and seed that most arms have rendered of this person; the first by name among equals.
    counts = Counter(place for places in held.values() for place in places)
    clip, seed = min(counts, key=lambda place: (-counts[place], place))
    cells: list[Cell | None] = [_control(clip, (held, seed), results)] if results.instruments.joints_dir else []
    for arm, places in held.items():
        if not places:
            cells.append(None)
            continue
        video = places.get((clip, seed)) or places[min(places)]
        cells.append(Cell(arm, _frames(video, results), video, (clip, seed) not in places))
    return ShownPerson(name, _references_of(name, results), clip, cells)


def _held_of(name: str, by_arm: Mapping[str, Videos]) -> dict[str, dict[tuple[str, int], ScoredVideo]]:
    """The videos of a person, by arm, then by clip and seed."""
    return {
        arm: {(v.render.clip, v.render.seed): v for v in videos if v.identity == name} for arm, videos in by_arm.items()
    }


def _references_of(name: str, results: Results) -> list[str]:
    person = next(person for person in results.gallery if person.name == name)
    return [data_uri(crop) for crop in person.crops[:NUM_REFERENCES]]


def _frames(video: ScoredVideo, results: Results) -> list[ShownFrame]:
    frames = read_video(video.render.path).frames
    heads = find_heads(frames, video.render, results.instruments)
    shown = []
    for index in _places(len(frames)):
        box = heads[index]
        head = data_uri(cut_head(frames[index], box, results.instruments.face_margin)) if box is not None else ""
        shown.append(ShownFrame(data_uri(frames[index]), head, max(frames.shape[1:3]) <= LOSSLESS_PX))
    return shown


def _control(
    clip: str, held_and_seed: tuple[dict[str, dict[tuple[str, int], ScoredVideo]], int], results: Results
) -> Cell:
    """The skeleton of the same frames, drawn from the control joints."""
    held, seed = held_and_seed
    video = next(places[clip, seed] for places in held.values() if (clip, seed) in places)
    frames = read_video(video.render.path).frames
    size_hw = (frames.shape[1], frames.shape[2])
    joints_dir = results.instruments.joints_dir
    assert joints_dir is not None
    joints = joints_of_file(joints_dir / f"{clip}{JOINTS_ENDING}", video.render.clip_frames(len(frames)), size_hw)
    pictures = [data_uri(draw_skeleton(joints[index], size_hw)) for index in _places(len(frames))]
    return Cell("pose", [ShownFrame(picture, "", max(size_hw) <= LOSSLESS_PX) for picture in pictures], None)


def _places(count: int) -> list[int]:
    return sorted({round(share * (count - 1)) for share in FRAME_PLACES})
