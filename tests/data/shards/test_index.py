"""The index is what is trusted: damage is noticed, and nothing outside it is reached."""

import json
import shutil

import numpy as np
import pytest

from faceid.data.shards.index import ShardIndex, index_sha256
from faceid.errors import DataError


@pytest.fixture
def copy(clip_shards, tmp_path):
    return shutil.copytree(clip_shards, tmp_path / "copy")


def edit(folder, change):
    """Change the index and give it a checksum that fits, as a careful attacker would."""
    content = json.loads((folder / "index.json").read_text())
    change(content)
    content["sha256"] = index_sha256(content)
    (folder / "index.json").write_text(json.dumps(content))


def test_every_bit_flip_in_a_shard_is_noticed(copy):
    path = copy / "clips-000000.tar"
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for position, bit in zip(random.integers(len(data), size=200), random.integers(8, size=200), strict=True):
        flipped = bytearray(data)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"clips-000000\.tar: sha256 [0-9a-f]{16}.*the index says"):
            ShardIndex.load(copy).read("dance_000", "json")


def test_every_bit_flip_in_the_index_is_noticed(copy):
    path = copy / "index.json"
    data = path.read_bytes()
    content = json.loads(data)
    random = np.random.default_rng(1)
    for position, bit in zip(random.integers(len(data), size=300), random.integers(8, size=300), strict=True):
        flipped = bytearray(data)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            index = ShardIndex.load(copy)
        except DataError:
            continue
        # White space between values is the only thing that may change unnoticed.
        assert json.loads(flipped) == content and index.sha256 == content["sha256"]


def test_a_cut_shard_names_both_sizes(copy):
    path = copy / "clips-000001.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"clips-000001\.tar: \d+ bytes, the index says \d+"):
        ShardIndex.load(copy).read("dance_002", "json")


def test_a_damaged_shard_does_not_stop_the_others(copy):
    (copy / "clips-000001.tar").write_bytes(b"")
    assert ShardIndex.load(copy).read("dance_000", "json")


def test_a_missing_shard_is_named(copy):
    (copy / "clips-000000.tar").unlink()
    with pytest.raises(DataError, match=r"clips-000000\.tar: missing"):
        ShardIndex.load(copy).verify_all()


@pytest.mark.parametrize("name", ["../clips-000000.tar", "/etc/passwd", "pipe:ls", "clips-000000.tar.gz", 7])
def test_shard_names_that_are_not_plain_are_refused(copy, name):
    edit(copy, lambda content: content["shards"][0].update(path=name))
    with pytest.raises(DataError, match="not an index of ours"):
        ShardIndex.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["samples"][0]["members"].update({"json": [0, 1 << 40]}),
        lambda c: c["samples"][0]["members"].update({"json": [-1, 10]}),
        lambda c: c["samples"][0]["members"].update({"pkl": [0, 10]}),
        lambda c: c["samples"][0].update(key="../x"),
        lambda c: c["samples"][0].update(shard=9),
        lambda c: c["samples"].append(c["samples"][0]),
        lambda c: c["shards"][0].update(count=3),
        lambda c: c.pop("samples"),
        lambda c: c["samples"][0].pop("dancer"),
    ],
)
def test_entries_that_cannot_be_are_refused(copy, change):
    edit(copy, change)
    with pytest.raises(DataError, match="not an index of ours"):
        ShardIndex.load(copy)


def test_an_unknown_key_or_member_is_named(clip_shards):
    index = ShardIndex.load(clip_shards)
    with pytest.raises(DataError, match="no sample 'nobody'"):
        index.read("nobody", "json")
    with pytest.raises(DataError, match=r"has no safetensors, only json, pose\.mp4, video\.mp4"):
        index.read("dance_000", "safetensors")


def test_the_other_kind_is_refused(clip_shards):
    with pytest.raises(DataError, match="holds clips, not latents"):
        ShardIndex.load(clip_shards, "latents")


@pytest.mark.parametrize("how", ["written into", "exchanged", "folder exchanged"])
def test_a_shard_that_changes_while_it_is_used_is_noticed(copy, tmp_path, how):
    """A run opens its index once, and reads for days."""
    index = ShardIndex.load(copy)
    first = index.read("dance_000", "json")
    path = copy / "clips-000000.tar"
    changed = path.read_bytes().replace(b"dance_000", b"dance_009")
    if how == "written into":
        with path.open("r+b") as file:
            file.write(changed)
    elif how == "exchanged":
        (copy / "new").write_bytes(changed)
        (copy / "new").replace(path)
    else:
        other = shutil.copytree(copy, tmp_path / "other")
        (other / path.name).write_bytes(changed)
        copy.rename(tmp_path / "old")
        other.rename(copy)
    with pytest.raises(DataError, match=r"clips-000000\.tar: sha256 .*the index says"):
        index.read("dance_000", "json")
    # One that is only newer is read through once more.
    fresh = ShardIndex.load(tmp_path / "old" if how == "folder exchanged" else copy)
    if how == "folder exchanged":
        assert fresh.read("dance_000", "json") == first
        (tmp_path / "old" / path.name).touch()
        assert fresh.read("dance_000", "json") == first
