"""Pictures of a few pixels beside photos: passed over with a reason, and nothing stops."""

import numpy as np
import pytest

from faceid.faces.photos.copies import are_copies, compared


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (10, 20_000), (20_000, 10), (30, 30), (31, 31)])
def test_a_picture_too_small_to_be_compared_is_no_copy(size):
    small = np.full((*size, 3), 90, np.uint8)
    whole = np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8)
    assert are_copies(compared(whole), (10, 10, 90, 90), compared(small)) is None
    assert are_copies(compared(small), (0, 0, 1, 1), compared(whole)) is None
