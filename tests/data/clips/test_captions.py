"""Captions beside clips and photos: read, counted, trained with, and never ignored in silence."""

import json
import logging
import shutil

import pytest
import torch
from drawn_clips import SETTINGS, add_clips
from drawn_photos import face_photos
from safetensors.torch import load_file

from faceid.data.clip_settings import CaptionSettings
from faceid.data.clips.captions import captions_for, read_caption
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.latent_shards import latents_are_current, write_latent_shards
from faceid.data.latents.photo_latents import encode_photos, photo_latents_are_current, read_photo_latents
from faceid.data.latents.view_settings import ViewSettings
from faceid.data.shards.index import ShardIndex
from faceid.errors import DataError
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT
from faceid.models.base.prompts import encode_prompts
from faceid.models.base.wan import load_wan

OWN, OTHERS = "a woman spins in the snow, 雪", "a person dancing"


@pytest.fixture(scope="module")
def wan(toy_path):
    return load_wan(toy_path, ("vae", "text"), name="toy")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory, wan):
    """Three clips, one with a caption of its own; their shards and latents."""
    root = tmp_path_factory.mktemp("captioned")
    videos, poses = add_clips(root, 3)
    (videos / "dance_001.txt").write_text(f"\ufeff{OWN[:14]}\n  {OWN[14:]}\n\n", encoding="utf-8")
    # What lies beside the pose says nothing of the clip.
    (poses / "dance_000.txt").write_text("of the pose")
    (poses / "dance_000_pose.txt").write_text("of the pose")
    write_clip_shards(videos, poses, root / "shards", SETTINGS)
    write_latent_shards(root / "shards", root / "latents", wan, OTHERS)
    return root


@pytest.fixture
def made(made_once, tmp_path):
    return shutil.copytree(made_once, tmp_path / "copy")


def remake(root, **more):
    return write_clip_shards(root / "videos", root / "poses", root / "shards", SETTINGS, **more)


@pytest.mark.fault("M12")
def test_a_clips_caption_goes_through_shards_and_latents_and_the_others_have_the_common_one(made_once, wan):
    clips = ShardIndex.load(made_once / "shards")
    assert clips.captions == {"dance_001": OWN}
    assert json.loads(clips.read("dance_001", "json"))["caption"] == OWN
    assert "caption" not in json.loads(clips.read("dance_000", "json"))
    latents = LatentSet.open(made_once / "latents")
    expected = encode_prompts(wan.tokenizer, wan.text_encoder, [OWN, OTHERS, "", DEFAULT_NEGATIVE_PROMPT])
    # One embedding for each distinct text, and what is stored of it is what the base is given.
    assert len(load_file(made_once / "latents/prompts.safetensors")) == 4
    for text, embedding in expected.items():
        assert torch.equal(latents.prompt(text), embedding)
    for number, text in enumerate((OTHERS, OWN, OTHERS)):
        assert torch.equal(latents[number].prompt_embeds, expected[text])
    # What photos without one are trained with, and not whatever the first clip has.
    assert (latents.caption, latents.num_captioned) == (OTHERS, 1)


@pytest.mark.fault("M12")
def test_where_every_clip_has_its_own_the_common_one_is_there_for_photos(made, wan):
    for name in ("dance_000", "dance_002"):
        (made / "videos" / f"{name}.txt").write_text("of its own")
    remake(made)
    write_latent_shards(made / "shards", made / "all own", wan, OTHERS, views=ViewSettings(flips=True))
    latents = LatentSet.open(made / "all own")
    assert latents.caption == OTHERS and latents.prompt(OTHERS).shape == latents.prompt("").shape
    assert set(latents.index.header["prompt_of"].values()) == {OWN, "of its own"} and latents.num_captioned == 3


@pytest.mark.fault("M12")
def test_a_changed_caption_is_noticed_when_shards_and_latents_are_made_again(made, wan):
    assert latents_are_current(made / "shards", made / "latents", wan.latents_fingerprint, OTHERS)
    for change in (lambda file: file.write_text("another"), lambda file: file.unlink()):
        change(made / "videos/dance_001.txt")
        remake(made)
        assert not latents_are_current(made / "shards", made / "latents", wan.latents_fingerprint, OTHERS)
        with pytest.raises(DataError, match="holds latents of other clips"):
            write_latent_shards(made / "shards", made / "latents", wan, OTHERS)
    assert ShardIndex.load(made / "shards").captions == {}


@pytest.mark.fault("M12")
def test_captions_are_ignored_where_that_is_asked_and_said(made, wan, caplog):
    settings = CaptionSettings(caption=OTHERS, caption_files="ignore")
    index = ShardIndex.load(made / "shards")
    ignored = captions_for(index, settings)
    assert ignored == dict.fromkeys(("dance_000", "dance_001", "dance_002"), OTHERS)
    assert captions_for(index, CaptionSettings(caption=OTHERS)) == OTHERS
    assert not latents_are_current(made / "shards", made / "latents", wan.latents_fingerprint, ignored)
    # A caption that could not be read is no hindrance then.
    (made / "videos/dance_002.txt").write_bytes(b"\xff\xfe")
    with caplog.at_level(logging.WARNING, "faceid"):
        remade = remake(made, caption_files="ignore")
    assert "2 captions beside clips are not read: --caption_files ignore" in caplog.text
    assert all("caption" not in sample for sample in remade["samples"])
    assert captions_for(ShardIndex.load(made / "shards"), settings) == OTHERS


@pytest.mark.fault("M12")
def test_how_many_have_a_caption_is_said_and_a_mistyped_name_too(made, caplog):
    (made / "videos/dance_01.txt").write_text("of no clip")
    (made / "videos/dance_002.TXT").write_text("of no clip")
    with caplog.at_level(logging.INFO, "faceid"):
        remake(made)
    assert "1 of 3 clips have a caption of their own (NAME.txt beside them)" in caplog.text
    assert "2 .txt files are the caption of nothing there, such as dance_002.TXT" in caplog.text


@pytest.mark.fault("M12")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the caption is empty; write what is to be seen"),
        (b" \n\t", "the caption is empty"),
        ("\u200b".encode(), "the caption is empty"),
        ("café".encode("latin-1"), r"the caption is not UTF-8 \(byte 3\); save it as UTF-8"),
        ("dance".encode("utf-16-le"), "holds control characters"),
        (b"x" * 20_001, "over 20000 bytes"),
        (None, "no file .a folder, pipe or broken link.*caption_files ignore"),
    ],
)
def test_a_caption_that_cannot_be_used_is_an_error_and_no_clip_left_out(made, content, said):
    file = made / "videos/dance_001.txt"
    file.unlink()
    if content is None:
        file.symlink_to("gone.txt")
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match=f"dance_001.txt: .*{said}") as refusal:
        remake(made)
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match=r"dance_001\.txt"):
        read_caption(file)


@pytest.mark.fault("M12")
def test_a_photos_caption_is_encoded_beside_it_and_a_changed_one_noticed(wan, tmp_path):
    plain, front = face_photos(), {"front.jpg": OWN}
    photos = [type(photo)(**{**vars(photo), "caption": front.get(photo.key)}) for photo in plain]
    encode_photos(photos, tmp_path / "photos", wan, 32, 48)
    found = read_photo_latents(tmp_path / "photos", wan.latents_fingerprint)
    (expected,) = encode_prompts(wan.tokenizer, wan.text_encoder, [OWN]).values()
    assert torch.equal(found["front.jpg"].prompt_embeds, expected) and found["front.jpg"].caption == OWN
    assert found["side.jpg"].prompt_embeds is None and found["side.jpg"].caption is None

    def are_current(captions):
        hashes = {photo.key: photo.sha256 for photo in plain}
        return photo_latents_are_current(tmp_path / "photos", hashes, wan.latents_fingerprint, 32, 48, captions)

    assert are_current(front)
    assert not are_current({}) and not are_current(None) and not are_current({"front.jpg": "another"})


@pytest.mark.fault("M12")
def test_a_caption_longer_than_the_base_reads_is_said(wan, caplog):
    with caplog.at_level(logging.WARNING, "faceid"):
        encode_prompts(wan.tokenizer, wan.text_encoder, ["a word " * 600 + "the end"])
        assert "its end is left out: ..." in caplog.text and "the end" in caplog.text
        caplog.clear()
        encode_prompts(wan.tokenizer, wan.text_encoder, ["a word"])
    assert not caplog.text
