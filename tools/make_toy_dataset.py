"""Write a toy dataset: drawn people, their photos, dance clips and pose videos, in the product's own formats."""

from __future__ import annotations

import sys

from faceid.config import parse_sections
from faceid.errors import run_entry_point
from faceid.logs import set_up_logging
from faceid.toy.toy_settings import ToyClipSettings, ToySettings


def main(argv: list[str] | None = None) -> int:
    settings, clips = parse_sections(
        "make_toy_dataset.py",
        __doc__ or "",
        [ToySettings, ToyClipSettings],
        sys.argv[1:] if argv is None else argv,
    )
    # Heavy imports come only once the command line is known to be good.
    from faceid.toy.dataset import TARGET, write_toy_dataset

    set_up_logging()
    world = write_toy_dataset(settings, clips)
    folder, size = settings.output_dir, f"{clips.width}x{clips.height}"
    print(f"{folder}/photos: {settings.photos_per_person} photos each of {len(world['people'])} people")
    if settings.with_target:
        print(f"{folder}/photos/{TARGET}: the person to learn, who is in no clip")
    print(f"{folder}/videos: {len(world['clips'])} clips of {clips.num_frames} frames, {size}, with head boxes")
    print(f"{folder}/poses: their pose videos")
    if clips.target_clips:
        print(f"{folder}/target_videos, target_poses: {clips.target_clips} clips of the person to learn, to measure by")
    if world["bad_photos"]:
        print(f"{folder}/world.json: names the {len(world['bad_photos'])} bad photos, and everyone's parameters")
    return 0


if __name__ == "__main__":
    run_entry_point(main)
