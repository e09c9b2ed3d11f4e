"""Find one box around the dancer for a whole clip.

A box that followed the dancer would fake a moving camera. The box holds every known joint of the clip, and the head,
with a margin, in the output's aspect. It is never smaller than the output where the film allows it. Enlarged pixels
show a face no better, and cost the room around it.
"""

from __future__ import annotations

import numpy as np

from faceid.data.body.head_boxes import head_boxes
from faceid.data.clip_settings import Crop
from faceid.media.pixels.fit import Fit

# Share of the larger side of the joints' extent. Hands, feet and hair reach beyond their joints.
MARGIN = 0.15
# Head, shoulders and hips. Arms may leave the picture, the face may not.
UPPER_BODY = [*range(7), 11, 12]


def crop_fit(body: np.ndarray, film_hw: tuple[int, int], size_hw: tuple[int, int], crop: Crop) -> Fit | None:
    """The fit of the film's picture into the clip's; None when no joint that the crop follows is known.

    body: COCO-17 of the clip's frames in pixels of the film, [T, 17, 2], nan where unknown.
    """
    joints = (body[:, UPPER_BODY] if crop == "upper_body" else body).reshape(-1, 2)
    joints = joints[np.isfinite(joints).all(1)]
    # The head box is added because the crown is no joint, and hair is above it.
    heads = [corner for box in head_boxes(body, film_hw) if box for corner in (box[:2], box[2:])]
    if len(joints) and heads:
        joints = np.concatenate([joints, heads])
    # Wrong joints lie far outside now and then. They are moved to the film's edges.
    joints = np.clip(joints, 0, (film_hw[1], film_hw[0]))
    if not len(joints):
        return None
    low, high = joints.min(0), joints.max(0)
    margin = MARGIN * float((high - low).max())
    wanted_width, wanted_height = (high - low) + 2 * margin
    height, width = size_hw
    scale = max(wanted_width / width, wanted_height / height, 1.0)
    # The box takes as much of the film as there is, in the same aspect.
    scale = min(scale, film_hw[1] / width, film_hw[0] / height)
    box_width, box_height = max(round(width * scale), 1), max(round(height * scale), 1)
    centre_x, centre_y = (low + high) / 2
    left = round(min(max(centre_x - box_width / 2, 0), film_hw[1] - box_width))
    top = round(min(max(centre_y - box_height / 2, 0), film_hw[0] - box_height))
    return Fit((left, top, box_width, box_height), (0, 0, width, height), size_hw)


def fit_points(points: np.ndarray, fit: Fit) -> np.ndarray:
    """Move points [..., 2] along with a fit. Points that leave the clip's picture become nan.

    A joint outside is not in the picture. A skeleton that showed it would ask for a body beyond the edge.
    """
    left, top, width, height = fit.source
    to_left, to_top, to_width, to_height = fit.target
    scale = np.array([to_width / width, to_height / height])
    moved = (points - (left, top)) * scale + (to_left, to_top)
    outside = ((moved < 0) | (moved > (fit.size_hw[1], fit.size_hw[0]))).any(-1)
    moved[outside] = np.nan
    return moved.astype(np.float32)
