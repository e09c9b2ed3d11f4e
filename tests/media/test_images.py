"""Photos are read upright, whole and in true tones, or refused with the reason."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from faceid.errors import DataError
from faceid.media import images
from faceid.media.images import MAX_BYTES, list_photos, read_photo
from faceid.media.pixels.colours import Colours, to_bt709


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
    with pytest.raises(DataError, match=r"a\.png: (is a folder|a pipe or a device)"):
        read_photo(path)


def test_photos_are_listed_by_suffix_sorted_without_hidden_ones(tmp_path):
    for name in ("b.JPG", "a.png", ".c.png", "notes.txt", "d.heic", "e.HIF"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_photos(tmp_path)] == ["a.png", "b.JPG", "d.heic", "e.HIF"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        list_photos(tmp_path / "absent")


@pytest.mark.fault("M14")
def test_files_of_another_ending_are_named_once(tmp_path, caplog):
    for name in ("a.png", "a.txt", "b.txt", "c.psd", "d.jxl", "e.cr3", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    for _ in range(2):
        assert [path.name for path in list_photos(tmp_path)] == ["a.png"]
    # A caption beside its photo is none of them.
    words = f"{tmp_path}: 4 passed over, whose endings are not photos': b.txt, c.psd, d.jxl and 1 more"
    assert [record.getMessage() for record in caplog.records] == [words]


def srgb_with_red_and_green_swapped() -> bytes:
    """The profile of sRGB, whose tags of red and green name each other's data."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {
        bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12)
    }
    red, green = entries[b"rXYZ"] + 4, entries[b"gXYZ"] + 4
    profile[red : red + 8], profile[green : green + 8] = profile[green : green + 8], profile[red : red + 8]
    return bytes(profile)


@pytest.mark.fault("M6")
@pytest.mark.parametrize(
    "name, mode",
    [("a.png", "RGB"), ("a.jpg", "RGB"), ("a.tif", "RGB"), ("a.webp", "RGB"), ("a.png", "RGBA"), ("a.png", "P")],
)
def test_a_photos_own_profile_decides_its_colours(tmp_path, name, mode):
    lossless = {"lossless": True} if name.endswith("webp") else {}
    image = Image.new("RGB", (16, 16), (50, 200, 60))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / name, icc_profile=srgb_with_red_and_green_swapped(), **lossless)
    assert np.abs(read_photo(tmp_path / name).astype(int) - (200, 50, 60)).max() <= 3


@pytest.mark.fault("M6")
def test_a_profile_goes_with_turned_and_transparent_photos(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGBA", (40, 20), (50, 200, 60, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    image.save(tmp_path / "a.png", exif=exif, icc_profile=srgb_with_red_and_green_swapped())
    pixels = read_photo(tmp_path / "a.png")
    assert pixels.shape == (40, 20, 3) and (pixels[:20] == 255).all()
    assert np.abs(pixels[20:].astype(int) - (200, 50, 60)).max() <= 2


@pytest.mark.fault("M6")
def test_a_grey_photo_may_carry_a_profile_of_colours(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("L", (8, 8), 77).save(tmp_path / "a.jpg", icc_profile=srgb)
    assert np.abs(read_photo(tmp_path / "a.jpg").astype(int) - 77).max() <= 1


@pytest.mark.fault("M6")
@pytest.mark.parametrize("profile", [b"no profile", b"", srgb_with_red_and_green_swapped()[:200]])
def test_a_broken_profile_is_said_and_the_photo_taken_for_srgb(tmp_path, caplog, profile):
    Image.new("RGB", (8, 8), (50, 200, 60)).save(tmp_path / "a.png", icc_profile=profile)
    assert (read_photo(tmp_path / "a.png") == (50, 200, 60)).all()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(profile) and all("a.png: its colour profile cannot be used" in line for line in said)


def with_chunk(path, name: bytes, content: bytes) -> None:
    """A chunk behind the header of a PNG."""
    data = path.read_bytes()
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    path.write_bytes(data[:33] + chunk + data[33:])


@pytest.mark.fault("M3")
@pytest.mark.parametrize("colours", [Colours(9, 16), Colours(9, 18), Colours(12, 13)], ids=["PQ", "HLG", "P3"])
def test_a_png_in_hdr_or_a_wide_gamut_is_brought_to_srgb(tmp_path, colours):
    Image.fromarray(np.repeat(gradient(np.uint8, 160)[..., None], 3, -1) + np.uint8([0, 40, 20])).save(
        tmp_path / "a.png"
    )
    stored = read_photo(tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", b"cICP", bytes([colours.primaries, colours.transfer, 0, 1]))
    read = read_photo(tmp_path / "a.png")
    assert np.array_equal(read, np.round(to_bt709(stored / 255, colours) * 255)) and not np.array_equal(read, stored)


def linear_grey() -> bytes:
    """A profile of grey whose values are light."""
    curve = b"curv" + bytes(8)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = struct.pack(">I", 2) + b"kTRC" + struct.pack(">II", 156, 12) + b"wtpt" + struct.pack(">II", 168, 20)
    head = bytearray(128)
    head[0:4], head[8:12], head[12:24] = struct.pack(">I", 188), b"\x02\x40\0\0", b"mntrGRAYXYZ "
    head[36:40], head[68:80] = b"acsp", struct.pack(">3i", 63190, 65536, 54061)
    return bytes(head) + tags + curve + white


@pytest.mark.fault("A6")
@pytest.mark.parametrize(
    ("name", "dtype", "profile"),
    [
        ("a.png", np.uint8, linear_grey()),
        ("a.png", np.uint16, linear_grey()),
        ("a.tif", np.uint16, linear_grey()),
        ("a.png", np.uint8, None),
        ("a.png", np.uint16, None),
    ],
)
def test_greys_of_light_are_brought_to_srgb_at_any_depth(tmp_path, name, dtype, profile):
    light = gradient(dtype, np.iinfo(dtype).max)
    Image.fromarray(light).save(tmp_path / name, **({"icc_profile": profile} if profile else {}))
    if profile is None:
        with_chunk(tmp_path / name, b"gAMA", struct.pack(">I", 100_000))
    share = light / np.iinfo(dtype).max
    expected = 255 * np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)
    apart = np.abs(read_photo(tmp_path / name) - expected[..., None])
    assert apart[:, 4:].max() < 3 and apart.mean() < 1.5


def chromaticities(*places: int) -> bytes:
    return struct.pack(">8I", *places)


SRGB_CHRM = chromaticities(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


@pytest.mark.fault("A6")
def test_a_pngs_own_primaries_are_applied(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    display_p3 = chromaticities(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    with_chunk(tmp_path / "a.png", b"cHRM", display_p3)
    with_chunk(tmp_path / "a.png", b"gAMA", struct.pack(">I", 45_455))
    # The curves of sRGB and of a plain power lie a few levels apart.
    assert np.abs(read_photo(tmp_path / "a.png") - to_bt709(pixels / 255, Colours(12, 13)) * 255).mean() < 2
    assert np.abs(read_photo(tmp_path / "a.png").astype(int) - pixels).mean() > 4
    # Another white, and the same colours under it: greys stay.
    Image.fromarray(pixels[..., :1].repeat(3, -1)).save(tmp_path / "b.png")
    with_chunk(tmp_path / "b.png", b"cHRM", chromaticities(34567, 35850, 68000, 32000, 26500, 69000, 15000, 6000))
    assert np.abs(read_photo(tmp_path / "b.png").astype(int) - pixels[..., :1]).max() <= 1


@pytest.mark.fault("A6")
@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ({b"gAMA": struct.pack(">I", 45_455), b"cHRM": SRGB_CHRM}, False),
        # sRGB's own chunk goes before the others, and so does a gamma that cannot be.
        ({b"gAMA": struct.pack(">I", 100_000), b"sRGB": b"\0"}, False),
        ({b"gAMA": struct.pack(">I", 0)}, False),
        ({b"cHRM": chromaticities(31270, 32900, 1, 0, 30000, 60000, 15000, 6000)}, True),
        ({b"cHRM": chromaticities(31270, 32900, 30000, 60000, 30000, 60000, 15000, 6000)}, True),
    ],
)
def test_a_png_in_srgb_stays_as_it_is(tmp_path, caplog, chunks, said):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name, content in chunks.items():
        with_chunk(tmp_path / "a.png", name, content)
    assert np.array_equal(read_photo(tmp_path / "a.png"), pixels)
    assert ("a.png: its primaries (cHRM) cannot be" in caplog.text) == said


def test_a_png_of_unknown_colours_is_refused_with_the_reason(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", b"cICP", bytes([10, 17, 0, 1]))
    with pytest.raises(
        DataError, match=r"a\.png: its transfer function is number 17, which is not known here; export it"
    ):
        read_photo(tmp_path / "a.png")


def write_heic(path, image, **about):
    """As a phone does. Without telling Pillow of HEIC: that is what reading does."""
    pytest.importorskip("pillow_heif").from_pillow(image).save(path, format="HEIF", **about)


@pytest.mark.fault("M7")
def test_heic_is_read_whatever_its_name_and_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.repeat(gradient(np.uint8, 255)[..., None], 3, -1))
    for name in ("a.heic", "a.jpg"):
        # The turn is written both ways: in the picture's own box and in EXIF.
        write_heic(tmp_path / name, image, exif=exif.tobytes(), quality=95)
        pixels = read_photo(tmp_path / name)
        assert pixels.shape == (64, 48, 3) and pixels[:8].mean() < 40 and pixels[-8:].mean() > 215


@pytest.mark.fault("M7")
def test_heic_in_a_wide_gamut_is_brought_to_srgb(tmp_path):
    image = Image.new("RGB", (64, 48), (60, 180, 90))
    image.info["icc_profile"] = srgb_with_red_and_green_swapped()
    write_heic(tmp_path / "p.heic", image, quality=100)
    assert np.abs(read_photo(tmp_path / "p.heic").astype(int) - (180, 60, 90)).max() <= 4
    coded = {"color_primaries": 9, "transfer_characteristics": 18, "matrix_coefficients": 9}
    write_heic(tmp_path / "n.heic", Image.new("RGB", (64, 48), (60, 180, 90)), quality=100, **coded)
    expected = to_bt709(np.array([60, 180, 90]) / 255, Colours(9, 18)) * 255
    assert np.abs(read_photo(tmp_path / "n.heic") - expected).max() <= 6


@pytest.mark.fault("M7")
def test_without_pillow_heif_the_refusal_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x1cftypheic" + bytes(16))
    monkeypatch.setattr(images, "reads_heic", lambda: False)
    with pytest.raises(
        DataError, match=r"a\.jpg: cannot be decoded .*; HEIC needs pillow-heif: pip install 'faceid\[heic\]'"
    ):
        read_photo(tmp_path / "a.jpg")
