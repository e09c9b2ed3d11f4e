"""Judge whose face came out: compare renders with real clips of the dancers and photos of the target.

Heads are cut where the clip's own head boxes say, out of renders and out of real clips alike. The judge should be a
recogniser that training has not used (`--validation_recogniser`). The default is the encoder of the identities itself,
because it is always there. Its scores carry its name, since it judges its own work.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.order import spread
from faceid.data.shards.index import DamagedError
from faceid.evaluation.figures import similarity
from faceid.evaluation.figures.video_metrics import IDENTITY_METRICS, PICTURE_METRICS, measure_pictures
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

# Most people of the gallery besides the target, clips of each and frames of a clip. They suffice to tell people apart.
MOST_PEOPLE, CLIPS_EACH, FRAMES_EACH = 15, 2, 5
# The logged scores of each video: those by a judge, and those of its pictures alone.
SCORES = tuple(metric.name for metric in IDENTITY_METRICS if metric.in_training)
PICTURES = tuple(metric for metric in PICTURE_METRICS if metric.in_training and metric.of is not None)


@dataclass
class Judge:
    """Scores renders."""

    encoder: FaceEncoder
    latents: LatentSet | LatentSets
    face_margin: float
    _gallery: dict[str, np.ndarray] = field(default_factory=dict)

    def know(self, photo_crops: Sequence[np.ndarray], dancers: Sequence[str], renderer: SceneRenderer) -> None:
        """Learn the target's faces (without any it is not scored), and real clips of the first few dancers."""
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
        """Scores by the names in SCORES; empty if unknown. margin: over the best other person. frames: uint8."""
        people = sorted(self._gallery)
        crops = self._crops(scene.number, frames, range(len(frames)))
        if scene.who not in people or len(people) < 2 or not crops:
            return {}
        embeddings = self.encoder.embed(crops).numpy()
        references = np.stack([self._gallery[name] for name in people])
        cosines = similarity.frame_cosines(embeddings, np.ones(len(crops), bool), references)
        scores, own = similarity.scores(cosines), people.index(scene.who)
        known = {
            "rank1": float(similarity.rank(scores, own) == 1),
            "similarity": float(scores[own]),
            "margin": similarity.margin(scores, own),
        }
        return {name: known[name] for name in SCORES}

    def _real(self, number: int, renderer: SceneRenderer) -> list[np.ndarray]:
        try:
            frames = renderer.clip(number)
        except DamagedError as damage:
            log.warning("not in the validation's gallery: %s", damage)
            return []
        return self._crops(number, frames, spread(len(frames), FRAMES_EACH))

    def _crops(self, number: int, frames: np.ndarray, places: Sequence[int]) -> list[np.ndarray]:
        """The heads in those of these frames where the head is known."""
        boxes = self.latents.head_boxes(number)
        known = [(place, box) for place in places if place < len(boxes) and (box := boxes[place]) is not None]
        return [cut_head(frames[place], box, self.face_margin) for place, box in known]


@dataclass(frozen=True)
class Judging:
    """The parts of a judge, for when it is first needed. recogniser: as in `validation_recogniser`, but never none."""

    recogniser: str
    faces: FaceSettings
    identity: Identity
    photos_dir: Path | None

    @property
    def prefix(self) -> str:
        """The prefix of the metrics' names. It tells when the encoder judges its own work."""
        return prefix_of(self.recogniser)

    def judge(self, latents: LatentSet | LatentSets, device: str) -> Judge:
        """Load the recogniser. Raises: ModelError."""
        encoder = encoder_of(self.faces) if self.recogniser == OWN else load_recogniser(self.recogniser, device)
        return Judge(encoder, latents, self.faces.face_margin)

    def photo_crops(self) -> list[np.ndarray]:
        """The target's faces, cut out of the photos that the identity kept; empty without photos."""
        if self.photos_dir is None:
            return []
        margin = self.faces.face_margin
        return [
            crop_face(images.read_photo(self.photos_dir / name), box, margin)
            for name, box in sorted(self.identity.photo_boxes.items())
        ]


def prefix_of(recogniser: str) -> str:
    """The prefix of the names of a recogniser's scores."""
    return "own_encoder_" if recogniser == OWN else ""


def picture_scores(latents: LatentSet | LatentSets, number: int, frames: np.ndarray) -> dict[str, float]:
    """The logged scores of a video's pictures alone, rendered on clip `number`. frames: uint8 [T, H, W, 3]."""
    boxes = [*latents.head_boxes(number), *[None] * len(frames)] if PICTURES else []
    return measure_pictures(frames, boxes[: len(frames)], PICTURES)


def mean_scores(scores: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, float]:
    """Means over scenes of the target and over those of other people, by the names for the log.

    scores: whom a video shows, and its numbers; nan where a number could not be measured.
    """
    values: dict[str, float] = {}
    for group in ("target", "people"):
        of_group = [score for who, score in scores if (who == TARGET) == (group == "target")]
        for name in dict.fromkeys(name for score in of_group for name in score):
            known = [score[name] for score in of_group if not math.isnan(score.get(name, math.nan))]
            if known:
                values[f"validation/{name}_{group}"] = float(np.mean(known))
    return values
