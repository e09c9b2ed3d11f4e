"""The folders of training data for the fuzz: clip shards, latent shards, identities; each whole, changed, and read."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from benchmarks.fuzz import mutations as change
from benchmarks.fuzz import values
from faceid.data.body.keypoints import Keypoints
from faceid.data.body.sidecars import joints_content
from faceid.data.latents.clip_views import joints_in, plan_views, show_boxes
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.latents.view_settings import ViewSettings
from faceid.data.shards.index import ShardIndex, index_sha256

Sample = dict[str, bytes]
SIZE_HW, FRAMES, CHANNELS = (32, 48), 5, 16
_FACE = torch.full((4,), 0.5)


# Shards.
_SETTINGS = {"num_frames": FRAMES, "height": 32, "width": 48, "fps": 16.0, "fit": "crop", "clips_per_shard": 2}
BOXES = [[10.0, 4.0, 20.0, 14.0] if frame % 2 == 0 else None for frame in range(FRAMES)]


def joints(frames: int = FRAMES) -> dict[str, Any]:
    """What a file of joints holds."""
    body = np.random.default_rng(0).uniform(4, 30, (frames, 17, 2)).astype(np.float32)
    return joints_content(Keypoints(body, None, np.ones(frames, int), None, SIZE_HW))


def _details() -> dict[str, Any]:
    return {"key": "a", "size_hw": list(SIZE_HW), "head_boxes": BOXES, "joints": joints()}


def _latents(seed: int) -> bytes:
    generator = torch.Generator().manual_seed(seed)
    video, pose = (torch.randn(CHANNELS, 2, 8, 12, generator=generator).bfloat16() for _ in range(2))
    return save({"video": video, "pose": pose, "head_mask": torch.ones(2, 8, 12, dtype=torch.uint8)})


def _shards(kind: str, entries: dict[str, dict[str, bytes]], header: dict[str, Any]) -> Sample:
    """A shard and its index, checksums right."""
    file, samples = io.BytesIO(), []
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in entries.items():
            places = {}
            for name, data in members.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                places[name] = [tar.offset + tarfile.BLOCKSIZE, len(data)]
                tar.addfile(info, io.BytesIO(data))
            labels = {"frames": FRAMES, "dancer": "d1", "genre": None, "camera": "c01"}
            samples.append({"key": key, "members": places, **labels, "shard": 0})
    content = {
        "kind": kind,
        "version": 1,
        **header,
        "dropped": [],
        "shards": [_shard(kind, file.getvalue(), len(entries))],
    }
    return {f"{kind}-000000.tar": file.getvalue(), "index.json": _signed({**content, "samples": samples})}


def _shard(kind: str, data: bytes, count: int) -> dict[str, Any]:
    return {"path": f"{kind}-000000.tar", "size": len(data), "sha256": sha256(data), "count": count}


def sha256(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def _signed(content: dict[str, Any]) -> bytes:
    return json.dumps({**content, "sha256": index_sha256(content)}).encode()


def _sign_again(random: Random, data: bytes) -> bytes:
    """An index with a checksum that fits, where it can be read at all."""
    try:
        content = json.loads(data) if random.random() < 0.8 else None
        return _signed(content) if isinstance(content, dict) else data
    except (ValueError, RecursionError):
        return data


def clips(folder: Path) -> Sample:
    """A folder of clip shards; its videos are none."""
    members = {"json": json.dumps(_details()).encode(), "pose.mp4": b"pose" * 8, "video.mp4": b"video" * 8}
    return _shards("clips", {"clip_a": members, "clip_b": members}, {"settings": _SETTINGS})


def latent_folder(folder: Path) -> Sample:
    """A folder of latent shards."""
    texts, constants = save({"t0": torch.ones(4, 8), "t1": torch.ones(4, 8)}), {}
    for frames in (1, 2):
        constants[f"inactive_{frames}x8x12"] = torch.zeros(CHANNELS, frames, 8, 12)
    shared = {"prompts.safetensors": texts, "constants.safetensors": save(constants)}
    header = {
        "base": {"name": "toy", "fingerprint": "f" * 64},
        "geometry": {"spatial_factor": 4, "temporal_factor": 4, "latent_channels": CHANNELS, "patch_thw": [1, 2, 2]},
        "settings": _SETTINGS,
        "prompts": {"": "t0", "a person": "t1"},
        "prompt_of": {"clip_a": "a person", "clip_b": "a person"},
        "clip_of": {"clip_b": "clip_a"},
        "files": {name: sha256(data) for name, data in shared.items()},
    }
    details = {name: value for name, value in _details().items() if name != "joints"}
    members = {"json": json.dumps(details).encode()}
    entries = {f"clip_{key}": {**members, "safetensors": _latents(seed)} for seed, key in enumerate("ab")}
    return {**_shards("latents", entries, header), **shared}


def change_index(random: Random, sample: Sample) -> Sample:
    """Index of either kind, its own checksum made to fit most of the time."""
    return {"index.json": _sign_again(random, change.change_json(random, sample["index.json"]))}


def change_member(random: Random, sample: Sample) -> Sample:
    """A member, or the tar's bytes; checksums of shard and index made right most of the time."""
    content = json.loads(sample["index.json"])
    kind = content["kind"]
    name = f"{kind}-000000.tar"
    if random.random() < 0.15:
        return {name: change.change_bytes(random, sample[name])}
    entries = {
        each["key"]: {part: sample[name][at : at + size] for part, (at, size) in each["members"].items()}
        for each in content["samples"]
    }
    members = entries[random.choice(sorted(entries))]
    part = random.choice(sorted(set(members) - {"pose.mp4", "video.mp4"}))
    changed = change.change_json if part == "json" else change.change_safetensors
    members[part] = changed(random, members[part])
    header = {
        key: value for key, value in content.items() if key not in ("kind", "version", "shards", "samples", "sha256")
    }
    return _shards(kind, entries, header)


def change_shared(random: Random, sample: Sample) -> Sample:
    """Prompts or constants, with a checksum that fits."""
    name = random.choice(("prompts.safetensors", "constants.safetensors"))
    data = change.change_safetensors(random, sample[name])
    content = json.loads(sample["index.json"])
    content["files"][name] = sha256(data)
    content.pop("sha256")
    return {name: data, "index.json": _signed(content)}


def read_clips(folder: Path, out: Path) -> None:
    """As encoding does, before a video is decoded."""
    index = ShardIndex.load(folder, "clips")
    views = ViewSettings(views=["full", "upper_body", "head"])
    for sample in index.samples[:4]:
        for member in sample.members:
            index.read(sample.key, member)
        details = index.read_details(sample.key)
        joints_in(details)
        for view in plan_views(views, {"size_hw": list(SIZE_HW), **details}, None)[0]:
            show_boxes(view, details.get("head_boxes"))
    settings = index.header["settings"]
    views.size_hw((settings["height"], settings["width"]))


def read_latents(folder: Path, out: Path) -> None:
    """As a training step does, before the model."""
    sets = LatentSets.open([folder])
    sets.geometry.latent_shape(*sets.sizes[0])
    for number in range(min(len(sets), 4)):
        sample = sets[number]
        (sample.video.float() + sample.pose.float() + sample.inactive.float() * sample.head_mask).mean()
        sets.head_boxes(number)
    sets.prompt(""), sets.prompt(sets.caption), sorted(set(sets.dancers)), sets.clips


# Identities.
def identity(folder: Path) -> Sample:
    """An identity folder of two kept photos and a dropped one."""
    photos = [_photo(f"{name}.jpg", True) for name in "ab"] + [_photo("c.jpg", False)]
    about = {"name": "anna", "encoder": "clip", "encoder_fingerprint": "e" * 64}
    files = {"identity_embedding.pt": _FACE, "metadata.pt": {**about, "photos": photos}}
    files |= {f"embeddings/{name}.jpg.pt": _FACE.clone() for name in "ab"}
    return _with_manifest(folder, {name: change.torch_bytes(content) for name, content in files.items()})


def _photo(name: str, kept: bool) -> dict[str, Any]:
    described = {"file": name, "kept": kept, "weight": 0.5, "box_xyxy": [1, 2, 30, 40], "sha256": "a" * 64}
    return {**described, "reason": "", "notes": ["blurred"], "quality": {"sharpness": 1.0}, "cosine": None}


def _with_manifest(folder: Path, sample: Sample) -> Sample:
    about = {"format": "faceid identity 1", "name": "anna", "encoder": "clip", "encoder_fingerprint": "e" * 64}
    described = {name: {"size": len(data), "sha256": sha256(data)} for name, data in sorted(sample.items())}
    return {**sample, "manifest.json": json.dumps({**about, "files": described}).encode()}


def change_identity(random: Random, sample: Sample) -> Sample:
    """A file of it; the manifest is made to fit most of the time."""
    files = {name: data for name, data in sample.items() if name != "manifest.json"}
    if random.random() < 0.2:
        return {"manifest.json": change.change_json(random, sample["manifest.json"])}
    name = random.choice(["metadata.pt"] * 4 + sorted(files))
    tree = torch.load(io.BytesIO(files[name]), weights_only=True)
    files[name] = change.change_torch(random, tree if isinstance(tree, dict) else {"": tree})
    if not isinstance(tree, dict) and random.random() < 0.7:
        files[name] = change.torch_bytes(random.choice(values.tensor_values()))
    return _with_manifest(Path(), files) if random.random() < 0.9 else {name: files[name]}
