"""Choose the face for each sample's pixels, by the recipe's first rule, and the drop-outs that allow guidance.

A clip is given its own dancer's face, mostly from other clips of that dancer. A photo of the target is given the
target's embedding without that photo (leave one out). `pairing: constant` gives everything the target's embedding: the
naive recipe, kept as the control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.order import seed_for
from faceid.data.stream.pairing_settings import Kind, PairingSettings
from faceid.faces.aggregate import aggregate
from faceid.faces.identities.identity import Identity

Source = Literal["other_clip", "same_clip", "no_face_known", "target_face"]
"""Where a clip's face comes from: its dancer's other performances, its own, nowhere, or the target (the control)."""


class ChosenFace(NamedTuple):
    """A clip's face: the mean of `num_faces` faces [D], or zeros (the null face) when its dancer is unknown."""

    embedding: Tensor
    source: Source
    num_faces: int


class Pairing:
    """Chooses embeddings for clips and photos. Every choice is a function of (seed, global sample index)."""

    def __init__(
        self,
        settings: PairingSettings,
        seed: int,
        identity: Identity,
        faces: FaceBank,
        dancer_of: Mapping[str, str],
    ) -> None:
        """identity: the target. faces: the dancers' faces. dancer_of: clip key to dancer, for every clip."""
        self.settings, self.seed = settings, seed
        self.identity, self.target, self.faces = identity, identity.embedding, faces
        self.dancer_of = dancer_of

    def clip_face(self, key: str, g: int) -> ChosenFace:
        """The face for a clip.

        The face comes mostly from other performances of that dancer. Faces of the clip's own show the same expression,
        clothes and light, and what can be copied is not learnt.
        """
        if self.settings.pairing == "constant":
            return ChosenFace(self.target, "target_face", 0)
        own, others = self.faces.faces_for(key, self.dancer_of[key])
        generator = self._generator(g, "face")
        from_others = torch.rand(1, generator=generator).item() < self.settings.other_clip_share
        is_other = others is not None and (from_others or own is None)
        pool = others if is_other else own
        if pool is None:
            return ChosenFace(torch.zeros_like(self.target), "no_face_known", 0)
        count = int(torch.randint(1, min(self.settings.max_faces, len(pool.rows)) + 1, (1,), generator=generator))
        embedding = pool.mean(torch.randperm(len(pool.rows), generator=generator)[:count].numpy())
        return ChosenFace(embedding, "other_clip" if is_other else "same_clip", count)

    def photo_face(self, name: str) -> Tensor:
        """The target's embedding [D] without photo `name`. Otherwise the pixels could be copied from it."""
        others = [photo for photo in self.identity.photo_embeddings if photo != name]
        if self.settings.pairing == "constant" or not others:
            return self.target
        weights = torch.tensor([self.identity.photo_weights[photo] for photo in others], dtype=torch.float64)
        embeddings = torch.stack([self.identity.photo_embeddings[photo] for photo in others])
        return aggregate(embeddings, weights, "weighted_mean")

    def is_body(self, g: int) -> bool:
        """Whether a clip at position g is given the target's face, and learnt outside its dancer's head alone."""
        if self.settings.pairing == "constant":
            return False
        draw = torch.rand(1, generator=self._generator(g, "body"), dtype=torch.float64).item()
        return draw < self.settings.body_share

    def is_target(self, kind: Kind) -> bool:
        """Whether a sample of this kind is given the target's face, if it is none of the bodies."""
        return kind == "photo" or (kind == "clip" and self.settings.pairing == "constant")

    def drops(self, g: int) -> tuple[bool, bool]:
        """Whether the sample at g loses its face and its text."""
        both, face = self.settings.both_dropout, self.settings.face_dropout
        draw = torch.rand(1, generator=self._generator(g, "dropout"), dtype=torch.float64).item()
        if draw < both:
            return True, True
        if draw < both + face:
            return True, False
        return False, draw < both + face + self.settings.text_dropout

    def _generator(self, g: int, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_for(self.seed, g, purpose))
