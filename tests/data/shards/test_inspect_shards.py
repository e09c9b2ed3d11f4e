"""Shards can be looked into: listed, verified, seen."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from calling import command_module
from PIL import Image

from faceid.data.latents.latent_shards import write_latent_shards
from faceid.errors import ConfigError, DataError
from faceid.models.base.wan import load_wan

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def inspect():
    """The tool, called in this process."""
    module = command_module("tools/inspect_shards.py")
    return lambda *words: module.main([str(word) for word in words])


def test_every_entry_is_listed(inspect, clip_shards, capsys):
    assert inspect("--shards", clip_shards, "--list_entries") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["key"] for row in rows] == ["dance_000", "dance_001", "dance_002"]
    assert rows[2]["shard"] == "clips-000001.tar" and rows[0]["frames"] == "5" and int(rows[0]["bytes"]) > 1000


def test_every_damaged_shard_is_named(inspect, clip_shards, tmp_path):
    assert inspect("--shards", clip_shards, "--verify") == 0
    copy = shutil.copytree(clip_shards, tmp_path / "copy")
    for name in ("clips-000000.tar", "clips-000001.tar"):
        data = bytearray((copy / name).read_bytes())
        data[700] ^= 1
        (copy / name).write_bytes(data)
    with pytest.raises(DataError, match=r"2 of 2 shards damaged: clips-000000\.tar, clips-000001\.tar"):
        inspect("--shards", copy, "--verify")


def test_clips_and_their_heads_are_drawn(inspect, clip_shards, tmp_path):
    inspect("--shards", clip_shards, "--sheet", tmp_path / "sheet.png", "--keys", "[dance_000]", "--num_columns", 3)
    picture = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    # A row of video and one of pose: a label and three frames of 48x32 at four times the size.
    assert picture.shape == (2 * 128 + 8, 140 + 3 * 192, 3)
    # The clip's frames have red floors and a grey blob; a head's box is tinted red.
    red = [
        picture[:128, 140 + 192 * n : 332 + 192 * n, 0] - picture[:128, 140 + 192 * n : 332 + 192 * n, 1]
        for n in range(3)
    ]
    assert max(part.max() for part in red) > 40


def test_latents_are_decoded_by_their_own_base_and_no_other(inspect, clip_shards, toy_path, tmp_path):
    wan = load_wan(toy_path, ("vae", "text"), name="toy")
    write_latent_shards(clip_shards, tmp_path / "latents", wan, "a person")
    words = ("--shards", tmp_path / "latents", "--num_entries", 2, "--num_columns", 2, "--model_path")
    inspect(*words, toy_path, "--sheet", tmp_path / "sheet.png")
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[0] == 2 * (3 * 128 + 8)
    other = shutil.copytree(toy_path, tmp_path / "other")
    config = other / "vae/config.json"
    config.write_text(config.read_text().replace("0.1", "0.2"))
    with pytest.raises(ConfigError, match="these latents are of toy"):
        inspect(*words, other, "--sheet", tmp_path / "other.png")


def test_a_sheet_that_is_no_picture_is_refused(inspect, clip_shards):
    with pytest.raises(ConfigError, match=r"sheet=a\.jpg: a picture is written"):
        inspect("--shards", clip_shards, "--sheet", "a.jpg")


def test_an_unknown_key_is_named(inspect, clip_shards, tmp_path):
    with pytest.raises(DataError, match="no sample 'nobody'"):
        inspect("--shards", clip_shards, "--sheet", tmp_path / "x.png", "--keys", "[nobody]")
