"""The identity loss: at low noise, whose face a prediction shows, by a recogniser.

The prediction of a photo's clean latent is decoded around the face, cut as the recogniser expects it, and compared with
the target's other photos. So what is learnt is who somebody is, and not how this photo shows them. The recogniser must
never judge: what is trained against scores well by itself. (PuLID, 2404.16022; PortraitBooth, 2312.06354.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from faceid.data.stream.training_set import TrainingSample
from faceid.errors import ConfigError
from faceid.faces.encoders.encoder_kinds import ENCODERS
from faceid.faces.encoders.face_encoders import VisionEncoder, check_encoder_is_there, load_encoder
from faceid.faces.identities.identity import Identity
from faceid.faces.photos.detect import crop_face, window_around
from faceid.geometry import Geometry
from faceid.media.images import read_photo
from faceid.models.base.latent_codec import LatentStatistics, decode_unclamped
from faceid.models.base.wan import WanModel, load_wan
from faceid.toy.shipped import resolve_encoder_path
from faceid.training.recipe.recipe_settings import IdentityLossSettings
from faceid.training.world.distributed import World

# Latent cells decoded around a face on each side, besides it. A decoder's pixels depend on their neighbours.
MARGIN_CELLS = 2


@dataclass
class IdentityLoss:
    """The recogniser, and the target's photos as it sees them.

    photos: unit embeddings [D] by photo. vae: frozen, in float32. face_margin: as photos are cut for identities.
    """

    encoder: VisionEncoder
    photos: Mapping[str, Tensor]
    vae: Any
    statistics: LatentStatistics
    geometry: Geometry
    face_margin: float
    max_sigma: float

    def __call__(self, batch: TrainingSample, x_t: Tensor, velocity: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        """Sums over the entries that show the target at low noise, as shares of the batch. `of_entries` divides them.

        x_t, velocity: [B, C, f, h, w]; sigma: [B]. `identity_loss`: 1 - cosine. `identity_sharpness`: edges of a face,
        as a share of the real photo's, since a blurred face may score well. `identity_entries`: how many there were.
        """
        sums = {name: torch.zeros((), device=x_t.device) for name in ("identity_loss", "identity_sharpness")}
        chosen = self.entries(batch, sigma)
        for i in chosen:
            x0 = x_t[i : i + 1].float() - sigma[i] * velocity[i : i + 1].float()
            face = self._face(x0[:, :, -1:], batch.face_boxes[i])
            with torch.no_grad():
                real = self._face(batch.x0[i : i + 1, :, -1:].float(), batch.face_boxes[i])
            pool = torch.stack([e for name, e in sorted(self.photos.items()) if name != batch.photos[i]]).to(face)
            cosine = self.encoder.embed_pixels(face) @ F.normalize(pool.mean(0), dim=0)
            sums["identity_loss"] = sums["identity_loss"] + 1 - cosine.squeeze()
            sums["identity_sharpness"] += _edges(face.detach()) / _edges(real).clamp_min(1e-6)
        sums["identity_entries"] = torch.tensor(float(len(chosen)), device=x_t.device)
        return {name: value / len(batch.g) for name, value in sums.items()}

    def entries(self, batch: TrainingSample, sigma: Tensor) -> list[int]:
        """The entries of a batch that it is taken of."""
        return [
            i
            for i, (kind, box, photo) in enumerate(zip(batch.kinds, batch.face_boxes, batch.photos, strict=True))
            if kind == "photo"
            and box
            and sigma[i] <= self.max_sigma
            and bool(batch.face[i].any())
            and any(name != photo for name in self.photos)
        ]

    def _face(self, x0: Tensor, box: Sequence[float]) -> Tensor:
        """The face's square crop of a normalised latent [1, C, 1, h, w]: [1, 3, S, S] in [0, 1]."""
        px, (_, _, _, h, w) = self.geometry.spatial_factor, x0.shape
        left, top, width, height = window_around(box, self.face_margin)
        first_x, last_x = _cells(left, left + width, w, px)
        first_y, last_y = _cells(top, top + height, h, px)
        window = self.statistics.denormalise(x0[..., first_y:last_y, first_x:last_x])
        pixels = decode_unclamped(self.vae, window)[:, :, 0].clamp(-1, 1) / 2 + 0.5
        # Where the square leaves the window, the window's edge is repeated, as with photos.
        columns = torch.arange(left, left + width).sub(first_x * px).clamp(0, pixels.shape[3] - 1)
        rows = torch.arange(top, top + height).sub(first_y * px).clamp(0, pixels.shape[2] - 1)
        return pixels[:, :, rows][:, :, :, columns]


def check_identity_loss(settings: IdentityLossSettings, has_photos: bool) -> None:
    """Refuse before any work what the loss cannot be made of. Raises: ConfigError; ModelError for no recogniser."""
    if not settings.identity_loss_weight:
        return
    if not has_photos:
        raise ConfigError(
            f"identity_loss_weight={settings.identity_loss_weight:g}: compares photos of the target with each other; "
            "give --face_images_dir, or 0"
        )
    kind, path = _kind_and_path(settings.identity_loss_encoder or "")
    check_encoder_is_there(kind, path, "identity_loss_encoder")


def make_identity_loss(
    settings: IdentityLossSettings,
    face_margin: float,
    identity: Identity,
    photos_dir: Path | None,
    wan: WanModel,
    world: World,
) -> IdentityLoss | None:
    """The identity loss with its recogniser, the VAE and the target's photos; None where none is asked for.

    Raises: ConfigError without photos to compare; ModelError for a recogniser that cannot be loaded.
    """
    if not settings.identity_loss_weight:
        return None
    if photos_dir is None or len(identity.photo_boxes) < 2:
        raise ConfigError(
            f"identity_loss_weight={settings.identity_loss_weight:g}: compares photos of the target with each other; "
            "give --face_images_dir with two at least, or 0"
        )
    device = world.accelerator.device
    with world.loading_whole():
        encoder = _load_recogniser(settings.identity_loss_encoder or "", str(device))
        vae = load_wan(wan.files, ("vae",), device, name=wan.name).vae
    crops = {
        name: crop_face(read_photo(photos_dir / name), box, face_margin)
        for name, box in sorted(identity.photo_boxes.items())
    }
    photos = dict(zip(crops, encoder.embed(list(crops.values())), strict=True))
    return IdentityLoss(
        encoder, photos, vae, wan.statistics, wan.geometry, face_margin, settings.identity_loss_max_sigma
    )


def of_entries(losses: dict[str, float]) -> dict[str, float]:
    """A step's losses with the identity's per entry. Where there was none, they are left out."""
    entries = losses.get("identity_entries")
    if entries is None:
        return losses
    others = {name: value for name, value in losses.items() if not name.startswith("identity_")}
    means = {name: losses[name] / entries for name in ("identity_loss", "identity_sharpness")} if entries else {}
    return {**others, **means}


def _load_recogniser(text: str, device: str) -> VisionEncoder:
    """The recogniser that a flag names, KIND:PATH. Raises: ConfigError for one without gradient; ModelError."""
    encoder = load_encoder(*_kind_and_path(text), device)
    assert isinstance(encoder, VisionEncoder)
    encoder.model.requires_grad_(False)
    return encoder


def _kind_and_path(text: str) -> tuple[str, str | None]:
    kind, _, path = text.partition(":")
    spec = ENCODERS.get(kind)
    if spec is None or spec.vision is None:
        kinds = ", ".join(name for name, known in ENCODERS.items() if known.vision is not None)
        raise ConfigError(f"identity_loss_encoder={text}: give KIND:PATH with one of {kinds}, which have a gradient")
    return kind, resolve_encoder_path(path or None)


def _cells(low: float, high: float, count: int, px: int) -> tuple[int, int]:
    """The latent cells from `low` to `high` in pixels, with a margin, inside the picture."""
    return max(int(low // px) - MARGIN_CELLS, 0), min(int(-(-high // px)) + MARGIN_CELLS, count)


def _edges(face: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels."""
    return (face[..., 1:] - face[..., :-1]).abs().mean() + (face[..., 1:, :] - face[..., :-1, :]).abs().mean()
