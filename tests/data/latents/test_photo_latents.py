"""Photos to single-frame latents."""

import pytest
import torch
from drawn_photos import face_photos

from faceid.data.latents.photo_latents import (
    encode_photos,
    photo_latents_are_current,
    read_photo_latents,
    views_of,
)
from faceid.errors import DataError
from faceid.files.documents import read_json
from faceid.media.pixels.fit import resize_frames
from faceid.models.base.latent_codec import encode_pixels, to_pixels
from faceid.models.base.wan import load_wan


@pytest.fixture(scope="module")
def wan(toy_path):
    return load_wan(toy_path, ("vae",), name="toy")


@pytest.fixture
def folder(wan, tmp_path):
    encode_photos(face_photos(), tmp_path / "photos", wan, 32, 48)
    return tmp_path / "photos"


def test_photos_are_cropped_around_the_face_and_encoded_as_one_frame(folder, wan):
    photos = read_photo_latents(folder, wan.latents_fingerprint)
    assert list(photos) == ["front.jpg", "side.jpg"]
    # 60 wide in 3:2 leaves 40 of 80 rows, the topmost ones; 40 high leaves 60 of 90 columns, the middle ones.
    windows = [face_photos()[0].pixels[:40], face_photos()[1].pixels[:, 15:75]]
    for window, photo in zip(windows, photos.values(), strict=True):
        expected = encode_pixels(wan.vae, to_pixels(resize_frames(window[None], 32, 48, "stretch")))[0]
        assert photo.latent.shape == (16, 1, 4, 6) and torch.equal(photo.latent, expected.to(torch.bfloat16))


def test_the_head_mask_holds_the_face_and_its_hair(folder, wan):
    """By the face alone a bun, a hat or an afro would hardly be learnt from photos."""
    mask = read_photo_latents(folder, wan.latents_fingerprint)["front.jpg"].head_mask
    # The face 20..40 x 0..30 of the window 60 x 40 is 16..32 x 0..24 px. Its head is 9..39 x -8..27 px, and holds the
    # centres of the cells 1..4 x 0..2.
    assert mask.shape == (1, 4, 6)
    _, rows, columns = mask.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 2, 1, 4)


def test_another_base_and_damage_are_refused(folder, wan):
    with pytest.raises(DataError, match="encoded with base"):
        read_photo_latents(folder, "0" * 64)
    path = folder / "photos.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        read_photo_latents(folder, wan.latents_fingerprint)


def test_a_folder_knows_what_it_was_made_from(folder, wan, tmp_path):
    photos = {photo.key: photo.sha256 for photo in face_photos()}
    assert photo_latents_are_current(folder, photos, wan.latents_fingerprint, 32, 48)
    assert not photo_latents_are_current(folder, photos, wan.latents_fingerprint, 48, 32)
    assert not photo_latents_are_current(folder, photos, "0" * 64, 32, 48)
    assert not photo_latents_are_current(folder, {**photos, "side.jpg": "0"}, wan.latents_fingerprint, 32, 48)
    assert not photo_latents_are_current(tmp_path / "none", photos, wan.latents_fingerprint, 32, 48)


@pytest.mark.parametrize("photos", [[], face_photos()[:1] * 2])
def test_no_photos_or_a_repeated_key_is_an_error(wan, tmp_path, photos):
    with pytest.raises(DataError, match="distinct names: at least one, each with its own"):
        encode_photos(photos, tmp_path / "p", wan, 32, 48)


class TestViews:
    def test_every_framing_at_every_size_and_the_plain_one_keeps_the_photos_name(self, wan, tmp_path):
        views = views_of(["photo", "head"], [1.0, 0.5], (64, 96), wan.geometry.size_multiple_px)
        assert [(view.framing, view.height, view.width) for view in views] == [
            *(("photo", 64, 96), ("photo", 32, 48)),
            *(("head", 64, 96), ("head", 32, 48)),
        ]
        encode_photos(face_photos(), tmp_path / "photos", wan, 64, 96, views)
        found = read_photo_latents(tmp_path / "photos", wan.latents_fingerprint)
        assert [key for key in found if "@" not in key] == ["front.jpg", "side.jpg"] and len(found) == 8
        assert {latent.photo for latent in found.values()} == {"front.jpg", "side.jpg"}
        small = found["side.jpg@head-48x32"]
        scale = wan.geometry.spatial_factor
        assert small.latent.shape[2:] == (32 // scale, 48 // scale)
        # No clip is of that size, so the photo brings the constant half along.
        assert small.inactive.shape == small.latent.shape and found["side.jpg"].inactive is None

    def test_a_head_fills_its_view_wherever_it_is_in_the_photo(self, wan, tmp_path):
        encode_photos(face_photos(), tmp_path / "photos", wan, 32, 48, views_of(["head"], [1.0], (32, 48), 8))
        for latent in read_photo_latents(tmp_path / "photos", wan.latents_fingerprint).values():
            _, rows, columns = latent.head_mask.nonzero(as_tuple=True)
            _, h, w = latent.head_mask.shape
            assert rows.max() - rows.min() + 1 >= 0.4 * h and abs(float(columns.float().mean()) - (w - 1) / 2) < 1

    def test_other_views_are_made_anew_and_the_plain_ones_of_before_are_not(self, folder, wan):
        photos = {photo.key: photo.sha256 for photo in face_photos()}
        plain, both = (views_of(how, [1.0], (32, 48), 8) for how in (["photo"], ["photo", "head"]))
        assert photo_latents_are_current(folder, photos, wan.latents_fingerprint, 32, 48, views=plain)
        assert not photo_latents_are_current(folder, photos, wan.latents_fingerprint, 32, 48, views=both)
        assert "views" not in read_json(folder / "index.json")
