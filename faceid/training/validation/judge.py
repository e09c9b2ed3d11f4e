"""Whose face came out: renders against real clips of the dancers and photos of the target, by a recogniser.

Heads are cut where the clip's own head boxes say, out of renders and out of real clips alike. The judge should be a
recogniser that training has not used (`--validation_recogniser`); the encoder of the identities themselves is the
default because it is always there, and its scores carry its name: it judges its own work.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.order import spread
from faceid.data.shards.index import DamagedError
from faceid.evaluation.figures import similarity
from faceid.evaluation.videos.heads import cut_head
from faceid.evaluation.videos.recognisers import load_recogniser
from faceid.faces.encoders.face_encoders import FaceEncoder
from faceid.faces.identities.identity import Identity
from faceid.faces.identities.photos_to_identity import encoder_of
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import crop_face
from faceid.media import images
from faceid.training.validation.scenes import TARGET, Scene, SceneRenderer
from faceid.training.validation.validation_settings import OWN

log = logging.getLogger(__name__)

# People of the gallery beside the target, clips of each and frames of a clip: enough to be told apart by.
MOST_PEOPLE, CLIPS_EACH, FRAMES_EACH = 15, 2, 5
SCORES = ("similarity", "margin", "rank1")


@dataclass
class Judge:
    """Scores renders."""

    encoder: FaceEncoder
    latents: LatentSet | LatentSets
    face_margin: float
    _gallery: dict[str, np.ndarray] = field(default_factory=dict)

    def know(self, photo_crops: Sequence[np.ndarray], dancers: Sequence[str], renderer: SceneRenderer) -> None:
        """Look at the target's faces (without any it is not scored) and at real clips of dancers, the first few."""
        if photo_crops:
            self._gallery[TARGET] = similarity.mean_reference(self.encoder.embed(list(photo_crops)).numpy())
        of: dict[str, list[int]] = {}
        for number, dancer in enumerate(self.latents.dancers):
            if self.latents.keys[number] == self.latents.clips[number]:
                of.setdefault(dancer, []).append(number)
        for dancer in [name for name in dancers if name in of][:MOST_PEOPLE]:
            crops = [crop for number in of[dancer][:CLIPS_EACH] for crop in self._real(number, renderer)]
            if crops:
                self._gallery[dancer] = similarity.mean_reference(self.encoder.embed(crops).numpy())
        log.info("validation judges by %s among %d people", self.encoder.name, len(self._gallery))

    def score(self, scene: Scene, frames: np.ndarray) -> dict[str, float]:
        """similarity, margin (over the best other person) and rank1; empty when it cannot be told. frames: uint8."""
        people = sorted(self._gallery)
        crops = self._crops(scene.number, frames, range(len(frames)))
        if scene.who not in people or len(people) < 2 or not crops:
            return {}
        embeddings = self.encoder.embed(crops).numpy()
        references = np.stack([self._gallery[name] for name in people])
        cosines = similarity.frame_cosines(embeddings, np.ones(len(crops), bool), references)
        scores, own = similarity.scores(cosines), people.index(scene.who)
        found = float(scores[own]), similarity.margin(scores, own), float(similarity.rank(scores, own) == 1)
        return dict(zip(SCORES, found, strict=True))

    def _real(self, number: int, renderer: SceneRenderer) -> list[np.ndarray]:
        try:
            frames = renderer.clip(number)
        except DamagedError as damage:
            log.warning("not in the validation's gallery: %s", damage)
            return []
        return self._crops(number, frames, spread(len(frames), FRAMES_EACH))

    def _crops(self, number: int, frames: np.ndarray, places: Sequence[int]) -> list[np.ndarray]:
        """The head in each of these frames in which it is known where it is."""
        boxes = self.latents.head_boxes(number)
        known = [(place, box) for place in places if place < len(boxes) and (box := boxes[place]) is not None]
        return [cut_head(frames[place], box, self.face_margin) for place, box in known]


@dataclass(frozen=True)
class Judging:
    """What a judge is made of, when it is first needed. recogniser: as in `validation_recogniser`, but never none."""

    recogniser: str
    faces: FaceSettings
    identity: Identity
    photos_dir: Path | None

    @property
    def prefix(self) -> str:
        """Of the metrics' names: says so where the encoder judges its own work."""
        return prefix_of(self.recogniser)

    def judge(self, latents: LatentSet | LatentSets, device: str) -> Judge:
        """Load the recogniser. Raises: ModelError."""
        encoder = encoder_of(self.faces) if self.recogniser == OWN else load_recogniser(self.recogniser, device)
        return Judge(encoder, latents, self.faces.face_margin)

    def photo_crops(self) -> list[np.ndarray]:
        """The target's faces, cut out of the photos the identity kept; none without photos."""
        if self.photos_dir is None:
            return []
        margin = self.faces.face_margin
        return [
            crop_face(images.read_photo(self.photos_dir / name), box, margin)
            for name, box in sorted(self.identity.photo_boxes.items())
        ]


def prefix_of(recogniser: str) -> str:
    """Of the names of what a recogniser scores."""
    return "own_encoder_" if recogniser == OWN else ""


def mean_scores(scores: Sequence[tuple[str, Mapping[str, float]]], prefix: str) -> dict[str, float]:
    """Means over scenes of the target and over those of other people, by the names they are logged under."""
    values: dict[str, float] = {}
    for group in ("target", "people"):
        of_group = [score for who, score in scores if score and (who == TARGET) == (group == "target")]
        for name in of_group[0] if of_group else ():
            values[f"validation/{prefix}{name}_{group}"] = float(np.mean([score[name] for score in of_group]))
    return values
