"""Draw sheets of frames to look at.

Rows show video, pose, head mask and decoded latents, or a bank's faces. Sheets show people. Keep them as private as the
data they were made of.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw
from safetensors.torch import load
from torch import Tensor

from faceid.data.order import spread
from faceid.data.shards.index import ShardIndex
from faceid.media.pixels.fit import resize_frames
from faceid.media.video import decode_video_bytes

ROW_HEIGHT_PX, LABEL_PX, LABEL_CHARACTERS, GAP_PX = 128, 140, 21, 8
HEAD_TINT = np.array([255, 64, 64])

# Function from raw latents [C, f, h, w] to frames, uint8 [T, H, W, 3].
Decode = Callable[[Tensor], np.ndarray]


def draw_sheet(index: ShardIndex, numbers: Sequence[int], num_columns: int, decode: Decode | None) -> np.ndarray:
    """Rows for each entry, uint8 RGB [H, W, 3]. decode: if None, latents show their head masks alone."""
    rows: list[np.ndarray] = []
    for number in numbers:
        key = index.samples[number].key
        for place, (name, frames) in enumerate(_frames_of(index, number, decode).items()):
            picks = frames[spread(len(frames), num_columns)]
            width = max(round(picks.shape[2] * ROW_HEIGHT_PX / picks.shape[1]), 1)
            rows.append(
                labelled_row(f"{key}\n{name}" if not place else name, resize_frames(picks, ROW_HEIGHT_PX, width))
            )
        rows.append(np.full((GAP_PX, rows[-1].shape[1], 3), 255, np.uint8))
    return stack_rows(rows)


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Stack rows of any width, with white beside the shorter ones."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )


def labelled_row(text: str, frames: np.ndarray) -> np.ndarray:
    """Frames [N, H, W, 3] side by side, after a label. The label's lines are wrapped, so that no name is cut off."""
    label = Image.new("RGB", (LABEL_PX, frames.shape[1]), "white")
    lines = [part[at : at + LABEL_CHARACTERS] for part in text.split("\n") for at in _starts(part)]
    ImageDraw.Draw(label).multiline_text((4, 4), "\n".join(lines), fill="black")
    return np.concatenate([np.asarray(label), *frames], axis=1)


def _starts(part: str) -> range:
    return range(0, max(len(part), 1), LABEL_CHARACTERS)


def _frames_of(index: ShardIndex, number: int, decode: Decode | None) -> dict[str, np.ndarray]:
    if index.kind == "clips":
        video, pose = (decode_video_bytes(index.read(number, f"{name}.mp4")).frames for name in ("video", "pose"))
        boxes = index.read_details(number).get("head_boxes")
        return {"video with head": _with_boxes(video, boxes), "pose": pose}
    if index.kind == "faces":
        strip = np.asarray(Image.open(io.BytesIO(index.read(number, "jpg"))).convert("RGB"))
        return {
            f"of {index.samples[number].dancer}": np.stack(np.split(strip, strip.shape[1] // strip.shape[0], axis=1))
        }
    tensors = load(index.read(number, "safetensors"))
    mask = tensors["head_mask"].numpy()
    shown = {"head mask": np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=-1)}
    if decode is not None:
        shown = {"video, decoded": decode(tensors["video"]), "pose, decoded": decode(tensors["pose"]), **shown}
    return shown


def _with_boxes(frames: np.ndarray, boxes: list[list[float] | None] | None) -> np.ndarray:
    shown = frames.copy()
    for frame, box in zip(shown, boxes or [], strict=False):
        if box is not None:
            x0, y0, x1, y1 = (round(edge) for edge in box)
            inside = frame[y0:y1, x0:x1]
            inside[:] = (inside * 0.7 + HEAD_TINT * 0.3).astype(np.uint8)
    return shown
