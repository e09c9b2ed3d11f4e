"""Small 3-D convolutions run in oneDNN, give what PyTorch's give, and pass the same gradients."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from faceid.models.base.small_convolutions import convolve_in_onednn


def pair() -> tuple[nn.Module, nn.Module]:
    """A small network as PyTorch computes it, and the same in oneDNN."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv3d(4, 10, 3, padding=1), nn.Conv3d(10, 6, (3, 1, 1), stride=(2, 1, 1), bias=False), nn.SiLU()
    )
    other = copy.deepcopy(plain)
    convolve_in_onednn(other)
    return plain, other


def kinds(model: nn.Module, x: torch.Tensor) -> set[str]:
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as seen:
        model(x)
    return {event.key for event in seen.key_averages() if "conv3d" in event.key or "mkldnn_conv" in event.key}


def test_it_is_the_same_network_in_onednn_and_so_is_its_copy():
    plain, other = pair()
    x = torch.rand(1, 4, 5, 12, 12)
    for one in (other, copy.deepcopy(other)):
        assert torch.allclose(one(x), plain(x), atol=1e-6)
        assert "aten::mkldnn_convolution" in kinds(one, x) and "aten::slow_conv3d" not in kinds(one, x)
    assert other.state_dict().keys() == plain.state_dict().keys()


def test_gradients_are_the_same():
    plain, other = pair()
    given = [torch.rand(1, 4, 5, 12, 12, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab"]
    for model, x in zip((plain, other), given, strict=True):
        model(x).square().sum().backward()
    assert torch.allclose(given[0].grad, given[1].grad, atol=1e-6)
    for one, same in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one.grad, same.grad, rtol=1e-4, atol=1e-5)


def test_what_onednn_is_not_asked_for_is_computed_as_before():
    plain, other = pair()
    x = torch.rand(1, 4, 5, 12, 12, dtype=torch.float64)
    assert torch.equal(other.double()(x), plain.double()(x))
