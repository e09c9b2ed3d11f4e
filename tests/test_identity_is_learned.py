"""The promise itself, at a small size: the shipped adapter shows people whom nothing was ever trained on.

`make prove-identity` is more of it, with FULL=1 all; benchmarks/records/prove_identity.json is what came out.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faceid import FaceIdentityPipeline
from faceid.evaluation.figures.similarity import roc_auc
from faceid.evaluation.videos.heads import cut_head
from faceid.faces.encoders.face_encoders import load_encoder
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import load_detector
from faceid.toy.dance import dance_joints
from faceid.toy.people import draw_person
from faceid.toy.readers import load_toy_recogniser
from faceid.toy.render import drawn_head_boxes, render_pose
from faceid.toy.shipped import resolve_adapter_path, resolve_encoder_path, resolve_model_path
from faceid.toy.worlds import person_seed
from toy_factory.face_views import portrait_cut

# Nobody in it is in a training world.
UNSEEN_WORLD, PEOPLE, PHOTOS = 61, 8, 6
SIZE_HW = (96, 96)
# The encoder that tells strangers apart, and its adapter.
ENCODER = "toy_strong"
DANCES = ("BR", "WA")
STEPS = 6


class World:
    """Eight strangers known by up to six photos each, a judge who has seen six others, and the embedded models."""

    def __init__(self) -> None:
        encoder, self.judge = load_encoder("clip", resolve_encoder_path(ENCODER)), load_toy_recogniser("toy_recogniser")
        # No picture is on both sides, and one that the detector misses is left out.
        given, other = self._portraits(range(PHOTOS)), self._portraits(range(PHOTOS, 2 * PHOTOS))
        self.faces, self.references = self._mean(encoder, given), self._mean(self.judge, other)
        self.pipeline = FaceIdentityPipeline.from_pretrained(resolve_model_path("toy"), resolve_adapter_path(ENCODER))

    def likeness(self, face: torch.Tensor, dance: int, face_scale: float = 1.0) -> np.ndarray:
        """Render one face in one dance; the judge's cosine to each of the eight, mean over frames."""
        joints = dance_joints(DANCES[dance], 900 + dance, 9, SIZE_HW, "upper")
        frames = self.pipeline(
            render_pose(joints, SIZE_HW), face, face_scale, cfg_scale=1.0, num_inference_steps=STEPS, seed=dance
        )
        boxes = [box for box in drawn_head_boxes(joints, SIZE_HW) if box is not None]
        heads = [cut_head(frame, box, FaceSettings.face_margin) for frame, box in zip(frames, boxes, strict=True)]
        return (self.judge.embed(heads) @ self.references.T).mean(0).numpy()

    @staticmethod
    def _portraits(views: range) -> list[list[np.ndarray]]:
        detector, found = load_detector("haar"), []
        for number in range(PEOPLE):
            person = draw_person(person_seed(UNSEEN_WORLD, f"d{number:02d}"))
            cuts = [portrait_cut(person, number * 64 + view, detector) for view in views]
            found.append([cut.picture for cut in cuts if cut is not None])
        return found

    @staticmethod
    def _mean(encoder, portraits: list[list[np.ndarray]]) -> torch.Tensor:
        means = torch.stack([encoder.embed(cuts).mean(0) for cuts in portraits])
        return torch.nn.functional.normalize(means, dim=1)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def scores(world) -> np.ndarray:
    """[dance, person given, person compared with]."""
    return np.stack([[world.likeness(face, dance) for face in world.faces] for dance in range(len(DANCES))])


def test_renders_show_the_stranger_whose_photos_were_given(scores, record_property):
    rank1 = float((scores.argmax(axis=2) == np.arange(PEOPLE)).mean())
    record_property("measured", f"rank-1 of {PEOPLE}: {rank1:.2f}")
    assert rank1 >= 0.75


def test_own_scores_are_above_impostors(scores, record_property):
    own = np.broadcast_to(np.eye(PEOPLE, dtype=bool), scores.shape)
    auc = roc_auc(scores[own], scores[~own])
    record_property("measured", f"AUC {auc:.3f}")
    assert auc >= 0.9


@pytest.mark.slow
def test_likeness_grows_with_face_scale(world, scores, record_property):
    at_zero = np.stack([world.likeness(face, 0, face_scale=0.0) for face in world.faces[:2]])
    # The base knows nobody: whoever is given, it draws the same.
    assert (at_zero == at_zero[0]).all()
    dances = range(len(DANCES))
    # Everybody in every dance: in one dance, half of the strength is no nearer than whoever the base happens to draw.
    half = [[world.likeness(face, dance, face_scale=0.5) for face in world.faces] for dance in dances]
    base = [[at_zero[0] if dance == 0 else world.likeness(world.faces[0], dance, face_scale=0.0)] for dance in dances]
    none = np.broadcast_to(base, scores.shape)
    own = [np.diagonal(one, axis1=1, axis2=2).mean() for one in (none, np.array(half), scores)]
    record_property("measured", f"likeness at 0, 0.5, 1: {own[0]:.3f}, {own[1]:.3f}, {own[2]:.3f}")
    assert own[0] < own[1] < own[2]
