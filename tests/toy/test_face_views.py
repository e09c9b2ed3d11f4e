"""Views of drawn people: the last clip of each is seen through what a VAE makes of it, and nothing else is."""

from __future__ import annotations

import numpy as np

from toy_factory.face_views import CLIP_PX, RENDERED_FRAMES, draw_views


def test_only_the_last_clip_is_seen_as_rendered():
    seen: list[tuple[int, ...]] = []

    def in_grey(frames: np.ndarray) -> np.ndarray:
        seen.append(frames.shape)
        return np.repeat(frames.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)

    plain = draw_views(61, 3, num_photos=1, num_clips=2)
    rendered = draw_views(61, 3, num_photos=1, num_clips=2, as_rendered=in_grey)
    assert seen == [(RENDERED_FRAMES, CLIP_PX, CLIP_PX, 3)] * len(plain.people) and seen
    np.testing.assert_array_equal(plain.pictures[:, :-1], rendered.pictures[:, :-1])
    colour = rendered.pictures.astype(int).std(-1).mean((2, 3))
    assert (colour[:, -1] == 0).all() and (colour[:, :-1] > 1).all()
