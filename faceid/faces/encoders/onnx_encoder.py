"""Run any face recogniser that the user has as an .onnx file.

onnxruntime (the optional extra `onnx`) runs it. Input size and layout are read from the file. The user has to check the
licence of the file: many published recognisers may not be used commercially.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from faceid.errors import ModelError
from faceid.faces.encoders.centring import load_embedding_mean, unit_embeddings
from faceid.files.given_paths import why_no_file
from faceid.files.provenance import sha256_file, sha256_json
from faceid.media.onnx_session import only_input, open_session

# The input side of nearly every face recogniser when its file leaves the size open.
USUAL_SIDE_PX = 112
BATCH_FACES = 16


class OnnxEncoder:
    """A recogniser file, used as a `FaceEncoder`."""

    name = "onnx"

    def __init__(
        self,
        path: Path | str,
        device: str = "cpu",
        mean: float = 127.5,
        std: float = 127.5,
        colour: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        file = _find_model(path)
        self.session = open_session(file, device, "encoder_path", "encoder_device")
        self.input_name, self.layout, self.side, self.batch = _read_input(file, self.session)
        self.mean, self.std, self.colour = mean, std, colour
        probe = self._run(np.zeros((1, self.side, self.side, 3), np.uint8))
        if probe.ndim != 2:
            raise ModelError(f"{file}: output of shape {list(probe.shape)}; a face recogniser gives [N, D]")
        if not np.isfinite(probe).all():
            raise ModelError(f"{file}: gives numbers that are not finite (NaN or infinite); get the recogniser again")
        self.dim = int(probe.shape[1])
        self.embedding_mean = load_embedding_mean(file.parent, self.dim)
        centring = self.embedding_mean.tolist() if self.embedding_mean is not None else None
        self.fingerprint = sha256_json([sha256_file(file), mean, std, colour, self.side, self.layout, centring])

    def embed(self, faces: list[np.ndarray]) -> torch.Tensor:
        """Square face crops (RGB uint8 [S, S, 3]) to [N, D], float32, unit length."""
        rows = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(faces), self.batch):
            group = [_resize(face, self.side) for face in faces[start : start + self.batch]]
            rows.append(self._run(np.stack(group)))
        return unit_embeddings(torch.from_numpy(np.concatenate(rows)), self.embedding_mean)

    def _run(self, faces: np.ndarray) -> np.ndarray:
        """[N, S, S, 3] uint8 RGB to [N, D]."""
        ordered = faces[..., ::-1] if self.colour == "bgr" else faces
        pixels = (ordered.astype(np.float32) - self.mean) / self.std
        if self.layout == "nchw":
            pixels = pixels.transpose(0, 3, 1, 2)
        return self.session.run(None, {self.input_name: np.ascontiguousarray(pixels, np.float32)})[0]


def _find_model(path: Path | str) -> Path:
    given = Path(path)
    candidates = sorted(given.glob("*.onnx")) if given.is_dir() else [given]
    reason = why_no_file(candidates[0]) if len(candidates) == 1 else f"holds {len(candidates)} .onnx files"
    if reason is not None:
        raise ModelError(f"encoder_path={str(given)!r}: {reason}; name one .onnx file")
    return candidates[0]


def _read_input(file: Path, session: Any) -> tuple[str, Literal["nchw", "nhwc"], int, int]:
    """Name, layout, side in px and faces per run of the model's input."""
    wanted = "a face recogniser takes one float picture [N,3,H,W] or [N,H,W,3]"
    name, shape = only_input(file, session, "encoder_path", wanted)
    layout: Literal["nchw", "nhwc"] = "nchw" if shape[1] == 3 else "nhwc"
    height, width = (shape[2], shape[3]) if layout == "nchw" else (shape[1], shape[2])
    sides = {side for side in (height, width) if isinstance(side, int)} or {USUAL_SIDE_PX}
    if len(sides) != 1:
        raise ModelError(f"{file}: input of {height}x{width}; only square inputs are supported")
    return name, layout, sides.pop(), 1 if shape[0] == 1 else BATCH_FACES


def _resize(face: np.ndarray, side: int) -> np.ndarray:
    shrinks = face.shape[0] > side
    return cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
