"""One direction from several."""

from __future__ import annotations

import pytest
import torch

from faceid.errors import DataError
from faceid.faces.aggregate import aggregate, concentration, effective_number

WAYS = ("weighted_mean", "mean", "median")


def units(count, dim=16, seed=0):
    raw = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(raw + 1, dim=1)


@pytest.mark.parametrize("how", WAYS)
def test_the_result_is_unit_float32_and_independent_of_order(how):
    points, weights = units(7), torch.arange(1.0, 8.0)
    result = aggregate(points, weights, how)
    turned = aggregate(points.flip(0), weights.flip(0), how)
    assert result.dtype == torch.float32 and result.shape == (16,)
    assert abs(float(result.norm()) - 1) < 1e-6
    assert torch.allclose(result, turned, atol=1e-6)


@pytest.mark.parametrize("how", WAYS)
def test_one_photo_is_its_own_aggregate(how):
    point = units(1)
    assert torch.allclose(aggregate(point, torch.tensor([0.3]), how), point[0], atol=1e-6)


def test_weighted_mean_follows_the_weights_and_mean_does_not():
    points = torch.eye(2)
    weights = torch.tensor([3.0, 1.0])
    assert torch.allclose(aggregate(points, weights, "weighted_mean"), torch.tensor([3.0, 1.0]) / 10**0.5)
    assert torch.allclose(aggregate(points, weights, "mean"), torch.tensor([1.0, 1.0]) / 2**0.5)


def test_the_median_stays_with_the_majority_where_the_mean_does_not():
    points = torch.eye(3)[[0, 0, 0, 0, 1, 1]]
    assert aggregate(points, None, "median")[0] > 0.999
    assert aggregate(points, None, "mean")[0] < 0.9


def test_the_median_is_the_least_sum_of_distances():
    points, weights = units(9, dim=4), torch.rand(9, generator=torch.Generator().manual_seed(1)) + 0.1
    median = aggregate(points, weights, "median")

    def cost(centre):
        return float((weights * (points - centre).norm(dim=1)).sum())

    generator = torch.Generator().manual_seed(2)
    for _ in range(200):
        near = torch.nn.functional.normalize(median + 0.02 * torch.randn(4, generator=generator), dim=0)
        assert cost(near) >= cost(median) - 1e-6


def test_opposite_embeddings_are_refused():
    with pytest.raises(DataError, match="cancel"):
        aggregate(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), None, "mean")


def test_concentration_and_effective_number():
    assert concentration(torch.eye(2), torch.tensor([1.0, 1.0])) == pytest.approx(0.5**0.5)
    assert effective_number(torch.tensor([1.0, 1.0, 0.0])) == pytest.approx(2.0)
