"""Views of drawn people: the last clip of each is seen through what a VAE makes of it, and nothing else is."""

from __future__ import annotations

import numpy as np

from toy_factory.face_views import CELL_PX, RENDERED_FRAMES, draw_views


def test_only_the_last_clip_is_seen_as_rendered():
    seen: list[tuple[int, ...]] = []

    def in_grey(frames: np.ndarray) -> np.ndarray:
        seen.append(frames.shape)
        return np.repeat(frames.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)

    plain = draw_views(61, 4, num_photos=1, num_clips=2)
    rendered = draw_views(61, 4, num_photos=1, num_clips=2, as_rendered=in_grey, num_rendered=2)
    # The head alone is sent, in whole cells, and of the first people alone.
    assert 1 <= len(seen) <= 2 and len(plain.people) > 2
    assert all(frames == RENDERED_FRAMES and not (h % CELL_PX or w % CELL_PX) for frames, h, w, _ in seen)
    np.testing.assert_array_equal(plain.pictures[:, :-1], rendered.pictures[:, :-1])
    np.testing.assert_array_equal(plain.pictures[len(seen) :], rendered.pictures[len(seen) :])
    colour = rendered.pictures.astype(int).std(-1).mean((2, 3))
    assert (colour[: len(seen), -1] == 0).all() and (colour[:, :-1] > 1).all()
    # Each view has the scene that it was drawn in: a head as rendered is of another clip.
    assert (plain.scenes != rendered.scenes).any((1, 2)).sum() == len(seen)
    np.testing.assert_array_equal(plain.scenes[:, :-1], rendered.scenes[:, :-1])
