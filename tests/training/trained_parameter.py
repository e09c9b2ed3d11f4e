"""One parameter that Adam has stepped, as accelerate would wrap it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from faceid.training.checkpoints.sharded_state import ShardedState

EMA = 0.9


def wrapped(parameter, ema=EMA):
    """One parameter under Adam, as accelerate would wrap it."""
    adam = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    return ShardedState({"a.weight": parameter}, SimpleNamespace(optimizer=adam), "single", ema)


def step(sharded, number, gradient):
    (parameter,) = sharded.parameters.values()
    parameter.grad = gradient
    sharded.skip_unless_finite(gradient.norm())
    sharded.adam.step()
    sharded.average(number)


@pytest.fixture
def trained():
    """A parameter that Adam has stepped three times."""
    torch.manual_seed(0)
    sharded = wrapped(nn.Parameter(torch.randn(3, 5)))
    for number in range(3):
        step(sharded, number, torch.randn(3, 5))
    return sharded
