"""Read the index of a folder of tar shards.

The index is trusted instead of the tar's own headers. A tar has no payload checksum, and a damaged one can read as a
shorter one. So `index.json` holds every shard's sha256 and size, and every member's place. Members are read by offset,
from shards that were verified first. Clip shards and latent shards share this format. `faceid.data.shards.shard_writer`
writes it.
"""

from __future__ import annotations

import gc
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from faceid.errors import DataError
from faceid.files.documents import fitted, parse_json, read_bytes
from faceid.files.provenance import sha256_file, sha256_json

INDEX_NAME = "index.json"
INDEX_VERSION = 1
MEMBERS = ("jpg", "json", "pose.mp4", "safetensors", "video.mp4")
# A latent of 81 frames at 720p has 45 MB. Nothing honest comes near this limit, and a read allocates the stated size.
LARGEST_MEMBER_BYTES = 1 << 30
# The index of 100,000 clips has 28 MB.
LARGEST_INDEX_BYTES = 1 << 30
KINDS = ("clips", "faces", "latents")

# The names under which damaged entries are counted.
MISSING, UNREADABLE = "shard_missing", "unreadable"
WRONG_SIZE, WRONG_SHA256, NOT_FINITE = "shard_of_another_size", "shard_of_another_sha256", "not_finite"
DAMAGES = (MISSING, UNREADABLE, WRONG_SIZE, WRONG_SHA256, NOT_FINITE)

_SHARD_NAME = re.compile(r"(clips|faces|latents)-\d{6}\.tar")
_KEY = re.compile(r"[a-z0-9_-]{1,80}")
_Side = Annotated[int, Field(gt=0, le=1 << 16)]


@dataclass(frozen=True)
class Shard:
    """One tar. path: file name within the folder. count: samples in it."""

    path: str
    size: int
    sha256: str
    count: int


@dataclass(frozen=True)
class Cut:
    """How the clips of a folder were cut, as its index states it: frames, pixels, frames a second."""

    num_frames: Annotated[int, Field(gt=0, le=1 << 20)]
    height: Annotated[int, Field(gt=0, le=1 << 16)]
    width: Annotated[int, Field(gt=0, le=1 << 16)]
    fps: Annotated[float, Field(gt=0, le=10_000)]


class Sample(NamedTuple):
    """One entry of a shard. shard: its place in `ShardIndex.shards`. members: name -> (offset, size) in bytes.

    It is a tuple and no dataclass. For 100,000 entries that saves half a second at every start.
    """

    key: str
    shard: int
    members: dict[str, tuple[int, int]]
    frames: int
    dancer: str
    genre: str | None
    camera: str | None
    caption: str | None = None
    """Set for a clip that has one of its own."""

    @property
    def labels(self) -> dict[str, Any]:
        """The fields of an entry that the index repeats."""
        return {name: getattr(self, name) for name in ("frames", "dancer", "genre", "camera")}


class DamagedError(DataError):
    """An entry that differs from the index. kind: the name under which such entries are counted."""

    def __init__(self, message: str, kind: str = UNREADABLE) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        # Reader processes pickle this error. The default would call it with the message alone.
        return type(self), (str(self), self.kind)


def _written(status: os.stat_result) -> tuple[int, int]:
    """A file's size and time. Its inode is not used, because some file servers number it anew at each look."""
    return status.st_size, status.st_mtime_ns


class ShardIndex:
    """A folder's shards and samples, read by sample and member.

    kind: "clips", "latents" or "faces". header: all other fields of the index (settings, geometry, prompts, dropped
    entries). sha256: names the content. It is equal for equal shards wherever they lie.
    """

    def __init__(self, folder: Path, content: dict[str, Any]):
        self.folder = folder
        self.kind: str = content["kind"]
        self.sha256: str = content["sha256"]
        self.header = {k: v for k, v in content.items() if k not in ("shards", "samples", "sha256")}
        self.shards = [Shard(**shard) for shard in content["shards"]]
        self.samples = [parse_sample(sample) for sample in content["samples"]]
        self._numbers = {sample.key: number for number, sample in enumerate(self.samples)}
        self._verified: dict[int, tuple[int, int]] = {}
        """Size and last write time of each shard when it was verified."""
        self._damaged: dict[int, DamagedError] = {}
        self._check()

    @classmethod
    def load(cls, folder: Path, kind: str | None = None) -> ShardIndex:
        """Read `folder/index.json`. kind: the kind that it must hold.

        Raises: DataError when it is missing, damaged, not one of ours, or holds the other kind of shards.
        """
        path = folder / INDEX_NAME
        if not path.is_file():
            raise DataError(f"{folder}: no {INDEX_NAME} in it; the folder is not finished: run its command again")
        try:
            with _without_collection():
                content = parse_json(read_bytes(path, LARGEST_INDEX_BYTES), largest_bytes=LARGEST_INDEX_BYTES)
                if content["version"] != INDEX_VERSION:
                    raise DataError(
                        f"{path}: format version {content['version']}, this is {INDEX_VERSION}; make it again"
                    )
                if content["sha256"] != index_sha256(content):
                    raise DataError(f"{path}: damaged or edited (its own checksum does not fit); make the folder again")
                if kind and content["kind"] != kind:
                    raise DataError(f"{folder}: holds {content['kind']}, not {kind}; give the folder that holds {kind}")
                return cls(folder, content)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(f"{path}: not an index of ours ({error}); make the folder again") from error

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def captions(self) -> dict[str, str]:
        """The captions of the clips that have one of their own, by key."""
        return {sample.key: sample.caption for sample in self.samples if sample.caption is not None}

    def read(self, key_or_number: str | int, member: str) -> bytes:
        """Read one member, by the sample's key or number. Its shard is verified at the first read, and after a change.

        Raises: DataError for an unknown key or member; DamagedError for a shard that differs from the index.
        """
        sample = self.samples[self.number(key_or_number) if isinstance(key_or_number, str) else key_or_number]
        if member not in sample.members:
            raise DataError(f"{self.folder}: {sample.key} has no {member}, only {', '.join(sorted(sample.members))}")
        if sample.shard not in self._verified:
            self.verify(sample.shard)
        offset, size = sample.members[member]
        path = self.folder / self.shards[sample.shard].path
        try:
            # The file is opened for each read. Forked workers share no state, and there is no limit on shards.
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if _written(os.fstat(descriptor)) != self._verified[sample.shard]:
                    # Another file is in its place, or somebody wrote into it. The index may no longer be true of it.
                    del self._verified[sample.shard]
                    self.verify(sample.shard)
                data = os.pread(descriptor, size, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DamagedError(f"{path}: {sample.key} cannot be read: {error}", UNREADABLE) from error
        if len(data) != size:
            raise DamagedError(
                f"{path}: {len(data)} of {size} bytes at {offset}; the shard changed while in use", WRONG_SIZE
            )
        return data

    def read_details(self, key_or_number: str | int) -> dict[str, Any]:
        """The content of a clip's `json` member: size_hw, head_boxes, joints and more, as far as they are there.

        Raises: DataError as `read`; DamagedError when the member has another form.
        """
        data = self.read(key_or_number, "json")
        try:
            details = parse_json(data)
            missing = {"key", "size_hw", "head_boxes"} - details.keys() if self.kind == "clips" else ()
            if missing:
                raise ValueError(f"no {min(missing)}")
            boxes = fitted(
                list[tuple[float, float, float, float] | None] | None, details.get("head_boxes"), "head_boxes"
            )
            if not all(math.isfinite(edge) for box in boxes or [] if box for edge in box):
                raise ValueError("head_boxes: not finite")
            if "size_hw" in details:
                fitted(tuple[_Side, _Side], details["size_hw"], "size_hw")
            fitted(dict[str, Any] | None, details.get("joints"), "joints")
        except ValueError as error:
            name = key_or_number if isinstance(key_or_number, str) else self.samples[key_or_number].key
            raise DamagedError(f"{self.folder}: {name}: its description is damaged ({error}); make it again") from error
        return details

    def number(self, key: str) -> int:
        """The number of a key. Raises: DataError when there is none."""
        if key not in self._numbers:
            raise DataError(f"{self.folder}: no sample {key!r} among its {len(self.samples)}")
        return self._numbers[key]

    def verify(self, shard: int) -> None:
        """Compare a shard with the index: size, then sha256. Raises: DamagedError naming it, expected and found.

        The result is remembered: a shard is read through once, good or bad.
        """
        if shard in self._damaged:
            # Without this, an error that is raised again and again would hold on to the frames of every earlier time.
            raise self._damaged[shard].with_traceback(None)
        try:
            self._verified[shard] = self._compare(self.shards[shard])
        except DamagedError as error:
            self._damaged[shard] = error
            raise

    def _compare(self, entry: Shard) -> tuple[int, int]:
        """Check one shard. Returns its size and the time when it was written."""
        path = self.folder / entry.path
        try:
            if not path.is_file():
                raise DamagedError(f"{path}: missing; copy it again or make the folder again", MISSING)
            written = _written(path.stat())
            found = written[0]
            if found != entry.size:
                raise DamagedError(
                    f"{path}: {found} bytes, the index says {entry.size}; damaged: copy it again, or remove it and run "
                    "its command again",
                    WRONG_SIZE,
                )
            digest = sha256_file(path)
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read: {error}", UNREADABLE) from error
        if digest != entry.sha256:
            raise DamagedError(
                f"{path}: sha256 {digest[:16]}…, the index says {entry.sha256[:16]}…; damaged: copy it again, or "
                "remove it and run its command again",
                WRONG_SHA256,
            )
        return written

    def verify_all(self) -> None:
        """Verify every shard."""
        for shard in range(len(self.shards)):
            self.verify(shard)

    def _check(self) -> None:
        """Check the index before anything of it reaches the file system or an allocation. Raises: ValueError."""
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r}")
        if self.kind != "faces":
            fitted(Cut, self.header["settings"], "settings")
        fitted(list[dict[str, Any]], self.header.get("dropped", []), "dropped")
        for shard in self.shards:
            if not _SHARD_NAME.fullmatch(shard.path):
                raise ValueError(f"shard name {shard.path!r}")
            if type(shard.size) is not int or not isinstance(shard.sha256, str):
                raise ValueError(f"size {shard.size!r} or sha256 {shard.sha256!r} of {shard.path}")
        counts = [0] * len(self.shards)
        for sample in self.samples:
            if not _KEY.fullmatch(sample.key) or not 0 <= sample.shard < len(self.shards):
                raise ValueError(f"sample {sample.key!r} in shard {sample.shard}")
            if type(sample.frames) is not int or sample.frames < 0 or not isinstance(sample.dancer, str):
                raise ValueError(f"frames {sample.frames!r} or dancer {sample.dancer!r} of {sample.key}")
            if not isinstance(sample.genre, str | None) or not isinstance(sample.camera, str | None):
                raise ValueError(f"genre {sample.genre!r} or camera {sample.camera!r} of {sample.key}")
            counts[sample.shard] += 1
            if sample.caption is not None and not isinstance(sample.caption, str):
                raise ValueError(f"caption {sample.caption!r} of {sample.key}")
            for name, (offset, size) in sample.members.items():
                inside = min(offset, size) >= 0 and offset + size <= self.shards[sample.shard].size
                if name not in MEMBERS or size > LARGEST_MEMBER_BYTES or not inside:
                    raise ValueError(f"member {name!r} of {sample.key} at {offset}+{size}")
        if counts != [shard.count for shard in self.shards]:
            raise ValueError("counts per shard and samples listed differ")
        if len(self._numbers) != len(self.samples):
            raise ValueError("a key occurs twice")


def index_sha256(content: dict[str, Any]) -> str:
    """The checksum that an index carries of itself."""
    return sha256_json({key: value for key, value in content.items() if key != "sha256"})


def parse_sample(entry: dict[str, Any]) -> Sample:
    """Parse an entry of an index or a record. Raises: KeyError, TypeError, ValueError and such when it is no entry."""
    members = {name: (int(place[0]), int(place[1])) for name, place in entry["members"].items()}
    return Sample(**(entry | {"members": members}))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the cyclic collector. Among a million new objects it searches again and again, and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
