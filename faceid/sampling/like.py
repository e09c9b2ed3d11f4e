"""Render a video again from its .json (`--like`). Anybody may have made that file, so it may set only certain flags.

The file says what a video looks like and which files to read for that. It never says where anything is written, removed
or computed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from faceid.errors import DataError
from faceid.files.documents import parse_json, read_bytes
from faceid.sampling.one_video.sidecar import READ_BY_IT, SET_BY_IT, VERSION, InputHashes, absolute
from faceid.sampling.render_sections import SECTIONS

log = logging.getLogger(__name__)

# Flags that no such file may set. A test fails for a flag that is on neither list.
NEVER_SET_BY_IT = (
    *("output", "batch", "pose_videos_dir", "jobs", "output_dir", "static", "gallery", "references_dir", "score"),
    *(
        "heads_dir",
        "like",
        "noises_per_video",
        "cache_dir",
        "cache_gb",
        "device",
        "context_parallel",
        "offload",
        "shared",
    ),
)
_DEFAULTS = {field.name: field.default for section in SECTIONS for field in fields(section)}
_FACES = ("face_images_dir", "face_embedding", "identities_dir", "identity", "identity_from", "identity_to")
# More than any machine's threads. A number from a file is not trusted.
MOST_THREADS = 1024


def read_sidecar(path: Path) -> dict[str, Any]:
    """A sidecar's content. Raises: DataError when the file is no sidecar."""
    try:
        content = parse_json(read_bytes(path))
        if content["version"] != VERSION:
            raise DataError(f"like={path}: is of version {content['version']}, this program knows {VERSION}")
        content["settings"]["seed"], content["inputs"]["pose"], content["video"]["sha256"], content["video"]["name"]
        content["settings"].items(), content["inputs"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"like={path}: is not a video's .json ({error}); give the one beside a rendered mp4") from error
    return content


def words_like(argv: Sequence[str]) -> list[str]:
    """A command line with the flags of its `--like FILE` put before the rest, so that flags in the command line win.

    A face or a size in the command line replaces the file's one of the same kind. A folder of photos replaces an
    embedding.
    """
    words = list(argv)
    files = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--like"]
    files += [word.partition("=")[2] for word in words if word.startswith("--like=")]
    if not files:
        return words
    given = given_flags(words)
    if given & set(_FACES):
        given |= set(_FACES)
    # Videos from before the option existed were rendered frame by frame.
    kept = {"pose_timing": "frames", **_settable(Path(files[-1]), read_sidecar(Path(files[-1]))["settings"])}
    return [
        f"--{name}={_word(value)}" for name, value in kept.items() if value is not None and name not in given
    ] + words


def _settable(path: Path, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a sidecar may set. Raises: DataError when it sets anything else."""
    for name, value in kept.items():
        # Files from before 2026-12 name some of the other flags with their defaults, which sets nothing.
        if name not in SET_BY_IT and (name not in NEVER_SET_BY_IT or value not in (None, _DEFAULTS.get(name))):
            raise DataError(
                f"like={path}: sets {name!r}, which a video's .json may not: it says what a video looks like, not "
                "where anything is written, kept or computed; take the line out, and give it as a flag if you mean it"
            )
        if "\0" in str(value):
            raise DataError(f"like={path}: {name} holds a NUL character; take it out")
    return {name: value for name, value in kept.items() if name in SET_BY_IT}


def say_what_is_read(path: Path, flags: Mapping[str, Any]) -> None:
    """Name the files that are read because a sidecar says so. flags: their present values."""
    kept = read_sidecar(path)["settings"]
    for name in READ_BY_IT:
        if flags.get(name) is not None and flags[name] == kept.get(name):
            log.info("%s: reads %s=%s", path.name, name, flags[name])


def use_threads_of(path: Path) -> None:
    """Compute with as many threads as a sidecar's video. On a CPU the video's bytes depend on that number."""
    # torch is imported only here, because flags are read without it (sample.py).
    import torch

    kept = read_sidecar(path)
    threads, now = kept.get("threads"), torch.get_num_threads()
    if threads in (None, now) or not str(kept.get("device", "")).startswith("cpu"):
        return
    if type(threads) is not int or not 0 < threads <= MOST_THREADS:
        raise DataError(f"like={path}: threads={str(threads)[:40]}: is not a number of threads; take the line out")
    log.info("computed with %d threads, as that video was, not %d: its bytes depend on it", threads, now)
    torch.set_num_threads(threads)


def given_flags(argv: Sequence[str]) -> set[str]:
    """Names of the flags on a command line."""
    return {word[2:].partition("=")[0] for word in argv if word.startswith("--")}


def check_like(path: Path, flags: Mapping[str, Any], inputs: InputHashes) -> Mapping[str, Any]:
    """The sidecar, if the content of all paths taken from it is unchanged. Raises: DataError naming a change."""
    kept = read_sidecar(path)
    before = kept["settings"]
    now = {name: absolute(name, value) for name, value in flags.items()}
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
    """Report whether the bytes came out the same."""
    before = kept["video"]
    if before["sha256"] == sha256:
        log.info("%s: the same bytes as %s", output, before["name"])
    else:
        log.warning("%s: not the bytes of %s: other settings, another machine or versions", output, before["name"])


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
