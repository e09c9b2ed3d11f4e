"""Convert head boxes in pixels to a mask of the head in latent cells, [f, h, w].

The loss may be taken inside the mask alone. So a cell counts when its centre lies in the head's ellipse in any of the
frames that the latent frame holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from faceid.geometry import Geometry


def head_mask(
    boxes: Sequence[Sequence[float] | None] | None, num_frames: int, height: int, width: int, geometry: Geometry
) -> Tensor:
    """Rasterise one box (x0, y0, x1, y1) in pixels, or None, per frame: uint8 [f, h, w], 1 inside. No boxes: zeros."""
    _, latent_frames, cells_y, cells_x = geometry.latent_shape(num_frames, height, width)
    mask = torch.zeros(latent_frames, cells_y, cells_x, dtype=torch.uint8)
    for frame, box in enumerate(boxes or ()):
        if box is not None:
            # The first latent frame holds one frame, each later one holds `temporal_factor` frames.
            at = -(-frame // geometry.temporal_factor)
            mask[at] |= _ellipse(box, cells_y, cells_x, geometry.spatial_factor)
    return mask


def _ellipse(box: Sequence[float], cells_y: int, cells_x: int, factor: int) -> Tensor:
    x0, y0, x1, y1 = (edge / factor for edge in box)
    centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
    y = (torch.arange(cells_y) + 0.5 - centre_y) / max((y1 - y0) / 2, 1e-6)
    x = (torch.arange(cells_x) + 0.5 - centre_x) / max((x1 - x0) / 2, 1e-6)
    inside = (y[:, None] ** 2 + x[None, :] ** 2 <= 1).to(torch.uint8)
    # A head smaller than a cell still gets the cell in which it lies.
    inside[min(int(centre_y), cells_y - 1), min(int(centre_x), cells_x - 1)] = 1
    return inside
