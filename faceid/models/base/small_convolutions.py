"""Let the 3-D convolutions of a small VAE run in oneDNN on the CPU.

For few channels and one clip PyTorch 2.13 takes `slow_conv3d` in its place, as its profiler shows. The embedded base's
VAE has 8 to 80 channels, and there oneDNN takes a tenth of the time. Large ones, as Wan's own, run in oneDNN anyway.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


def convolve_in_onednn(model: nn.Module) -> None:
    """Change in place how the 3-D convolutions of a model are computed on the CPU in float32. Weights stay as they are.

    Gradients pass. Results differ from PyTorch's choice by rounding.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            # What nn.Conv3d.forward calls. Subclasses that pad by themselves call that forward.
            vars(module)["_conv_forward"] = partial(_convolve, module, module.padding)


def _convolve(module: nn.Conv3d, padding: tuple[int, ...], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not (x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()):
        return nn.Conv3d._conv_forward(module, x, weight, bias)
    # One layout in memory: oneDNN rounds differently in another, and who calls may have any.
    x = x.contiguous()
    return torch.mkldnn_convolution(x, weight, bias, padding, module.stride, module.dilation, module.groups)
