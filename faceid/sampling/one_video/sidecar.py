"""Record what a video was made of in NAME.json beside it, so that `--like` can render it again.

The record holds names and hashes alone: of a face its sha256, never its numbers. The settings are those of the command
line, resolved. Paths are absolute, so that the file serves from anywhere on that machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceid.files.provenance import describe_provenance, sha256_file

if TYPE_CHECKING:
    from faceid.sampling.who.rendered_identities import Face

VERSION = 1
# The settings that are kept: files to read, and how a video looks. They never say where to write, nor what computes.
# Somebody else's file may set these (faceid/sampling/like.py) and nothing else.
READ_BY_IT = (
    *("face_lora_path", "model_path", "vae_path", "text_encoder_path", "encoder_path", "detector_path"),
    *("face_images_dir", "face_embedding", "identities_dir", "pose_video", "reference_image"),
)
# In the order of the file.
SET_BY_IT = (
    *("face_lora_path", "model_path", "vae_path", "text_encoder_path", "face_images_dir", "face_embedding"),
    *("identities_dir", "identity", "identity_from", "identity_to", "pose_video", "prompt", "negative_prompt"),
    *("face_scale", "cfg_scale", "cfg_start", "face_start", "face_end", "face_guidance", "face_block_scales"),
    *("control_scale", "reference_image", "own_references", "reference_scale", "reference_guidance"),
    *("num_inference_steps", "scheduler", "shift", "step_cache"),
    *("attention_backend", "compile", "seed", "height", "width", "num_frames", "window_frames", "window_overlap"),
    *("fps", "pose_timing", "fit", "dtype", "encoder", "encoder_path", "encoder_device", "onnx_mean", "onnx_std"),
    *("onnx_colour", "aggregation", "detector", "detector_path", "face_margin", "allow_few", "check_one_person"),
)


@dataclass(frozen=True)
class InputHashes:
    """sha256 of all that a video is made of besides the settings; empty where there is none."""

    base: str
    adapter: str
    identity: str
    pose: str
    references: tuple[str, ...] = ()

    @classmethod
    def of(cls, base: str, adapter: str | None, face: Face, pose: Path, references: Sequence[str]) -> InputHashes:
        """base: the base's fingerprint. adapter: its file, as resolved. references: sha256 of each."""
        return cls(
            base=base,
            adapter=sha256_file(Path(adapter)) if adapter else "",
            identity=face.sha256,
            pose=sha256_file(pose),
            references=tuple(references),
        )


def sidecar_of(output: Path) -> Path:
    """The .json of a video."""
    return output.with_suffix(".json")


def describe_video(
    video: Path,
    name: str,
    flags: Mapping[str, Any],
    inputs: InputHashes,
    device: str,
    pose_frames: Sequence[int] | None = None,
) -> dict[str, Any]:
    """A sidecar's content. video: its present path. name: its final name.

    flags: every option by its flag's name, as a command line for this one video would have it. pose_frames: pose frames
    that the video's frames follow; None for each one.
    """
    # torch is imported only here, because flags are read without it (sample.py).
    import torch

    return {
        **describe_provenance(),
        "version": VERSION,
        "video": {"name": name, "sha256": sha256_file(video), "pose_frames": pose_frames},
        "inputs": asdict(inputs),
        "settings": {name: absolute(name, flags[name]) for name in SET_BY_IT},
        "device": device,
        # On a CPU the last bits depend on this number, because sums are cut into as many parts.
        "threads": torch.get_num_threads(),
    }


def absolute(name: str, value: Any) -> Any:
    """A setting with its paths made absolute."""
    if name not in READ_BY_IT or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [absolute(name, one) for one in value]
    # A name such as toy is no path.
    return str(Path(value).absolute()) if Path(value).exists() else value
