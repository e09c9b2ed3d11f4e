"""Head boxes to latent cells."""

from faceid.data.latents.head_mask import head_mask
from faceid.geometry import Geometry

GEOMETRY = Geometry(spatial_factor=4, temporal_factor=4, latent_channels=16, patch_thw=(1, 2, 2))


def test_no_boxes_mean_zeros():
    assert head_mask(None, 9, 32, 48, GEOMETRY).shape == (3, 8, 12)
    assert head_mask(None, 9, 32, 48, GEOMETRY).sum() == 0
    assert head_mask([None] * 9, 9, 32, 48, GEOMETRY).sum() == 0


def test_the_mask_lies_where_the_head_is_and_is_round():
    mask = head_mask([(8, 4, 40, 28)] + [None] * 8, 9, 32, 48, GEOMETRY)
    rows, columns = mask[0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 6, 2, 9)
    assert mask[0, 1, 2] == 0 and mask[0, 4, 6] == 1
    # An ellipse fills pi / 4 of its box.
    assert abs(mask[0].sum().item() / (6 * 8) - 0.785) < 0.1


def test_each_latent_frame_holds_its_own_frames():
    for frame, latent_frame in [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)]:
        boxes = [(8, 8, 24, 24) if k == frame else None for k in range(9)]
        assert head_mask(boxes, 9, 32, 48, GEOMETRY).sum((1, 2)).nonzero().flatten().tolist() == [latent_frame]


def test_frames_of_a_latent_frame_are_united():
    both = head_mask([None, (0, 0, 16, 16), (32, 16, 48, 32), None, None], 5, 32, 48, GEOMETRY)
    assert both[1, 1, 1] == 1 and both[1, 5, 10] == 1 and both[0].sum() == 0


def test_a_head_smaller_than_a_cell_keeps_one():
    assert head_mask([(9, 9, 10, 10)], 1, 32, 48, GEOMETRY).sum() == 1
    assert head_mask([(47, 31, 48, 32)], 1, 32, 48, GEOMETRY)[0, 7, 11] == 1
