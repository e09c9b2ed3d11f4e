"""What a video was made of, in NAME.json beside it; and the same video again from that (`--like`).

Names and hashes alone: of a face its sha256, never its numbers. The settings are those of the command line, resolved;
paths are absolute, so that the file serves from anywhere on that machine.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceid.errors import DataError
from faceid.faces.settings import FaceSettings
from faceid.provenance import describe_provenance, sha256_file
from faceid.sampling.settings import SampleSettings

if TYPE_CHECKING:
    from faceid.sampling.identities import Face

log = logging.getLogger(__name__)

VERSION = 1
_PATHS = (
    "face_lora_path",
    "model_path",
    "face_images_dir",
    "face_embedding",
    "identities_dir",
    "pose_video",
    "reference_image",
)
_FACES = ("face_images_dir", "face_embedding", "identities_dir", "identity", "identity_from", "identity_to")
# What says where to, not what of.
_NOT_KEPT = (
    *("output", "batch", "pose_videos_dir", "output_dir", "like", "seed"),
    *("device", "context_parallel", "offload", "cache_dir", "cache_gb"),
)


@dataclass(frozen=True)
class Inputs:
    """sha256 of all that a video is made of beside the settings; empty where there is none."""

    base: str
    adapter: str
    identity: str
    pose: str
    references: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: SampleSettings, base: str, face: Face, pose: Path, adapter: str | None) -> Inputs:
        """base: the base's fingerprint. adapter: its file, as resolved."""
        return cls(
            base=base,
            adapter=sha256_file(Path(adapter)) if adapter else "",
            identity=face.sha256,
            pose=sha256_file(pose),
            references=hash_references(settings),
        )


def hash_references(settings: SampleSettings) -> tuple[str, ...]:
    """sha256 of each reference image."""
    return tuple(sha256_file(Path(name)) for name in settings.reference_images)


def sidecar_of(output: Path) -> Path:
    """The .json of a video."""
    return output.with_suffix(".json")


def describe_video(
    video: Path,
    name: str,
    settings: SampleSettings,
    faces: FaceSettings,
    inputs: Inputs,
    pose: Path,
    seed: int,
    device: str,
    pose_frames: Sequence[int] | None = None,
) -> dict[str, Any]:
    """A sidecar's content. video: where it lies now. name: what it is called, or will be.

    pose_frames: those of the pose that the video's frames follow; None for each one.
    """
    kept = {**asdict(settings), **asdict(faces), "pose_video": str(pose), "seed": seed}
    known = {name: _absolute(name, value) for name, value in kept.items() if name == "seed" or name not in _NOT_KEPT}
    return {
        **describe_provenance(),
        "version": VERSION,
        "video": {"name": name, "sha256": sha256_file(video), "pose_frames": pose_frames},
        "inputs": asdict(inputs),
        "settings": known,
        "device": device,
    }


def read_sidecar(path: Path) -> dict[str, Any]:
    """A sidecar's content. Raises: DataError when it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise DataError(f"like={path}: is of version {content['version']}, this program knows {VERSION}")
        content["settings"]["seed"], content["inputs"]["pose"], content["video"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"like={path}: is not a video's .json ({error}); give the one beside a rendered mp4") from error
    return content


def words_like(argv: Sequence[str]) -> list[str]:
    """A command line with what its `--like FILE` says put before the rest, so that flags given besides win.

    A face or a size that is given besides takes the place of its like: a folder of photos that of an embedding.
    """
    words = list(argv)
    files = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--like"]
    files += [word.partition("=")[2] for word in words if word.startswith("--like=")]
    if not files:
        return words
    given = given_flags(words)
    if given & set(_FACES):
        given |= set(_FACES)
    # Videos of before there was a choice were rendered frame by frame.
    kept = {"pose_timing": "frames", **read_sidecar(Path(files[-1]))["settings"]}
    return [
        f"--{name}={_word(value)}" for name, value in kept.items() if value is not None and name not in given
    ] + words


def given_flags(argv: Sequence[str]) -> set[str]:
    """Names of the flags on a command line."""
    return {word[2:].partition("=")[0] for word in argv if word.startswith("--")}


def check_like(path: Path, settings: SampleSettings, inputs: Inputs) -> Mapping[str, Any]:
    """The sidecar, once all that was not given anew is what it was. Raises: DataError naming what changed."""
    kept = read_sidecar(path)
    before = kept["settings"]
    now = {name: _absolute(name, value) for name, value in asdict(settings).items()}
    for name, keys in (
        ("base", ("model_path",)),
        ("adapter", ("face_lora_path",)),
        ("identity", _FACES),
        ("pose", ("pose_video",)),
        ("references", ("reference_image",)),
    ):
        is_same_path = all(before.get(key) == now.get(key) for key in keys)
        was, found = kept["inputs"].get(name), getattr(inputs, name)
        if is_same_path and was != (list(found) if isinstance(found, tuple) else found):
            said = ", ".join(f"{key}={now[key]}" for key in keys if now.get(key) is not None) or name
            raise DataError(f"like={path}: {said}: its content is not what that video was made of; give what was")
    return kept


def say_whether_like(kept: Mapping[str, Any], output: Path, sha256: str) -> None:
    """Whether the bytes came out the same."""
    before = kept["video"]
    if before["sha256"] == sha256:
        log.info("%s: the same bytes as %s", output, before["name"])
    else:
        log.warning("%s: not the bytes of %s: other settings, another machine or versions", output, before["name"])


def _absolute(name: str, value: Any) -> Any:
    if name not in _PATHS or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_absolute(name, one) for one in value]
    # A name such as toy is no path.
    return str(Path(value).absolute()) if Path(value).exists() else value


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
