"""Read keypoints of dancers in films from the usual files: AIST++ pickles, COCO and COCO-WholeBody JSON.

The body (COCO-17) is read, and the hands where a file has them. Face landmarks are never read, because a skeleton drawn
with them carries the driver's identity. Of several people in a picture one is followed, beginning with the largest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from faceid.data.aist import parse_aist_name
from faceid.data.body.array_pickle import read_array_pickle
from faceid.errors import DataError
from faceid.files.documents import parse_json, read_bytes
from faceid.media.timeline import half_up
from faceid.media.video import Measured

log = logging.getLogger(__name__)

# Annotations of AIST++ are in pixels of the films, at exactly this rate.
AIST_FPS, AIST_SIZE_HW = 60, (1080, 1920)
# As in VACE's annotator: less certain joints are not drawn.
LEAST_CONFIDENCE = 0.3
# Tools drop a frame at an end now and then. Beyond this share, and beyond one frame, the frames are different ones.
COUNT_TOLERANCE = 0.02
ASPECT_TOLERANCE = 0.02
NUM_BODY, NUM_WHOLE_BODY = 17, 133
# COCO-WholeBody: 17 joints of the body, 6 of the feet, 68 of the face, 21 of each hand.
HANDS = slice(91, 133)
# The JSON file of a ten-minute film is far smaller than this.
LARGEST_JSON_BYTES = 1 << 30
# An hour at 50 frames a second. A frame's number alone makes room for all frames before it.
MOST_FRAMES = 180_000
LARGEST_SIDE_PX = 1 << 16


@dataclass(frozen=True)
class Keypoints:
    """One person's joints, frame by frame, in pixels of the film; nan where a joint is unknown.

    body: COCO-17, float32 [T, 17, 2]. hands: [T, 42, 2], left and then right, or None. num_people: people in the
    picture, [T]. fps: rate of the frames; None when they are the film's own. size_hw: size of the film; None when the
    file does not say it.
    """

    body: np.ndarray
    hands: np.ndarray | None
    num_people: np.ndarray
    fps: int | None = None
    size_hw: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.body)

    def at(self, places: np.ndarray) -> Keypoints:
        """The frames at these places. Frames past the end are unknown."""
        inside = places < len(self)
        taken = np.minimum(places, len(self) - 1)

        def pick(values: np.ndarray) -> np.ndarray:
            picked = values[taken].copy()
            picked[~inside] = np.nan if picked.dtype.kind == "f" else 0
            return picked

        hands = pick(self.hands) if self.hands is not None else None
        return Keypoints(pick(self.body), hands, pick(self.num_people), None, self.size_hw)

    def moved(self, move: Callable[[np.ndarray], np.ndarray], size_hw: tuple[int, int]) -> Keypoints:
        """The same keypoints, every joint moved by `move` ([..., 2] to the same), in pixels of another picture."""
        hands = move(self.hands) if self.hands is not None else None
        return Keypoints(move(self.body), hands, self.num_people, self.fps, size_hw)

    def in_pixels_of(self, size_hw: tuple[int, int]) -> Keypoints:
        """The same keypoints in pixels of the real film. Films annotated at 1080p are also published smaller.

        Raises: DataError when the film has another shape.
        """
        if self.size_hw is None or self.size_hw == size_hw:
            return self
        (height, width), (film_height, film_width) = self.size_hw, size_hw
        if abs(film_height / height - film_width / width) > ASPECT_TOLERANCE * film_width / width:
            raise DataError(f"keypoints in pixels of {width}x{height}, the film is {film_width}x{film_height}")
        scale = np.array([film_width / width, film_height / height], np.float32)
        return self.moved(lambda points: points * scale, size_hw)

    def of_film(self, num_frames: int, fps: Fraction) -> Keypoints:
        """The same keypoints, one entry for each frame of the film. Raises: DataError when their frames do not match.

        AIST++ annotated films that had been converted to exactly 60 fps. Film frame k is then the keypoint nearest to
        k * 60 / fps. The counts tell whether this holds, or whether keypoints go frame by frame.
        """
        if self.fps is None and not belong_together(len(self), num_frames):
            raise DataError(
                f"keypoints of {len(self)} frames, the film has {num_frames}; they are one per frame: make them from it"
            )
        ratio = Fraction(self.fps) / fps if self.fps else Fraction(1)
        if abs(len(self) - num_frames) <= abs(len(self) - num_frames * ratio):
            ratio = Fraction(1)
        return self.at(np.array([half_up(k * ratio) for k in range(num_frames)]))


def belong_together(count: int, other: int) -> bool:
    """Whether two counts may belong to the same frames: within 2 %, and one frame more or less always."""
    return abs(count - other) <= max(COUNT_TOLERANCE * max(count, other), 1)


def find_keypoints(folder: Path, stem: str) -> Path | None:
    """The file with a film's keypoints: an AIST++ sequence's `.pkl`, else `<stem>.json`, `.joints.json` or `.pkl`."""
    name = parse_aist_name(stem)
    names = [f"{name.sequence}.pkl"] if name else []
    names += [f"{stem}.json", f"{stem}.joints.json", f"{stem}.pkl"]
    return next((folder / file for file in names if (folder / file).is_file()), None)


def read_keypoints(path: Path, camera: int | None = None) -> Keypoints:
    """Read one film's keypoints. camera: place in a pickle of several cameras, 0 for c01.

    Raises: DataError when the file is of no known kind, or is damaged.
    """
    if path.suffix == ".pkl":
        return _read_aist(path, camera)
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise DataError(f"{path}: over {LARGEST_JSON_BYTES} bytes; no film's keypoints are that large")
        # Tools write NaN for joints that they did not find.
        content = parse_json(read_bytes(path, LARGEST_JSON_BYTES), None, largest_bytes=LARGEST_JSON_BYTES, nan=True)
        return _read_json(content, path)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: not COCO keypoints ({type(error).__name__}: {error})") from error


def read_film_keypoints(path: Path, camera: int | None, film: Measured) -> Keypoints:
    """One film's keypoints, an entry for each of its frames, in its pixels. camera: as in `read_keypoints`.

    Raises: DataError naming the file, as `read_keypoints`, or when the keypoints belong to another film.
    """
    keypoints = read_keypoints(path, camera)
    try:
        return keypoints.of_film(film.frames, film.fps).in_pixels_of(film.size_hw)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error


def _read_aist(path: Path, camera: int | None) -> Keypoints:
    content = read_array_pickle(path)
    points = content.get("keypoints2d") if isinstance(content, dict) else None
    if isinstance(points, list):
        are_alike = all(isinstance(p, np.ndarray) for p in points) and len({(p.shape, p.dtype) for p in points}) == 1
        points = np.stack(points) if are_alike else None
    shape = getattr(points, "shape", None)
    if not isinstance(points, np.ndarray) or points.ndim != 4 or points.shape[2] not in (NUM_BODY, NUM_WHOLE_BODY):
        raise DataError(f"{path}: keypoints2d {shape}; AIST++'s are [cameras, frames, 17, 3]: x, y, confidence")
    if points.shape[3] != 3 or points.dtype.kind not in "fiu":
        raise DataError(f"{path}: keypoints2d {shape} {points.dtype}; AIST++'s hold x, y and confidence as numbers")
    if not 0 < points.shape[1] <= MOST_FRAMES:
        raise DataError(f"{path}: keypoints2d {shape}; a film has 1 to {MOST_FRAMES} frames")
    if camera is None:
        raise DataError(f"{path}: holds {len(points)} cameras; the film's name must say which (c01 to c09)")
    if camera >= len(points):
        raise DataError(f"{path}: holds {len(points)} cameras, not c{camera + 1:02d}")
    known = _known(points[camera].astype(np.float32))
    return Keypoints(*_parts(known), num_people=_is_somebody(known).astype(int), fps=AIST_FPS, size_hw=AIST_SIZE_HW)


def _read_json(content: Any, path: Path) -> Keypoints:
    """Read one of four layouts: ours, MMPose's, COCO's annotations, COCO's results."""
    if isinstance(content, dict) and "joints" in content:
        return keypoints_of(content, str(path))
    if isinstance(content, dict) and "instance_info" in content:
        frames = [entry["instances"] for entry in sorted(content["instance_info"], key=lambda e: e["frame_id"])]
        first = min((_frame_number(entry["frame_id"]) for entry in content["instance_info"]), default=1)
        return _followed([[]] * max(first - 1, 0) + frames, path)
    if isinstance(content, dict) and "annotations" in content:
        images = sorted(content["images"], key=lambda image: (image.get("frame_id", 0), image["file_name"]))
        places = {image["id"]: place for place, image in enumerate(images)}
        sizes = {_size_of([image["height"], image["width"]]) for image in images if "height" in image}
        size_hw = sizes.pop() if len(sizes) == 1 else None
        return _followed(_by_frame(content["annotations"], places), path, size_hw)
    if isinstance(content, list):
        numbers = {entry["image_id"]: _frame_number(entry["image_id"]) for entry in content}
        first = 0 if 0 in numbers.values() else 1
        return _followed(_by_frame(content, {name: number - first for name, number in numbers.items()}), path)
    raise DataError(f"{path}: none of COCO's annotations or results, MMPose's instance_info, or joints")


def keypoints_of(content: Mapping[str, Any], where: str) -> Keypoints:
    """Keypoints from the content that `sidecars.joints_content` made of them. Raises: DataError naming `where`."""
    try:
        body, hands = (_from_ours(content.get(name)) for name in ("joints", "hands"))
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: joints are [frames][17][x, y] or null: {error}") from error
    if body is None or body.shape[1:] != (NUM_BODY, 2) or (hands is not None and hands.shape[1:] != (42, 2)):
        raise DataError(f"{where}: joints are [frames][17][x, y] or null, hands [frames][42]")
    size = content.get("size_hw")
    try:
        size_hw = _size_of(size) if size else None
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(f"{where}: size_hw {size!r} is not [height, width] in pixels ({error})") from error
    return Keypoints(body, hands, np.isfinite(body).all(-1).any(-1).astype(int), None, size_hw)


def _frame_number(image_id: Any) -> int:
    number = image_id if isinstance(image_id, int) else int(Path(image_id).stem)
    if not 0 <= number <= MOST_FRAMES:
        raise ValueError(f"frame {number}; a film has up to {MOST_FRAMES}")
    return number


def _size_of(size: Any) -> tuple[int, int]:
    height, width = (int(side) for side in size)
    if not (0 < height <= LARGEST_SIDE_PX and 0 < width <= LARGEST_SIDE_PX):
        raise ValueError(f"a picture of {width}x{height} pixels")
    return height, width


def _by_frame(entries: list[dict[str, Any]], places: Mapping[Any, int]) -> list[list[dict[str, Any]]]:
    frames: list[list[dict[str, Any]]] = [[] for _ in range(max(places.values(), default=-1) + 1)]
    for entry in entries:
        if entry.get("category_id", 1) == 1:
            frames[places[entry["image_id"]]].append(entry)
    return frames


def _from_ours(rows: list[Any] | None) -> np.ndarray | None:
    if rows is None:
        return None
    unknown = [np.nan, np.nan]
    return np.array([[xy if xy is not None else unknown for xy in row] for row in rows], np.float32)


def _followed(frames: list[list[dict[str, Any]]], path: Path, size_hw: tuple[int, int] | None = None) -> Keypoints:
    """One person over all frames: at first the largest, then always the one nearest to the last position."""
    people = [[_points_of(entry) for entry in frame] for frame in frames]
    counts = {len(points) for frame in people for points in frame}
    if not counts:
        raise DataError(f"{path}: nobody in it")
    if len(counts) > 1:
        raise DataError(f"{path}: some people have {min(counts)} joints and others {max(counts)}")
    followed = np.full((len(people), counts.pop(), 3), np.nan, np.float32)
    before: np.ndarray | None = None
    for place, frame in enumerate(people):
        found = [points for points in frame if _is_somebody(points[None])[0]]
        if found:
            before = min(found, key=lambda points: _farness(points, before))
            followed[place] = before
    num_people = np.array([sum(bool(_is_somebody(points[None])[0]) for points in frame) for frame in people])
    return Keypoints(*_parts(followed), num_people=num_people, size_hw=size_hw)


def _farness(points: np.ndarray, before: np.ndarray | None) -> float:
    if before is not None:
        distance = np.linalg.norm(points[:NUM_BODY, :2] - before[:NUM_BODY, :2], axis=1)
        if np.isfinite(distance).any():
            return float(np.nanmean(distance))
    return -float(np.prod(np.nanmax(points[:NUM_BODY, :2], 0) - np.nanmin(points[:NUM_BODY, :2], 0)))


def _points_of(entry: dict[str, Any]) -> np.ndarray:
    """x, y, confidence [17 or 133, 3] of one person, nan where unknown."""
    points = np.array(entry["keypoints"], np.float32)
    if points.ndim == 2 and points.shape[1] == 2:
        points = np.concatenate([points, np.array(entry["keypoint_scores"], np.float32)[:, None]], axis=1)
    points = points.reshape(-1, 3)
    if len(points) == NUM_BODY and "lefthand_kpts" in entry:
        # COCO-WholeBody's own files hold the parts apart. Face and feet are not read.
        whole = np.full((NUM_WHOLE_BODY, 3), np.nan, np.float32)
        whole[:NUM_BODY] = points
        hands = [*entry["lefthand_kpts"], *entry["righthand_kpts"]]
        whole[HANDS] = np.array(hands, np.float32).reshape(-1, 3)
        points = whole
    if len(points) not in (NUM_BODY, NUM_WHOLE_BODY):
        raise ValueError(f"{len(points)} joints; COCO has 17, COCO-WholeBody 133")
    return _known(points)


def _known(points: np.ndarray) -> np.ndarray:
    """x, y, confidence [..., 3] with nan for all three where a joint is not known."""
    unknown = ~np.isfinite(points).all(-1) | ~(points[..., 2] >= LEAST_CONFIDENCE)
    return np.where(unknown[..., None], np.float32(np.nan), points)


def _is_somebody(points: np.ndarray) -> np.ndarray:
    """Whether any joint of the body is known. [T, J, 3] to [T]."""
    return np.isfinite(points[:, :NUM_BODY]).all(-1).any(-1)


def _parts(points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Body and hands of [T, J, 3]."""
    hands = points[:, HANDS, :2] if points.shape[1] == NUM_WHOLE_BODY else None
    return points[:, :NUM_BODY, :2], hands
