"""Plan and make views of a clip that are encoded beside the whole clip.

There are nearer views around the head, and mirrored views. A dancer's head is a few latent cells of a whole figure, and
small heads are not learnt. A nearer view is one box for the whole clip, cut out of the shard's pixels. So clip shards
may be larger than the encoded size. A mirrored view has its skeleton drawn anew with left and right exchanged, because
the colours of a skeleton tell them apart. Mirrored as a picture, it would show the back of somebody who looks at the
camera.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceid.data.body.crop_boxes import fit_points
from faceid.data.body.keypoints import Keypoints, keypoints_of
from faceid.data.clips.pairs import LONGEST_KEY
from faceid.data.latents.view_settings import ViewName, ViewSettings, ending_of
from faceid.data.order import spread
from faceid.media.pixels.fit import Fit, fit_sizes, resize_frames
from faceid.media.pixels.skeleton import Style, draw_skeletons

# Height of a nearer view in heights of the head's box, and where the head's middle is in it, from the top.
HEADS_HIGH: dict[ViewName, tuple[float, float]] = {"upper_body": (4.5, 0.25), "head": (2.2, 0.5)}
# Room around all places of the head, in units of the head's size.
ROOM = 0.25
# A view that is hardly nearer than the whole shows nothing new. One enlarged beyond its pixels shows blur.
LEAST_NEARER, MOST_ENLARGED = 1.25, 1.5
# The drawing in a shard is a video. It differs from its own skeleton drawn anew by the codec's loss alone. Correlation
# in 12 toy clips of 64 px, the hardest: 0.947 and more with their own joints, 0.526 and less with another dance's
# joints.
LEAST_ALIKE, ALIKE_SIDE_PX = 0.75, 48
# COCO-17's joints with left and right exchanged.
MIRRORED = [0, *(joint for left in range(1, 17, 2) for joint in (left + 1, left))]

# The names under which impossible views are counted.
NO_HEAD, NO_NEARER, NO_JOINTS = "head not known", "hardly nearer, or blurred", "skeleton not drawn from known joints"


@dataclass(frozen=True)
class View:
    """One view of a clip. fit: from the shard's picture to the encoded picture."""

    name: ViewName
    is_flipped: bool
    fit: Fit

    @property
    def ending(self) -> str:
        """The ending that the view's key has after the clip's key."""
        return ending_of(self.name, self.is_flipped)


def view_key(key: str, ending: str) -> str:
    """The key of a view: the clip's key with the ending, shortened where it would be too long for a tar."""
    if len(key) + len(ending) <= LONGEST_KEY:
        return key + ending
    return f"{key[: LONGEST_KEY - len(ending) - 13]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}{ending}"


def plan_views(
    settings: ViewSettings, details: Mapping[str, Any], style: Style | None
) -> tuple[list[View], list[tuple[str, str]]]:
    """The views of a clip, and the impossible ones: (ending, why). details: of its shard.

    style: style of its skeleton; None where the skeleton was not drawn from the clip's joints.
    """
    shards_hw = (details["size_hw"][0], details["size_hw"][1])
    size_hw = settings.size_hw(shards_hw)
    views, missing = [], []
    for name in settings.views:
        fit = view_fit(name, details.get("head_boxes"), shards_hw, size_hw)
        if isinstance(fit, str):
            missing += [(ending_of(name, is_flipped), fit) for is_flipped in (False, True)[: 1 + settings.flips]]
            continue
        views.append(View(name, False, fit))
        if settings.flips and style is not None:
            views.append(View(name, True, fit))
        elif settings.flips:
            missing.append((ending_of(name, True), NO_JOINTS))
    return views, missing


def view_fit(
    name: ViewName,
    head_boxes: Sequence[Sequence[float] | None] | None,
    shards_hw: tuple[int, int],
    size_hw: tuple[int, int],
) -> Fit | str:
    """One box for the whole clip, or why there is none."""
    whole = fit_sizes(shards_hw, *size_hw, "crop")
    if name == "full":
        return whole
    boxes = np.array([box for box in head_boxes or [] if box is not None], float)
    if not len(boxes):
        return NO_HEAD
    head = float(np.median(boxes[:, 3] - boxes[:, 1]))
    low, high = boxes[:, :2].min(0) - ROOM * head, boxes[:, 2:].max(0) + ROOM * head
    heads_high, head_at = HEADS_HIGH[name]
    height, width = size_hw
    box_height = max(heads_high * head, high[1] - low[1], (high[0] - low[0]) * height / width, height / MOST_ENLARGED)
    if box_height * LEAST_NEARER > whole.source[3]:
        return NO_NEARER
    box_width = box_height * width / height
    centre_x, head_y = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    # Where the head moves up and down by more than the view leaves room for, the view holds all of its way.
    top = min(max(head_y - head_at * box_height, high[1] - box_height), low[1])
    left = round(min(max(centre_x - box_width / 2, 0), shards_hw[1] - box_width))
    top = round(min(max(top, 0), shards_hw[0] - box_height))
    return Fit((left, top, round(box_width), round(box_height)), (0, 0, width, height), size_hw)


def show(view: View, frames: np.ndarray) -> np.ndarray:
    """The view, cut from the shard's frames [T, H, W, 3]."""
    whole = (0, 0, frames.shape[2], frames.shape[1])
    if view.fit.source == view.fit.target == whole and not view.is_flipped:
        return frames
    fitted = np.stack([view.fit.frame(frame) for frame in frames])
    return np.ascontiguousarray(fitted[:, :, ::-1]) if view.is_flipped else fitted


def show_pose(view: View, pose: np.ndarray, keypoints: Keypoints | None, style: Style | None) -> np.ndarray:
    """The view of the skeleton. It is drawn anew where possible, so that its sticks are as thick as in other views."""
    if keypoints is None or style is None or (view.name == "full" and not view.is_flipped):
        return show(view, pose)
    moved = keypoints.moved(lambda points: fit_points(points, view.fit), view.fit.size_hw)
    if view.is_flipped:
        moved = mirrored(moved)
    return np.stack(list(draw_skeletons(moved.body, view.fit.size_hw, style, moved.hands)))


def show_boxes(view: View, boxes: Sequence[Sequence[float] | None] | None) -> list[list[float] | None] | None:
    """The view of the head boxes."""
    if boxes is None:
        return None
    moved = view.fit.boxes(boxes)
    width = view.fit.size_hw[1]
    if view.is_flipped:
        moved = [(width - box[2], box[1], width - box[0], box[3]) if box else None for box in moved]
    return [list(box) if box else None for box in moved]


def mirrored(keypoints: Keypoints) -> Keypoints:
    """Somebody seen in a mirror. Left and right are exchanged."""
    assert keypoints.size_hw is not None
    # Coordinates are those of pixels' edges, as for boxes. The skeleton's mirror image then falls on itself (checked).
    edge = keypoints.size_hw[1]

    def mirror(points: np.ndarray) -> np.ndarray:
        return np.stack([edge - points[..., 0], points[..., 1]], axis=-1)

    turned = keypoints.moved(mirror, keypoints.size_hw)
    hands = turned.hands[:, [*range(21, 42), *range(21)]] if turned.hands is not None else None
    return Keypoints(turned.body[:, MIRRORED], hands, turned.num_people, turned.fps, turned.size_hw)


def drawn_style(pose: np.ndarray, keypoints: Keypoints | None) -> Style | None:
    """The style in which this skeleton was drawn from these joints; None when it was not. pose: [T, H, W, 3]."""
    if keypoints is None:
        return None
    places = spread(len(pose), 3)
    seen = _small(pose[places])
    if seen.std() == 0:
        return None
    styles: tuple[Style, ...] = ("vace", "toy")
    alike: dict[Style, float] = {}
    for style in styles:
        hands = keypoints.hands[places] if keypoints.hands is not None else None
        drawn = _small(np.stack(list(draw_skeletons(keypoints.body[places], pose.shape[1:3], style, hands))))
        alike[style] = float(np.corrcoef(seen, drawn)[0, 1]) if drawn.any() else 0.0
    best = max(styles, key=lambda style: alike[style])
    return best if alike[best] >= LEAST_ALIKE else None


def _small(frames: np.ndarray) -> np.ndarray:
    """Frames so small that a stick twice as wide (a skeleton drawn at another size) is only brighter: flat, float."""
    scale = ALIKE_SIDE_PX / min(frames.shape[1:3])
    return resize_frames(frames, *(round(side * scale) for side in frames.shape[1:3])).astype(float).ravel()


def joints_in(details: Mapping[str, Any]) -> Keypoints | None:
    """The joints in a clip shard's details, in pixels of its clip."""
    return keypoints_of(details["joints"], details["key"]) if details.get("joints") else None
