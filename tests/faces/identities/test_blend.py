"""Blends and ways between people stay on the sphere and move steadily."""

import math
from itertools import pairwise

import pytest
import torch

import faceid
from faceid.errors import DataError


def people(count=3, dim=16):
    return list(
        torch.nn.functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    )


def test_a_blend_has_unit_length_and_leans_to_the_heavier_part():
    a, b, _ = people()
    blend = faceid.blend_face_embeddings([a, b], [0.8, 0.2])
    assert blend.norm().item() == pytest.approx(1, abs=1e-6)
    assert blend @ a > blend @ b
    assert torch.equal(faceid.blend_face_embeddings([a, b], [8, 2]), blend)


def test_the_way_between_two_people_is_even_and_ends_at_them():
    a, b, _ = people()
    points = [faceid.interpolate_face_embeddings(a, b, step / 4) for step in range(5)]
    torch.testing.assert_close(points[0], a)
    torch.testing.assert_close(points[-1], b)
    angles = [math.acos(min(1.0, float(p @ q))) for p, q in pairwise(points)]
    assert angles == pytest.approx([math.acos(float(a @ b)) / 4] * 4, abs=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: faceid.blend_face_embeddings([a, torch.ones(3)]),
        lambda a, b: faceid.blend_face_embeddings([a, b], [1.0]),
        lambda a, b: faceid.blend_face_embeddings([a, b], [1.0, -1.0]),
        lambda a, b: faceid.interpolate_face_embeddings(a, b, 1.5),
        lambda a, b: faceid.interpolate_face_embeddings(a, -a, 0.5),
    ],
)
def test_what_cannot_be_blended_is_refused(call):
    a, b, _ = people()
    with pytest.raises(DataError):
        call(a, b)


def test_the_public_names_exist():
    for name in faceid.__all__:
        assert getattr(faceid, name) is not None
    with pytest.raises(AttributeError):
        faceid.nothing  # noqa: B018
