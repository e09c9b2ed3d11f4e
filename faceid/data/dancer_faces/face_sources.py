"""List the sources of a dancer's faces.

They are original films and clips, or clip shards where only those are at hand. A clip made for training has lost most
of a face's pixels. So the original is used wherever it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from faceid.data.aist import camera_of, parse_aist_name
from faceid.data.body.head_boxes import face_boxes, frontalness
from faceid.data.body.keypoints import Keypoints, belong_together, read_film_keypoints
from faceid.data.body.sidecars import joints_path, read_heads, refuse_of_another_clip
from faceid.data.clips.pairs import ClipPair, key_of
from faceid.data.dancer_faces.face_crops import FilmOverview
from faceid.data.films.film_plan import Film
from faceid.data.shards.index import Sample, ShardIndex
from faceid.errors import DataError
from faceid.files.provenance import sizes_and_times
from faceid.media.video import decode_video_bytes, measure_video, stream_frames


@dataclass(frozen=True)
class FilmSource:
    """A video file. keypoints, heads: files that say where its dancer is; keypoints win where both are there."""

    key: str
    labels: dict[str, Any]
    path: Path
    keypoints: Path | None = None
    heads: Path | None = None

    def seen(self) -> Any:
        files = [file for file in (self.path, self.keypoints, self.heads) if file is not None]
        return [self.key, self.labels, sizes_and_times(files)]

    def look(self) -> FilmOverview:
        measured = measure_video(self.path)
        if self.keypoints is not None:
            refuse_of_another_clip(self.keypoints, self.path)
            return looked_of(read_film_keypoints(self.keypoints, camera_of(self.path.stem), measured))
        if self.heads is not None:
            refuse_of_another_clip(self.heads, self.path)
            boxes = read_heads(self.heads, measured.size_hw)
            if not belong_together(len(boxes), measured.frames):
                raise DataError(f"{self.heads.name}: {len(boxes)} boxes, the film has {measured.frames} frames")
            nothing = [None] * max(measured.frames - len(boxes), 0)
            return FilmOverview(measured.frames, [*boxes[: measured.frames], *nothing])
        return FilmOverview(measured.frames)

    def frames(self, indices: Sequence[int]) -> Iterable[np.ndarray]:
        return stream_frames(self.path, indices) if indices else ()


@dataclass(frozen=True)
class ShardSource:
    """A clip in a folder of clip shards."""

    index: ShardIndex
    sample: Sample

    @property
    def key(self) -> str:
        return self.sample.key

    @property
    def labels(self) -> dict[str, Any]:
        return {name: getattr(self.sample, name) for name in ("dancer", "genre", "camera")}

    def seen(self) -> Any:
        return [self.key, self.labels, self.index.shards[self.sample.shard].sha256]

    def look(self) -> FilmOverview:
        details = self.index.read_details(self.key)
        if "face_boxes" in details:
            return FilmOverview(len(self._video), details["face_boxes"], np.array(details["frontal"]))
        return FilmOverview(len(self._video), details.get("head_boxes"))

    def frames(self, indices: Sequence[int]) -> Iterable[np.ndarray]:
        return (self._video[index] for index in indices)

    @cached_property
    def _video(self) -> np.ndarray:
        return decode_video_bytes(self.index.read(self.key, "video.mp4")).frames


def looked_of(keypoints: Keypoints) -> FilmOverview:
    """Find faces by the joints. keypoints: one entry per frame, in pixels of the film."""
    # With several people in the picture, the followed one may not be the dancer after whom the film is named.
    alone = keypoints.num_people <= 1
    boxes = [box if is_alone else None for box, is_alone in zip(face_boxes(keypoints.body), alone, strict=True)]
    return FilmOverview(len(keypoints), boxes, frontalness(keypoints.body))


def of_films(films: Sequence[Film]) -> list[FilmSource]:
    """Sources for films, with the keys that their clips would have."""
    return [
        FilmSource(key_of(film.stem), _labels(film.dancer, film.genre, film.stem), film.path, film.keypoints)
        for film in films
    ]


def of_pairs(pairs: Sequence[ClipPair]) -> list[FilmSource]:
    """Sources for clips, with the files beside them."""
    return [
        FilmSource(
            pair.key,
            {"dancer": pair.dancer, "genre": pair.genre, "camera": pair.camera},
            pair.video,
            joints if (joints := joints_path(pair.video)).is_file() else None,
            pair.head_boxes,
        )
        for pair in pairs
    ]


def of_shards(index: ShardIndex) -> list[ShardSource]:
    """Sources for clips in shards."""
    return [ShardSource(index, sample) for sample in index.samples]


def _labels(dancer: str, genre: str | None, stem: str) -> dict[str, Any]:
    name = parse_aist_name(stem)
    return {"dancer": dancer, "genre": genre, "camera": name.camera if name else None}
