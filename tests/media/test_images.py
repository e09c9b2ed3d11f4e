"""Photos are read upright, whole and in true tones, or refused with the reason."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image, features

from faceid.errors import DataError
from faceid.media.images import MAX_BYTES, list_photos, read_photo


def gradient(dtype, white):
    """[48, 64] rising from black to white."""
    return np.tile(np.linspace(0, white, 64), (48, 1)).astype(dtype)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(gradient(np.uint16, 65535)).save(tmp_path / "a.png")
    pixels = read_photo(tmp_path / "a.png")
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels[..., 0].astype(int) - gradient(np.uint8, 255)).max() <= 1


def test_orientation_of_the_camera_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), (9, 9, 9)).save(tmp_path / "a.jpg", exif=exif)
    assert read_photo(tmp_path / "a.jpg").shape == (40, 20, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.convert(mode).save(tmp_path / "a.png") if mode != "PA" else image.convert("P").save(
        tmp_path / "a.png", transparency=image.convert("P").getpixel((0, 0))
    )
    assert (read_photo(tmp_path / "a.png") == 255).all()


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_photo(tmp_path / "a.jpg")[4, 4]
    assert red > 230 and green < 30 and blue < 30


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_photo(tmp_path / "a.gif")[0, 0].tolist() == [250, 0, 0]


def test_a_truncated_photo_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated"):
        read_photo(tmp_path / "a.jpg")


def test_a_photo_above_the_limit_is_refused_from_its_header(tmp_path):
    Image.new("L", (300, 200)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="300x200"):
        read_photo(tmp_path / "a.png", max_pixels=50_000)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a\x00\x00\x01\x00"])
def test_what_is_not_a_picture_is_refused_with_its_name(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png"):
        read_photo(tmp_path / "a.png")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_a_damaged_avif_is_refused(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.avif")
    # Pillow raises a RuntimeError when the picture's place is not told.
    (tmp_path / "a.avif").write_bytes((tmp_path / "a.avif").read_bytes().replace(b"iloc", b"zzzz"))
    with pytest.raises(DataError, match=r"a\.avif: cannot be decoded"):
        read_photo(tmp_path / "a.avif")


def test_a_floating_point_picture_is_refused(tmp_path):
    Image.fromarray(gradient(np.float32, 1.0)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="floating-point"):
        read_photo(tmp_path / "a.tif")


def test_a_file_above_the_limit_of_bytes_is_refused_unread(tmp_path, monkeypatch):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "r+b") as file:
        # All holes: it takes no room on the disk.
        file.truncate(MAX_BYTES + 1)
    monkeypatch.setattr(Image, "open", lambda path: pytest.fail("opened"))
    with pytest.raises(DataError, match=r"a\.png: 512 MB, above the limit of 512; export it as JPEG"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused_unopened(tmp_path, monkeypatch, kind):
    path = tmp_path / "a.png"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero")}[kind]()
    # A pipe that is opened blocks for ever.
    monkeypatch.setattr(Image, "open", lambda path: pytest.fail("opened"))
    with pytest.raises(DataError, match=r"a\.png: a folder, pipe or device, not a photo"):
        read_photo(path)


def test_photos_are_listed_by_suffix_sorted_without_hidden_ones(tmp_path):
    for name in ("b.JPG", "a.png", ".c.png", "notes.txt", "d.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_photos(tmp_path)] == ["a.png", "b.JPG", "d.heic"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        list_photos(tmp_path / "absent")
