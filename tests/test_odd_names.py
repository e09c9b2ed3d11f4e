"""Files whose names are bytes of another encoding, and no text: named, and the rest is used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from calling import refused
from nothing_lost import COMMANDS, Command
from PIL import Image
from test_nothing_lost import named, out_of, place, run, shared_world, world  # noqa: F401

from faceid.media import listing

ODD = os.fsdecode(b"bad\xff")
READ_BY_FOLDER = ["identity", "verification", "split", "poses", "shards", "face bank", "audit", "evaluation"]


@pytest.mark.parametrize("command", named(c for c in COMMANDS if c.name in READ_BY_FOLDER))
@pytest.mark.slow
def test_a_name_that_is_no_text_is_passed_over_and_said(command: Command, shared_world, place):  # noqa: F811
    kinds = {"photos": ["target", "d01"], "videos": [""], "poses": [""], "references": ["target", "d01"]}
    odd: list[Path] = []
    for kind, inner in kinds.items():
        for folder in [shared_world.dataset / kind / name for name in inner]:
            for file in sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".mp4"))[:1]:
                end = "_pose" if kind == "poses" else ""
                odd.append(Path(shutil.copy(file, folder / f"{ODD}{end}{file.suffix}")))
    # Said once in a process; the folders are the same for each command.
    listing._say_once.cache_clear()
    try:
        ended = run(command, shared_world, out_of(command, place))
    finally:
        for file in odd:
            file.unlink()
    assert ended.code == 0, ended.screen[-2000:]
    assert "whose names are not UTF-8; rename them: bad\\udcff" in ended.screen


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10), (1, 2_000)])
def test_a_picture_of_a_few_pixels_beside_the_photos_is_dropped(size, shared_world, place):  # noqa: F811
    command = next(each for each in COMMANDS if each.name == "identity")
    small = shared_world.photos() / "pixel.png"
    Image.new("RGB", size).save(small)
    try:
        ended = run(command, shared_world, out_of(command, place))
    finally:
        small.unlink()
    assert ended.code == 0 and "no face found" in (place / "out" / "report.html").read_text()


@pytest.mark.parametrize("command", named(COMMANDS))
def test_a_flag_that_is_no_text_is_refused_by_name(command, shared_world, place):  # noqa: F811
    refused(
        run(command, shared_world, place / f"{ODD}{command.suffix}"), "bad\\udcff", "not text in UTF-8", "rename it"
    )
    assert not list(place.iterdir())
