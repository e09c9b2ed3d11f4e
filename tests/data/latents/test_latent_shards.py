"""Clip shards to latent shards and back as samples."""

import json
import shutil

import numpy as np
import pytest
import torch
import webdataset
from safetensors.torch import load

from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.latent_shards import latents_are_current, write_latent_shards
from faceid.data.shards.index import ShardIndex
from faceid.errors import ConfigError, DataError
from faceid.media.video import decode_video_bytes
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.base.latent_codec import encode_pixels, to_pixels
from faceid.models.base.prompts import encode_prompts
from faceid.models.base.wan import load_wan

CAPTION = "a person dancing"


@pytest.fixture(scope="module")
def wan(toy_path):
    return load_wan(toy_path, ("vae", "text"), name="toy")


@pytest.fixture(scope="module")
def latents(clip_shards, wan, tmp_path_factory):
    output = tmp_path_factory.mktemp("latents") / "l"
    write_latent_shards(clip_shards, output, wan, CAPTION)
    return output


@pytest.fixture
def copy(latents, tmp_path):
    return shutil.copytree(latents, tmp_path / "copy")


def test_a_sample_holds_the_raw_latents_of_its_clip(clip_shards, latents, wan):
    samples = LatentSet.open(latents)
    assert (
        len(samples) == 3 and samples.geometry == wan.geometry and samples.base_fingerprint == wan.latents_fingerprint
    )
    clips = ShardIndex.load(clip_shards)
    for number in range(3):
        sample = samples[number]
        for member, stored in (("video.mp4", sample.video), ("pose.mp4", sample.pose)):
            pixels = to_pixels(decode_video_bytes(clips.read(sample.key, member)).frames)
            assert torch.equal(stored, encode_pixels(wan.vae, pixels)[0].to(torch.bfloat16))
        assert sample.video.shape == (16, 2, 4, 6) and sample.dancer == sample.key
    assert samples.dancers == ["dance_000", "dance_001", "dance_002"]


def test_the_inactive_half_is_the_encoded_grey_of_the_pipeline(latents, wan):
    samples = LatentSet.open(latents)
    for frames, f in ((5, 2), (1, 1)):
        expected = encode_pixels(wan.vae, torch.zeros(1, 3, frames, 32, 48))[0]
        assert torch.equal(samples.inactive(f, 4, 6), expected)
    assert torch.equal(samples[0].inactive, samples.inactive(2, 4, 6))
    with pytest.raises(DataError, match="inactive_3x4x6 is not stored"):
        samples.inactive(3, 4, 6)


def test_prompts_are_stored_once_with_the_empty_and_the_negative_one(latents, wan):
    samples = LatentSet.open(latents)
    expected = encode_prompts(wan.tokenizer, wan.text_encoder, [CAPTION, "", DEFAULT_NEGATIVE_PROMPT])
    for text, embedding in expected.items():
        assert torch.equal(samples.prompt(text), embedding)
    assert torch.equal(samples[1].prompt_embeds, expected[CAPTION])
    assert len(load((latents / "prompts.safetensors").read_bytes())) == 3
    with pytest.raises(DataError, match="prompt 'x' is not stored"):
        samples.prompt("x")


def test_captions_may_differ_by_key(clip_shards, wan, tmp_path):
    captions = {"dance_000": "one", "dance_001": "two", "dance_002": "one"}
    write_latent_shards(clip_shards, tmp_path / "l", wan, captions)
    samples = LatentSet.open(tmp_path / "l")
    assert torch.equal(samples[2].prompt_embeds, samples.prompt("one"))
    assert torch.equal(samples[1].prompt_embeds, samples.prompt("two"))
    assert samples.caption == "one" and samples.keys == list(captions)
    with pytest.raises(DataError, match="none for 1 clips, such as dance_002"):
        write_latent_shards(clip_shards, tmp_path / "m", wan, {"dance_000": "one", "dance_001": "two"})


def test_head_masks_follow_the_boxes(latents):
    samples = LatentSet.open(latents)
    assert samples[0].head_mask.shape == (2, 4, 6) and samples[0].head_mask.dtype == torch.uint8
    # The box 20..28 x 8..16 px is cells 2..3 x 1.
    assert samples[0].head_mask.nonzero()[:, 1:].unique(dim=0).tolist() == [[1, 2], [1, 3]]
    assert samples[1].head_mask.sum() == 0


def test_every_bit_flip_in_a_latent_shard_is_noticed(copy):
    path = copy / "latents-000000.tar"
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for position, bit in zip(random.integers(len(data), size=300), random.integers(8, size=300), strict=True):
        flipped = bytearray(data)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"latents-000000\.tar: sha256"):
            LatentSet.open(copy)[0]


@pytest.mark.parametrize("name", ["prompts.safetensors", "constants.safetensors"])
def test_damage_in_what_is_shared_is_noticed(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(DataError, match=name):
        LatentSet.open(copy)


def test_a_second_run_changes_nothing(clip_shards, copy, wan):
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in copy.iterdir() if f.is_file()}
    write_latent_shards(clip_shards, copy, wan, CAPTION)
    after = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in copy.iterdir() if f.is_file()}
    assert after == before


def test_a_killed_run_continues_at_the_first_missing_shard(clip_shards, latents, copy, wan):
    # What a kill leaves: no index, one shard with its record, one shard torn after its tar and before its record.
    (copy / "index.json").unlink()
    (copy / "latents-000001.json").unlink()
    (copy / "latents-000001.tar").write_bytes(b"x")
    kept = (copy / "latents-000000.tar").stat().st_mtime_ns
    write_latent_shards(clip_shards, copy, wan, CAPTION)
    assert (copy / "latents-000000.tar").stat().st_mtime_ns == kept
    for name in ("latents-000001.tar", "index.json"):
        assert (copy / name).read_bytes() == (latents / name).read_bytes()


def test_a_damaged_shard_is_made_again(clip_shards, latents, copy, wan):
    data = bytearray((copy / "latents-000000.tar").read_bytes())
    data[2000] ^= 4
    (copy / "latents-000000.tar").write_bytes(data)
    write_latent_shards(clip_shards, copy, wan, CAPTION)
    assert (copy / "latents-000000.tar").read_bytes() == (latents / "latents-000000.tar").read_bytes()


def test_batches_give_what_single_clips_give(clip_shards, latents, wan, tmp_path):
    write_latent_shards(clip_shards, tmp_path / "l", wan, CAPTION, batch_size=2)
    one, two = LatentSet.open(latents), LatentSet.open(tmp_path / "l")
    for number in range(3):
        torch.testing.assert_close(one[number].video.float(), two[number].video.float(), atol=0.02, rtol=0.01)


def test_a_folder_of_another_base_clips_or_captions_is_refused(clip_shards, copy, wan, tmp_path):
    with pytest.raises(DataError, match="latents of other captions"):
        write_latent_shards(clip_shards, copy, wan, "another text")
    other = load_wan(wan.files.path, ("vae", "text"))
    vars(other.files)["latents_fingerprint"] = "0" * 64  # as of another VAE
    with pytest.raises(DataError, match="latents of another base"):
        write_latent_shards(clip_shards, copy, other, CAPTION)
    assert latents_are_current(clip_shards, copy, wan.latents_fingerprint, CAPTION)
    assert not latents_are_current(clip_shards, copy, other.latents_fingerprint, CAPTION)
    assert not latents_are_current(clip_shards, tmp_path / "none", wan.latents_fingerprint, CAPTION)


def test_clips_that_do_not_fit_the_base_are_refused_first(clip_shards, wan, tmp_path, monkeypatch):
    odd = shutil.copytree(clip_shards, tmp_path / "odd")
    content = json.loads((odd / "index.json").read_text())
    content["settings"]["num_frames"] = 6
    from faceid.data.shards.index import index_sha256

    content["sha256"] = index_sha256(content)
    (odd / "index.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="use 5 or 9"):
        write_latent_shards(odd, tmp_path / "l", wan, CAPTION)
    assert not (tmp_path / "l").exists()


def test_webdataset_reads_latent_shards(latents):
    index = ShardIndex.load(latents)
    paths = [str(latents / shard.path) for shard in index.shards]
    found = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
    assert [sample["safetensors"] for sample in found] == [index.read(n, "safetensors") for n in range(3)]


@pytest.mark.starts_process
def test_samples_are_the_same_from_workers(latents):
    samples = LatentSet.open(latents)
    loader = torch.utils.data.DataLoader(samples, batch_size=None, num_workers=2)
    for number, sample in enumerate(loader):
        assert torch.equal(sample.video, samples[number].video)
