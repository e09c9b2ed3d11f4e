"""Look into shards: list their entries, verify every byte, draw a contact sheet of some."""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from pydantic.dataclasses import dataclass

from faceid.config import Reason, parse_sections, warn_of_unused
from faceid.data.shards.index import ShardIndex
from faceid.errors import ConfigError, DataError, run_entry_point
from faceid.files.outputs import refuse_file, staged_file
from faceid.limits import AtOnce
from faceid.logs import progress, set_up_logging

log = logging.getLogger("faceid.tools.inspect_shards")


@dataclass(frozen=True)
class InspectSettings:
    """Which shards, and what is wanted of them."""

    shards: Path
    """Folder of clip shards, of latent shards, or a face bank."""
    list_entries: bool = False
    """Print a line per entry as CSV: key, shard, dancer, genre, camera, frames, bytes."""
    verify: bool = False
    """Compare every shard with the index by size and sha256. Exit 2 when any differ, after naming all of them."""
    sheet: Path | None = None
    """A .png to write. It has rows of video, pose and head; of latents, head masks and decoded frames; or of faces."""
    shared: bool = False
    """Let others on this machine look at the sheet, which shows faces. By default only you can."""
    keys: list[str] = field(default_factory=list)
    """Entries for the sheet, [a, b]. Default: some from all over the folder."""
    num_entries: AtOnce = 4
    """Entries on the sheet when no keys are given."""
    num_columns: AtOnce = 5
    """Frames of each, evenly spaced."""
    model_path: str | None = None
    """Base whose VAE decodes latents for the sheet. `toy`: the embedded one."""
    device: str = "auto"
    """Where latents are decoded: auto, cpu, cuda."""

    def __post_init__(self) -> None:
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise ConfigError(f"sheet={self.sheet}: a picture is written; name a .png file")


def main(argv: list[str] | None = None) -> int:
    """Parse, open the index, do what the flags ask."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/inspect_shards.py", __doc__ or "", [InspectSettings], words)
    set_up_logging()
    if settings.sheet is not None:
        refuse_file(settings.sheet, key="sheet")
    index = ShardIndex.load(settings.shards)
    warn_of_unused([settings], _unused(settings, index))
    dropped, people = len(index.header.get("dropped", [])), {sample.dancer for sample in index.samples}
    log.info(
        "%s: %s, %d entries of %d dancers in %d shards, %.1f MB, %d dropped",
        settings.shards,
        index.kind,
        len(index),
        len(people),
        len(index.shards),
        sum(shard.size for shard in index.shards) / 1e6,
        dropped,
    )
    if settings.list_entries:
        _list(index)
    if settings.verify:
        _verify(index)
    if settings.sheet is not None:
        _draw(index, settings, settings.sheet)
    return 0


def _draw(index: ShardIndex, settings: InspectSettings, sheet: Path) -> None:
    # Importing these takes seconds, and only a sheet needs them.
    from PIL import Image

    from faceid.data.clips.contact_sheet import draw_sheet
    from faceid.data.order import spread

    numbers = [index.number(key) for key in settings.keys] or spread(len(index), settings.num_entries)
    decode = None
    if settings.model_path is not None and index.kind == "latents":
        from faceid.data.latents.latent_frames import latent_decoder
        from faceid.toy.shipped import resolve_model_path

        base = resolve_model_path(settings.model_path)
        decode = latent_decoder(index, base, settings.model_path, settings.device)
    picture = draw_sheet(index, numbers, settings.num_columns, decode)
    with staged_file(sheet, private=not settings.shared) as temporary:
        Image.fromarray(picture).save(temporary)
    log.info("%s: %d entries", sheet, len(numbers))


def _list(index: ShardIndex) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("key", "shard", "dancer", "genre", "camera", "frames", "bytes"))
    for sample in index.samples:
        size = sum(size for _, size in sample.members.values())
        shard = index.shards[sample.shard].path
        table.writerow((sample.key, shard, sample.dancer, sample.genre, sample.camera, sample.frames, size))


def _verify(index: ShardIndex) -> None:
    damaged = []
    for number in progress(range(len(index.shards)), "verify", unit="shard"):
        try:
            index.verify(number)
        except DataError as error:
            log.error("%s", error)
            damaged.append(index.shards[number].path)
    if damaged:
        raise DataError(f"{index.folder}: {len(damaged)} of {len(index.shards)} shards damaged: {', '.join(damaged)}")
    log.info("%s: all %d shards are what the index says", index.folder, len(index.shards))


def _unused(settings: InspectSettings, index: ShardIndex) -> Iterator[Reason]:
    if index.kind != "latents":
        yield "model_path", "on clips, which are not decoded by a VAE"
    if settings.sheet is None:
        for name in ("keys", "model_path", "num_entries", "num_columns", "shared"):
            yield name, "without --sheet"
    if settings.keys:
        yield "num_entries", "with --keys, which name them"
    if settings.model_path is None or index.kind != "latents":
        yield "device", "without latents to decode: give --model_path and --sheet"


if __name__ == "__main__":
    run_entry_point(main)
