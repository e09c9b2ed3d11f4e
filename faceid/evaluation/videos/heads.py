"""Find the head in every frame of a render: known from the keypoints, or found by the detector.

A known head is brought to the renders' size as the joints are. A head that is partly outside the picture is cut at the
edge. A frame whose head is wholly outside counts as a frame without a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from faceid.errors import DataError
from faceid.evaluation.figures.temporal import Box
from faceid.evaluation.videos.controls import points_in_render, read_size_hw
from faceid.faces.photos.detect import FaceDetector, crop_face
from faceid.faces.photos.photo_faces import DOUBTFUL_SCORE
from faceid.files.documents import parse_json, read_bytes

HEADS_ENDING = ".heads.json"
# How a known head is shown to the detector: with as much around it as in a portrait, and enlarged. Haar finds no face
# under 24 px. It then finds every head in drawn clips of 64 px and in 50 news portraits, and none when blanked.
LOOK_MARGIN, LOOK_SIDE_PX = 0.5, 128


def known_heads(heads_dir: Path, clip: str, clip_frames: Sequence[int], size_hw: tuple[int, int]) -> list[Box | None]:
    """Head boxes of a clip inside a render of this size, (x0, y0, x1, y1) px.

    clip_frames: the clip's frame that each frame of the render follows. A file that does not say which picture its
    boxes are in (`size_hw`) is taken to mean the render.
    Raises: DataError when the file is missing, has another form, is shorter than the video, or cannot mean the render.
    """
    path = heads_dir / f"{clip}{HEADS_ENDING}"
    try:
        content = parse_json(read_bytes(path))
        listed = [None if box is None else [float(value) for value in box] for box in content["boxes"]]
        source_hw = content.get("size_hw")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path}: cannot be read as {{"boxes": [[x0, y0, x1, y1] or null, ...], "size_hw": [h, w]}}: {error}'
        ) from error
    if len(listed) <= max(clip_frames):
        raise DataError(
            f"{path}: {len(listed)} boxes, the render has {len(clip_frames)} frames and follows the clip to its frame "
            f"{max(clip_frames)}; one box a frame of the clip is needed"
        )
    if any(box is not None and (len(box) != 4 or not np.isfinite(box).all()) for box in listed):
        raise DataError(f"{path}: a box has not four finite numbers; write [x0, y0, x1, y1] or null")
    if source_hw is None:
        _refuse_another_picture(path, listed, size_hw)
        source_hw = size_hw
    else:
        source_hw = read_size_hw(path, source_hw)
    return [
        None if box is None else _inside(points_in_render(np.reshape(box, (2, 2)), source_hw, size_hw).ravel(), size_hw)
        for box in (listed[place] for place in clip_frames)
    ]


def found_heads(frames: np.ndarray, detector: FaceDetector) -> list[Box | None]:
    """The largest sure face of every frame (a doubtful one where none is sure). frames: uint8 [T, H, W, 3]."""
    boxes: list[Box | None] = []
    for frame in frames:
        faces = detector.detect(frame)
        sure = [face for face in faces if face.score >= DOUBTFUL_SCORE] or faces
        boxes.append(_inside(sure[0].box_xyxy, (frame.shape[0], frame.shape[1])) if sure else None)
    return boxes


def shows_face(frame: np.ndarray, box: Box, detector: FaceDetector) -> bool:
    """Whether the detector finds a face, sure or doubtful, that lies in a known head or overlaps it."""
    side, margin = LOOK_SIDE_PX, LOOK_MARGIN
    looked_at = Image.fromarray(cut_head(frame, box, margin)).resize((side, side), Image.Resampling.BICUBIC)
    # The square that the head's longer side spans in the enlarged picture.
    low, high = side * margin / (1 + 2 * margin), side * (1 + margin) / (1 + 2 * margin)
    found = (face.box_xyxy for face in detector.detect(np.asarray(looked_at)))
    return any(max(x0, y0) < high and min(x1, y1) > low for x0, y0, x1, y1 in found)


def cut_head(frame: np.ndarray, box: Box, face_margin: float) -> np.ndarray:
    """Cut a square around a head, as for photos: uint8 [S, S, 3]. Outside the picture, the edge is repeated."""
    left, top = round(box[0]), round(box[1])
    # A head smaller than a pixel still gets one pixel.
    right, bottom = max(round(box[2]), left + 1), max(round(box[3]), top + 1)
    return crop_face(frame, (left, top, right, bottom), face_margin)


def _refuse_another_picture(path: Path, boxes: list[list[float] | None], size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    for index, box in enumerate(boxes):
        if box is not None and (box[2] > width or box[3] > height):
            raise DataError(
                f"{path}: box {box} of frame {index} is not inside the render, {width}x{height}, and no size_hw says "
                'which picture it is in; write "size_hw": [h, w], the clip\'s height and width in px'
            )


def _inside(box: Sequence[float] | np.ndarray, size_hw: tuple[int, int]) -> Box | None:
    height, width = size_hw
    x0, y0 = max(float(box[0]), 0.0), max(float(box[1]), 0.0)
    x1, y1 = min(float(box[2]), float(width)), min(float(box[3]), float(height))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
