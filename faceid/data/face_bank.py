"""The faces seen in the clips themselves: every clip's dancer, embedded by the same encoder as the target.

The embedding given in training must be of the person in the pixels, and dance clips show other people than the target.
Faces are cut from clip shards: by the head boxes a clip brings, or by the detector. A clip without a usable face is
trained with the null face.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
from safetensors.torch import load, save
from torch import Tensor

from faceid.data.index import ShardIndex
from faceid.errors import DataError
from faceid.faces.detect import FaceDetector, crop_face
from faceid.faces.encoders import FaceEncoder
from faceid.logs import progress
from faceid.media.video import decode_video_bytes
from faceid.provenance import sha256_file, staged_folder, write_json, write_provenance

log = logging.getLogger(__name__)

FACES_NAME = "faces.safetensors"
# Evenly spaced over the clip; more frames of one clip look alike and add nothing.
FRAMES_PER_CLIP = 8
# Below this an encoder sees a smear (facts: recognisers are unreliable under about 32 px, useless under 12).
SMALLEST_FACE_PX = 12


def write_face_bank(
    clips: Path, output_dir: Path, encoder: FaceEncoder, detector: FaceDetector, face_margin: float
) -> dict[str, Tensor]:
    """Embed faces of every clip: {clip key: [M, D]}; keys without a face are absent. Returns what it wrote."""
    index = ShardIndex.load(clips, "clips")
    found: dict[str, Tensor] = {}
    for number, sample in enumerate(progress(index.samples, "faces", unit="clip")):
        frames = decode_video_bytes(index.read(number, "video.mp4")).frames
        boxes = json.loads(index.read(number, "json")).get("head_boxes")
        crops = _crops(frames, boxes, detector, face_margin)
        if crops:
            found[sample.key] = encoder.embed(crops)
    log.info("faces found in %d of %d clips", len(found), len(index))
    with staged_folder(output_dir) as folder:
        (folder / FACES_NAME).write_bytes(save(found))
        made_from = _made_from(index, encoder, face_margin)
        write_json(folder / "index.json", {**made_from, "sha256": sha256_file(folder / FACES_NAME)})
        write_provenance(folder, made_from)
    return found


def face_bank_is_current(clips: Path, output_dir: Path, encoder: FaceEncoder, face_margin: float) -> bool:
    """Whether `output_dir` holds the faces of these clips by this encoder."""
    try:
        described = json.loads((output_dir / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    expected = _made_from(ShardIndex.load(clips, "clips"), encoder, face_margin)
    return {key: described.get(key) for key in expected} == expected


def read_face_bank(folder: Path, encoder_fingerprint: str) -> dict[str, Tensor]:
    """Faces by clip key, [M, D]. Raises: DataError when missing, damaged, or made by another encoder."""
    try:
        described = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        path, sha256 = folder / FACES_NAME, described["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: not a face bank ({error}); make it again") from error
    if described["encoder_fingerprint"] != encoder_fingerprint:
        raise DataError(
            f"{folder}: made by encoder {described['encoder_fingerprint'][:12]}, the identity by "
            f"{encoder_fingerprint[:12]}; use one encoder for both"
        )
    if not path.is_file() or sha256_file(path) != sha256:
        raise DataError(f"{path}: missing or damaged (its sha256 is not the index's); make it again")
    return load(path.read_bytes())


def _crops(
    frames: np.ndarray, boxes: list[list[float] | None] | None, detector: FaceDetector, face_margin: float
) -> list[np.ndarray]:
    crops = []
    for frame in np.unique(np.linspace(0, len(frames) - 1, FRAMES_PER_CLIP).round().astype(int)):
        if boxes is not None:
            box = boxes[frame]
        else:
            faces = detector.detect(frames[frame])
            box = list(faces[0].box_xyxy) if faces else None
        if box is not None and min(box[2] - box[0], box[3] - box[1]) >= SMALLEST_FACE_PX:
            x0, y0, x1, y1 = (round(edge) for edge in box)
            crops.append(crop_face(frames[frame], (x0, y0, x1, y1), face_margin))
    return crops


def _made_from(index: ShardIndex, encoder: FaceEncoder, face_margin: float) -> dict[str, str | float]:
    return {
        "kind": "faces",
        "clips_sha256": index.sha256,
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint,
        "face_margin": face_margin,
    }
