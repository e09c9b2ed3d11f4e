"""Photos are read upright, whole and in true tones, or refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from faceid.errors import DataError
from faceid.media.images import list_photos, read_photo


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


def test_a_floating_point_picture_is_refused(tmp_path):
    Image.fromarray(gradient(np.float32, 1.0)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="floating-point"):
        read_photo(tmp_path / "a.tif")


def test_photos_are_listed_by_suffix_sorted_without_hidden_ones(tmp_path):
    for name in ("b.JPG", "a.png", ".c.png", "notes.txt", "d.heic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_photos(tmp_path)] == ["a.png", "b.JPG", "d.heic"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        list_photos(tmp_path / "absent")


# What must come of each file of shared/data/image_bad: [H, W], or a word of the refusal.
OUTCOMES = {
    "exif_portrait_1.jpg": (600, 450),
    "exif_portrait_6.jpg": (600, 450),
    "exif_portrait_8.jpg": (600, 450),
    "face_32bit_rgba.png": (1200, 626),
    "libheif_example.heic": "HEIC photos must be exported",
    "pillow_apng_syntax_num_frames_zero.png": "cannot be decoded",
    "pillow_broken.png": "cannot be decoded",
    "pillow_broken_data_stream.png": "cannot be decoded",
    "pillow_decompression_bomb.gif": "too large",
    "pillow_hopper_16bit.pgm": (128, 128),
    "pillow_hopper_orientation_6.jpg": (128, 128),
    "pillow_iss634.webp": (245, 245),
    "pillow_pil_sample_cmyk.jpg": (100, 100),
    "pillow_png_decompression_dos.png": "cannot be decoded",
    "pillow_tiff_16bit_RGB.tiff": (40, 100),
    "pillow_truncated_end_chunk.png": "cannot be decoded",
    "pillow_truncated_jpeg.jpg": "truncated",
    "pillow_uncompressed_la.png": (128, 128),
    "pillow_zero_width.gif": "cannot be decoded",
    "vips_17000x17000.avif": "cannot be decoded",
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_real_odd_photo_has_its_stated_outcome(name, real_data):
    outcome, path = OUTCOMES[name], real_data / "image_bad" / name
    if isinstance(outcome, str):
        with pytest.raises(DataError, match=outcome):
            read_photo(path)
    else:
        pixels = read_photo(path)
        assert pixels.shape == (*outcome, 3)
        # The 16-bit picture is all white when it is clipped.
        assert 5 < pixels.mean() < 250 and pixels.std() > 10
