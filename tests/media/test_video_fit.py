"""Fitting frames and boxes into another size."""

import numpy as np
import pytest

from faceid.errors import DataError
from faceid.media.pixels.fit import fit_sizes, resize_frames


def disc(height: int, width: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2)[..., None]
    return np.where(inside, np.uint8(255), np.uint8(0)) * np.ones(3, np.uint8)


def bounds(frame: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(frame[..., 0] > 127)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_crop_and_pad_keep_the_aspect(how):
    x0, y0, x1, y1 = bounds(resize_frames(disc(90, 200, 45, 100, 20)[None], 64, 64, how)[0])
    assert abs((x1 - x0) - (y1 - y0)) <= 1


def test_stretch_uses_the_whole_picture():
    frame = np.zeros((1, 40, 80, 3), np.uint8)
    frame[:, :, :40] = 255
    fitted = resize_frames(frame, 32, 32, "stretch")[0]
    assert (fitted[:, :16] == 255).all() and (fitted[:, 16:] == 0).all()


def test_pad_adds_black_bars_and_crop_adds_none():
    frame = np.full((1, 40, 80, 3), 255, np.uint8)
    padded = resize_frames(frame, 32, 32, "pad")[0]
    assert (padded[:8] == 0).all() and (padded[8:24] == 255).all() and (padded[24:] == 0).all()
    assert (resize_frames(frame, 32, 32, "crop") == 255).all()


def test_shrinking_does_not_alias():
    stripes = np.zeros((1, 256, 256, 3), np.uint8)
    stripes[:, :, ::2] = 255
    # Picking pixels would give stripes or a flat extreme; averaging gives mid grey everywhere.
    assert np.abs(resize_frames(stripes, 32, 32)[0].astype(int) - 127).max() <= 1


def test_same_size_is_unchanged():
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    assert np.array_equal(resize_frames(frames, 32, 48), frames)


@pytest.mark.parametrize("how", ["crop", "stretch", "pad"])
def test_boxes_move_with_the_picture(how):
    frame = disc(90, 200, 40, 90, 12)
    fit = fit_sizes((90, 200), 64, 80, how)
    moved = fit.box(tuple(float(edge) for edge in bounds(frame)))
    assert np.abs(np.array(moved) - bounds(fit.frame(frame))).max() <= 1.5


def test_a_box_outside_the_crop_is_gone():
    assert fit_sizes((64, 200), 64, 64, "crop").box((0, 0, 20, 20)) is None


@pytest.mark.parametrize("x, left", [(100, 68), (10, 0), (199, 136), (None, 68)])
def test_a_crop_follows_its_centre_as_far_as_the_edges_allow(x, left):
    fit = fit_sizes((64, 200), 64, 64, "crop", None if x is None else (x, 5))
    assert fit.source == (left, 0, 64, 64)


def test_empty_sizes_are_refused():
    with pytest.raises(DataError, match="positive"):
        fit_sizes((0, 10), 32, 32)
