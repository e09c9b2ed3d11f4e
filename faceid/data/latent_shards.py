"""Clip shards to latent shards: the expensive VAE and text encoding, once, one shard at a time.

Stored are raw VAE means (normalising happens in one place, at load time), the head mask in latent cells, the text
embeddings once per distinct prompt, and the inactive half of the control, which is constant for a size. A folder
belongs to one base, one set of clips and one set of captions; it refuses others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from faceid.claims import CLAIMS_NAME, Claims, share_work
from faceid.data.head_mask import head_mask
from faceid.data.index import INDEX_NAME, Sample, Shard, ShardIndex
from faceid.data.shard_work import ShardUnit, make_shards_together
from faceid.data.shards import (
    Entry,
    ShardRecord,
    refuse_other_content,
    reusable_record,
    shard_name,
    write_index,
    write_shard,
)
from faceid.errors import DataError
from faceid.logs import progress
from faceid.media.video import decode_video_bytes
from faceid.models.latents import encode_pixels, to_pixels
from faceid.models.prompts import encode_prompts
from faceid.models.settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.wan import WanModel
from faceid.provenance import sha256_file, sha256_json, sizes_and_times, write_atomic, write_json

log = logging.getLogger(__name__)

# Raised when the latents of a clip change for the same clip and base.
RECIPE = 1
PROMPTS_NAME, CONSTANTS_NAME, MADE_FROM_NAME = "prompts.safetensors", "constants.safetensors", "made_from.json"
SHARED_NAME = ".done/texts.json"

Captions = str | Mapping[str, str]


def write_latent_shards(
    clips: Path, output_dir: Path, wan: WanModel, captions: Captions, batch_size: int = 1
) -> dict[str, Any]:
    """Encode a folder of clip shards into latent shards and their index; returns the index.

    wan: with its VAE and text parts. captions: one prompt for every clip, or {key: prompt}. batch_size: clips per
    VAE call. Killed at any time, a second run continues at the first shard that is missing.
    Raises: DataError when the clips are damaged or do not fit the base, a caption is missing, or the output folder
    was made from another base, other clips or captions.
    """
    index = ShardIndex.load(clips, "clips")
    settings = index.header["settings"]
    size = (settings["num_frames"], settings["height"], settings["width"])
    wan.geometry.latent_shape(*size)
    prompts = _prompt_of_each(index, captions)
    check_latents_folder(clips, output_dir, wan.latents_fingerprint, captions)
    if _read_made_from(output_dir) is None:
        write_json(output_dir / MADE_FROM_NAME, _made_from(index, wan.latents_fingerprint, captions))
        # Another run may have begun here with another base at the same moment.
        check_latents_folder(clips, output_dir, wan.latents_fingerprint, captions)
    _write_shared(output_dir, wan, prompts, size)
    units = [_unit(output_dir, shard, wan) for shard in index.shards]
    numbers = {unit.name: number for number, unit in enumerate(units)}

    def make(unit: ShardUnit) -> ShardRecord:
        return _encode_shard(unit, index, numbers[unit.name], wan, prompts, batch_size)

    records = make_shards_together(output_dir, units, make)
    header = {
        "base": {"name": wan.name, "fingerprint": wan.latents_fingerprint},
        "geometry": asdict(wan.geometry),
        "settings": settings,
        "clips_sha256": index.sha256,
        "prompts": {text: prompt_name(text) for text in _all_texts(prompts)},
        "prompt_of": prompts,
        "files": {name: sha256_file(output_dir / name) for name in (PROMPTS_NAME, CONSTANTS_NAME)},
    }
    content = write_index(output_dir, "latents", header, records)
    log.info("%s: latents of %d clips in %d shards", output_dir, len(content["samples"]), len(content["shards"]))
    return content


def latents_are_current(clips: Path, output_dir: Path, fingerprint: str, captions: Captions) -> bool:
    """Whether `output_dir` is complete and was made from these clips, this base and these captions."""
    made_from = _made_from(ShardIndex.load(clips, "clips"), fingerprint, captions)
    return (output_dir / INDEX_NAME).is_file() and _read_made_from(output_dir) == made_from


def check_latents_folder(clips: Path, output_dir: Path, fingerprint: str, captions: Captions) -> None:
    """To be called before a weight is loaded.

    Raises: DataError when `output_dir` holds something else, or latents of another base, clips or captions.
    """
    refuse_other_content(output_dir, "latents")
    before = _read_made_from(output_dir)
    if before is None:
        return
    what = {"base": "another base", "clips": "other clips", "captions": "other captions", "recipe": "an older version"}
    for name, value in _made_from(ShardIndex.load(clips, "clips"), fingerprint, captions).items():
        if before.get(name) != value:
            raise DataError(
                f"{output_dir}: holds latents of {what[name]} ({str(before.get(name))[:16]}, now {str(value)[:16]}); "
                "choose another output folder or remove this one"
            )


def prompt_name(text: str) -> str:
    """Name of a prompt's tensor."""
    return sha256_json(text)[:16]


def inactive_name(f: int, h: int, w: int) -> str:
    """Name of the inactive half's tensor for a latent size."""
    return f"inactive_{f}x{h}x{w}"


def encode_inactive(wan: WanModel, num_frames: int, height: int, width: int) -> Tensor:
    """The inactive half when the whole clip is generated: raw latents of zeros (mid grey), [C, f, h, w] float32."""
    return encode_pixels(wan.vae, torch.zeros(1, 3, num_frames, height, width))[0].cpu()


def _unit(output_dir: Path, shard: Shard, wan: WanModel) -> ShardUnit:
    path = output_dir / shard_name("latents", int(Path(shard.path).stem.rpartition("-")[2]))
    return ShardUnit(path, [RECIPE, wan.latents_fingerprint, shard.sha256])


def _encode_shard(
    unit: ShardUnit, index: ShardIndex, number: int, wan: WanModel, prompts: dict[str, str], batch_size: int
) -> ShardRecord:
    """Publish a shard's latents, unless those there are of the same clips and base and are whole."""
    inputs = sha256_json(unit.seen)
    record = reusable_record(unit.path, inputs)
    if record is not None:
        return record
    (unit.path.parent / INDEX_NAME).unlink(missing_ok=True)
    samples = [sample for sample in index.samples if sample.shard == number]
    batches = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    bar = progress(batches, unit.path.stem, unit="batch", leave=False)
    entries = [entry for batch in bar for entry in _encode_batch(index, batch, wan, prompts)]
    log.info("%s: %d clips", unit.name, len(entries))
    return write_shard(unit.path, inputs, entries, [])


def _write_shared(output_dir: Path, wan: WanModel, prompts: dict[str, str], size: tuple[int, int, int]) -> None:
    """Texts and constants, by one process for all: two kinds of GPU need not give the same bits."""
    mark = output_dir / SHARED_NAME
    files = [output_dir / name for name in (PROMPTS_NAME, CONSTANTS_NAME)]
    made_of = {"texts": _all_texts(prompts), "size": list(size), "base": wan.latents_fingerprint}

    def read_mark() -> dict[str, Any]:
        try:
            return json.loads(mark.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def are_there(said: dict[str, Any]) -> bool:
        return said.get("made_of") == made_of and all(file.is_file() for file in files)

    def is_done(_: str) -> bool:
        said = read_mark()
        return are_there(said) and said.get("seen") == sizes_and_times(files)

    for _ in share_work(["texts"], is_done, Claims(output_dir / CLAIMS_NAME), "texts"):
        said = read_mark()
        # A folder that was copied has other times and the same bytes.
        if not are_there(said) or said.get("sha256") != [sha256_file(file) for file in files]:
            (output_dir / INDEX_NAME).unlink(missing_ok=True)
            write_atomic(files[0], save(_encode_texts(wan, prompts)))
            write_atomic(files[1], save(_encode_constants(wan, size)))
        digests = [sha256_file(file) for file in files]
        write_json(mark, {"made_of": made_of, "sha256": digests, "seen": sizes_and_times(files)})


def _encode_batch(index: ShardIndex, batch: list[Sample], wan: WanModel, prompts: dict[str, str]) -> list[Entry]:
    video, pose = (_encode_member(index, batch, member, wan) for member in ("video.mp4", "pose.mp4"))
    entries = []
    for at, sample in enumerate(batch):
        details = json.loads(index.read(sample.key, "json"))
        height, width = details["size_hw"]
        tensors = {
            "video": video[at],
            "pose": pose[at],
            "head_mask": head_mask(details["head_boxes"], sample.frames, height, width, wan.geometry),
        }
        details["prompt"] = prompts[sample.key]
        members = {"safetensors": save(tensors), "json": json.dumps(details, sort_keys=True).encode()}
        labels = {name: getattr(sample, name) for name in ("frames", "dancer", "genre", "camera")}
        entries.append(Entry(sample.key, members, labels))
    return entries


def _encode_member(index: ShardIndex, batch: list[Sample], member: str, wan: WanModel) -> Tensor:
    """Raw latents of one member of each clip, bf16 [B, C, f, h, w]."""
    pixels = torch.cat([to_pixels(decode_video_bytes(index.read(sample.key, member)).frames) for sample in batch])
    latents = encode_pixels(wan.vae, pixels)
    if not torch.isfinite(latents).all():
        raise DataError(f"{member} of {', '.join(s.key for s in batch)}: the VAE made values that are not finite")
    return latents.to(torch.bfloat16).cpu().contiguous()


def _encode_texts(wan: WanModel, prompts: dict[str, str]) -> dict[str, Tensor]:
    texts = _all_texts(prompts)
    embeddings = encode_prompts(wan.tokenizer, wan.text_encoder, texts)
    return {prompt_name(text): embeddings[text].cpu().contiguous() for text in texts}


def _encode_constants(wan: WanModel, size: tuple[int, int, int]) -> dict[str, Tensor]:
    """For clips, and for single frames of the same size (photos)."""
    constants = {}
    for num_frames in sorted({1, size[0]}):
        _, f, h, w = wan.geometry.latent_shape(num_frames, *size[1:])
        constants[inactive_name(f, h, w)] = encode_inactive(wan, num_frames, *size[1:]).contiguous()
    return constants


def _prompt_of_each(index: ShardIndex, captions: Captions) -> dict[str, str]:
    if isinstance(captions, str):
        return {sample.key: captions for sample in index.samples}
    missing = [sample.key for sample in index.samples if sample.key not in captions]
    if missing:
        raise DataError(f"captions: none for {len(missing)} clips, such as {missing[0]}; give one per key")
    return {sample.key: captions[sample.key] for sample in index.samples}


def _all_texts(prompts: dict[str, str]) -> list[str]:
    """The clips' own, the empty one (text dropout) and the default negative one (previews)."""
    return sorted({*prompts.values(), "", DEFAULT_NEGATIVE_PROMPT})


def _made_from(index: ShardIndex, fingerprint: str, captions: Captions) -> dict[str, Any]:
    captions = captions if isinstance(captions, str) else sha256_json(dict(captions))
    return {"recipe": RECIPE, "base": fingerprint, "clips": index.sha256, "captions": captions}


def _read_made_from(output_dir: Path) -> dict[str, Any] | None:
    try:
        return json.loads((output_dir / MADE_FROM_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{output_dir / MADE_FROM_NAME}: damaged ({error}); remove the folder") from error
