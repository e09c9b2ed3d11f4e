"""Encode clip shards to latent shards, one shard at a time.

The expensive VAE and text encoding is done once. Raw VAE means are stored; normalising happens in one place, at load
time. Also stored are the head mask in latent cells and one text embedding per distinct prompt. The control's inactive
half is constant for a size, and stored once. A folder belongs to one base, one set of clips and one set of captions. It
refuses others.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from faceid.claims import CLAIMS_NAME, Claims, share_work
from faceid.data.disk_space import check_space
from faceid.data.latents.clip_decoding import ShownView, clips_ahead
from faceid.data.latents.clip_views import view_key
from faceid.data.latents.head_mask import head_mask
from faceid.data.latents.view_settings import ViewSettings
from faceid.data.shards.index import INDEX_NAME, Sample, Shard, ShardIndex
from faceid.data.shards.shard_work import ShardUnit, make_shards_together, one_plan
from faceid.data.shards.shard_writer import (
    Dropped,
    Entry,
    claim_shards,
    refuse_shards,
    shard_name,
    write_index,
)
from faceid.data.waiting import discard_waiting
from faceid.errors import DataError
from faceid.files.documents import find_json, parse_json, read_bytes
from faceid.files.provenance import sha256_file, sha256_json, sizes_and_times
from faceid.files.writing import write_atomic, write_json
from faceid.geometry import Geometry
from faceid.logs import Progress, progress
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.base.latent_codec import encode_grey, encode_pixels, to_pixels
from faceid.models.base.prompts import cut_padding, encode_prompts
from faceid.models.base.wan import WanModel

log = logging.getLogger(__name__)

# Increased when the latents of a clip change for the same clip and base.
RECIPE = 1
PROMPTS_NAME, CONSTANTS_NAME, MADE_FROM_NAME = "prompts.safetensors", "constants.safetensors", "made_from.json"
SHARED_NAME = ".done/texts.json"
# Bytes of an entry's json, its headers and the tar's padding: an upper bound of the observed values.
ENTRY_OVERHEAD_BYTES = 16_384

Captions = str | Mapping[str, str]


def write_latent_shards(
    clips: Path,
    output_dir: Path,
    wan: WanModel,
    captions: Captions,
    batch_size: int = 1,
    views: ViewSettings | None = None,
) -> dict[str, Any]:
    """Encode a folder of clip shards into latent shards and their index. Returns the index.

    wan: with its VAE and text parts. captions: one prompt for every clip that has none of its own in the shards, or
    {key: prompt} for every clip. batch_size: views per VAE call. views: what is encoded of each clip. If the run is
    killed at any time, a second run continues at the first missing shard.
    Raises: DataError when the clips are damaged or do not fit the base, a caption is missing, or the disk is too full.
    Raises it also when the output folder was made from another base, other clips, captions or views.
    """
    views = views or ViewSettings()
    index = ShardIndex.load(clips, "clips")
    height, width = encoded_size(index, views)
    settings = {**index.header["settings"], "height": height, "width": width}
    size = (settings["num_frames"], height, width)
    wan.geometry.latent_shape(*size)
    prompts = _prompt_of_each(index, captions)
    clip_of = _clip_of_each(index, views)
    check_latents_folder(clips, output_dir, wan.latents_fingerprint, captions, views)
    check_space(output_dir, bytes_left(index, output_dir, wan.geometry, views), "the latents")
    claim_shards(output_dir, "latents", [clips])
    if _read_made_from(output_dir) is None:
        write_json(output_dir / MADE_FROM_NAME, _made_from(index, wan.latents_fingerprint, captions, views))
        # Another run may have begun here with another base at the same moment.
        check_latents_folder(clips, output_dir, wan.latents_fingerprint, captions, views)
    own = index.captions if isinstance(captions, str) else {}
    default = {"caption": captions, "text_tokens": wan.files.text_tokens} if own else {}
    of_shard: list[list[Sample]] = [[] for _ in index.shards]
    for sample in index.samples:
        of_shard[sample.shard].append(sample)
    units = []
    for shard, samples in zip(index.shards, of_shard, strict=True):
        seen = [RECIPE, wan.latents_fingerprint, shard.sha256, *_chosen(views)]
        units.append(ShardUnit(output_dir / _latent_shard(shard), seen, samples))

    def entries_of(unit: ShardUnit) -> Iterator[Entry | Dropped]:
        return _encode_clips(unit, index, wan, prompts, batch_size, views)

    with one_plan(output_dir, units):
        _write_shared(output_dir, wan, prompts, size, default)
        records = make_shards_together(output_dir, units, entries_of)
        shown = {sample["key"]: clip_of[sample["key"]] for record in records for sample in record.samples}
        if not shown:
            discard_waiting(output_dir)
            reason = records[0].dropped[0]["reason"]
            raise DataError(f"{output_dir}: no view of {len(index)} clips could be made, {reason}")
        header = {
            "base": {"name": wan.name, "fingerprint": wan.latents_fingerprint},
            "geometry": asdict(wan.geometry),
            "settings": settings,
            "clips_sha256": index.sha256,
            **default,
            "prompts": {text: prompt_name(text) for text in _all_texts(prompts, default)},
            "prompt_of": {key: prompts[clip] for key, clip in shown.items()},
            "clip_of": {key: clip for key, clip in shown.items() if key != clip},
            "files": {name: sha256_file(output_dir / name) for name in (PROMPTS_NAME, CONSTANTS_NAME)},
        }
        content = write_index(output_dir, "latents", header, records)
    log.info("%s: %d entries of %d clips in %d shards", output_dir, len(shown), len(index), len(content["shards"]))
    for reason, count in sorted(Counter(drop["reason"] for drop in content["dropped"]).items()):
        log.warning("%d views left out: %s", count, reason)
    return content


def encoded_size(index: ShardIndex, views: ViewSettings) -> tuple[int, int]:
    """The (height, width) at which these clips are encoded. Raises: ConfigError when it is impossible."""
    settings = index.header["settings"]
    return views.size_hw((settings["height"], settings["width"]))


def bytes_left(index: ShardIndex, output_dir: Path, geometry: Geometry, views: ViewSettings) -> int:
    """Approximate bytes of the missing shards."""
    shape = geometry.latent_shape(index.header["settings"]["num_frames"], *encoded_size(index, views))
    cells = shape[1] * shape[2] * shape[3]
    per_entry = 2 * 2 * shape[0] * cells + cells + ENTRY_OVERHEAD_BYTES
    missing = sum(shard.count for shard in index.shards if not (output_dir / _latent_shard(shard)).is_file())
    return missing * views.per_clip * per_entry


def latents_are_current(
    clips: Path, output_dir: Path, fingerprint: str, captions: Captions, views: ViewSettings | None = None
) -> bool:
    """Whether `output_dir` is complete and was made from these clips, this base, these captions and these views."""
    made_from = _made_from(ShardIndex.load(clips, "clips"), fingerprint, captions, views or ViewSettings())
    return (output_dir / INDEX_NAME).is_file() and _read_made_from(output_dir) == made_from


def check_latents_folder(
    clips: Path, output_dir: Path, fingerprint: str, captions: Captions, views: ViewSettings | None = None
) -> None:
    """Check the output folder. Call this before weights are loaded.

    Raises: DataError when `output_dir` holds something else, or latents of another base, clips, captions or views.
    """
    refuse_shards(output_dir, "latents", [clips])
    before = _read_made_from(output_dir)
    if before is None:
        return
    what = {
        "base": "another base",
        "clips": "other clips",
        "captions": "other captions",
        "recipe": "an older version",
        "views": "other views or of another size",
    }
    now = _made_from(ShardIndex.load(clips, "clips"), fingerprint, captions, views or ViewSettings())
    for name in what:
        if before.get(name) != now.get(name):
            raise DataError(
                f"{output_dir}: holds latents of {what[name]} ({str(before.get(name))[:40]}, now "
                f"{str(now.get(name))[:40]}); choose another output folder or remove this one"
            )


def prompt_name(text: str) -> str:
    """The name of a prompt's tensor."""
    return sha256_json(text)[:16]


def inactive_name(f: int, h: int, w: int) -> str:
    """The name of the inactive half's tensor for a latent size."""
    return f"inactive_{f}x{h}x{w}"


def _latent_shard(shard: Shard) -> str:
    """The name of the latents' shard for a shard of clips."""
    return shard_name("latents", int(Path(shard.path).stem.rpartition("-")[2]))


def _encode_clips(
    unit: ShardUnit, index: ShardIndex, wan: WanModel, prompts: dict[str, str], batch_size: int, views: ViewSettings
) -> Iterator[Entry | Dropped]:
    """The latents of a shard's clips, and at its end the impossible views."""
    dropped: list[Dropped] = []
    shown = clips_ahead(index, unit.parts, views, dropped)
    bar = Progress(unit.path.stem, len(unit.parts) * views.per_clip, unit="view", leave=False)
    count = 0
    while batch := list(itertools.islice(shown, batch_size)):
        yield from _encode_batch(batch, wan, prompts)
        count += len(batch)
        bar.advance(len(batch))
    bar.close()
    log.info("%s: %d entries of %d clips", unit.name, count, len(unit.parts))
    yield from dropped


def _clip_of_each(index: ShardIndex, views: ViewSettings) -> dict[str, str]:
    """The clip of every possible entry, by key. Raises: DataError when two would have one key."""
    clip_of: dict[str, str] = {}
    for sample in index.samples:
        for key in (view_key(sample.key, ending) for ending in views.endings):
            if key in clip_of:
                raise DataError(f"{key}: a view of {sample.key}, and one of {clip_of[key]}; rename one of the clips")
            clip_of[key] = sample.key
    return clip_of


def _write_shared(
    output_dir: Path, wan: WanModel, prompts: dict[str, str], size: tuple[int, int, int], default: dict[str, Any]
) -> None:
    """Write texts and constants, by one process for all. Two kinds of GPU may give different bits."""
    mark = output_dir / SHARED_NAME
    files = [output_dir / name for name in (PROMPTS_NAME, CONSTANTS_NAME)]
    made_of = {"texts": _all_texts(prompts, default), "size": list(size), "base": wan.latents_fingerprint}

    def are_there(said: dict[str, Any]) -> bool:
        return said.get("made_of") == made_of and all(file.is_file() for file in files)

    def is_done(_: str) -> bool:
        said = find_json(mark) or {}
        return are_there(said) and said.get("seen") == sizes_and_times(files)

    for _ in share_work(["texts"], is_done, Claims(output_dir / CLAIMS_NAME), "texts"):
        said = find_json(mark) or {}
        # A copied folder has other times and the same bytes.
        if not are_there(said) or said.get("sha256") != [sha256_file(file) for file in files]:
            texts = save(_encode_texts(wan, _all_texts(prompts, default), is_cut=bool(default)))
            constants = save(_encode_constants(wan, size))
            # From here on the index would describe the old files, so it goes.
            (output_dir / INDEX_NAME).unlink(missing_ok=True)
            write_atomic(files[0], texts)
            write_atomic(files[1], constants)
        digests = [sha256_file(file) for file in files]
        write_json(mark, {"made_of": made_of, "sha256": digests, "seen": sizes_and_times(files)})


def _encode_batch(batch: list[ShownView], wan: WanModel, prompts: dict[str, str]) -> list[Entry]:
    video, pose = (_encode_member(batch, member, wan) for member in ("video", "pose"))
    entries = []
    for at, shown in enumerate(batch):
        height, width = shown.details["size_hw"]
        tensors = {
            "video": video[at],
            "pose": pose[at],
            "head_mask": head_mask(shown.details["head_boxes"], shown.clip.frames, height, width, wan.geometry),
        }
        details = {**shown.details, "prompt": prompts[shown.clip.key]}
        members = {"safetensors": save(tensors), "json": json.dumps(details, sort_keys=True).encode()}
        entries.append(Entry(shown.key, members, shown.clip.labels))
    return entries


def _encode_member(batch: list[ShownView], member: str, wan: WanModel) -> Tensor:
    """Raw latents of one member of each view, bf16 [B, C, f, h, w]."""
    latents = encode_pixels(wan.vae, torch.cat([to_pixels(getattr(shown, member)) for shown in batch]))
    if not torch.isfinite(latents).all():
        raise DataError(f"{member} of {', '.join(s.key for s in batch)}: the VAE made values that are not finite")
    return latents.to(torch.bfloat16).cpu().contiguous()


def _encode_texts(wan: WanModel, texts: list[str], is_cut: bool) -> dict[str, Tensor]:
    """is_cut: whether zeros after the end are dropped. They would be nine tenths of many captions' megabytes."""
    encoded = {}
    for text in progress(texts, "texts", unit="text", leave=False):
        embedding = encode_prompts(wan.tokenizer, wan.text_encoder, [text])[text].cpu()
        encoded[prompt_name(text)] = (cut_padding(embedding) if is_cut else embedding).contiguous()
    return encoded


def _encode_constants(wan: WanModel, size: tuple[int, int, int]) -> dict[str, Tensor]:
    """Encode constants for clips, and for single frames of the same size (photos)."""
    constants = {}
    for num_frames in sorted({1, size[0]}):
        _, f, h, w = wan.geometry.latent_shape(num_frames, *size[1:])
        constants[inactive_name(f, h, w)] = encode_grey(wan.vae, num_frames, *size[1:]).cpu().contiguous()
    return constants


def _prompt_of_each(index: ShardIndex, captions: Captions) -> dict[str, str]:
    if isinstance(captions, str):
        return {sample.key: captions for sample in index.samples} | index.captions
    missing = [sample.key for sample in index.samples if sample.key not in captions]
    if missing:
        raise DataError(f"captions: none for {len(missing)} clips, such as {missing[0]}; give one per key")
    return {sample.key: captions[sample.key] for sample in index.samples}


def _all_texts(prompts: dict[str, str], default: dict[str, Any]) -> list[str]:
    """All texts: the clips' own, the empty one (text dropout), the negative one (previews), and that of photos."""
    return sorted({*prompts.values(), "", DEFAULT_NEGATIVE_PROMPT, default.get("caption", "")})


def _made_from(index: ShardIndex, fingerprint: str, captions: Captions, views: ViewSettings) -> dict[str, Any]:
    captions = captions if isinstance(captions, str) else sha256_json(dict(captions))
    made_from = {"recipe": RECIPE, "base": fingerprint, "clips": index.sha256, "captions": captions}
    chosen = _chosen(views)
    return made_from | ({"views": chosen[0]} if chosen else {})


def _chosen(views: ViewSettings) -> list[dict[str, Any]]:
    """The views, if they differ from the default (the whole clip at its own size), which older folders hold."""
    return [] if views == ViewSettings() else [asdict(views)]


def _read_made_from(output_dir: Path) -> dict[str, Any] | None:
    try:
        return parse_json(read_bytes(output_dir / MADE_FROM_NAME))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{output_dir / MADE_FROM_NAME}: damaged ({error}); remove the folder") from error
