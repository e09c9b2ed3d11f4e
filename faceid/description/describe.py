"""Put it together: photos and a base in, a description out."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from faceid.data.latents.photo_latents import FacePhoto, face_photos
from faceid.description.describe_settings import DescribeSettings
from faceid.description.description_file import Description
from faceid.description.photo_losses import CAREFUL_LEVELS, QUICK_LEVELS, encode_description, photo_losses
from faceid.description.phrases import SHIPPED, Phrases, read_phrases
from faceid.description.search import find_phrases
from faceid.device import pick_device
from faceid.errors import ConfigError
from faceid.faces.identities.identity import Identity, check_same_photos, load_identity
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import load_wan
from faceid.toy.descriptions import phrase_groups
from faceid.toy.shipped import SIDE_PX, TOY, resolve_model_path

log = logging.getLogger(__name__)

# What a photo shows, besides whom.
OPENING = "a portrait of a person"
# Of the sizes that Wan was trained at, the least.
USUAL_SIDE_PX = 480


def describe(settings: DescribeSettings) -> Description:
    """Find a description, or encode the one that was given. Raises: FaceidError for inputs that cannot be used."""
    is_toy = settings.model_path == TOY
    if is_toy and settings.phrases is None:
        phrases = Phrases(phrase_groups())
    else:
        phrases = read_phrases(Path(settings.phrases or SHIPPED))
    files = ModelFiles.find(resolve_model_path(settings.model_path), settings.vae_path, settings.text_encoder_path)
    files = files.of_expert(settings.expert)
    identity = load_identity(settings.face_embedding)
    photos = _best_photos(Path(settings.face_images_dir), identity, settings.most_photos)
    size = settings.photo_size or (SIDE_PX if is_toy else USUAL_SIDE_PX)
    files.geometry.check_size(size, size, ("photo_size", "photo_size"))
    device = pick_device(settings.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    parts = ("text",) if settings.text is not None else ("text", "vae", "transformer")
    wan = load_wan(files, parts, device, dtype, name=settings.model_path)
    if settings.text is not None:
        return encode_description(wan, settings.prompt, settings.text)
    quick, careful = (photo_losses(wan, photos, size, *of) for of in ((QUICK_LEVELS, 0), (CAREFUL_LEVELS, 1)))
    log.info("%d phrases; samples of each: %d, of the best %d", len(phrases), quick.num_samples, careful.num_samples)
    found = find_phrases(phrases, OPENING, quick, careful)
    if not found.phrases:
        raise ConfigError(
            f"phrases={settings.phrases or SHIPPED}: none of {len(phrases)} helps the base to draw these photos; give "
            "--text, or train without a description"
        )
    log.info("loss of the photos inside the head: %.4f, described %.4f", found.loss_before, found.loss_after)
    return encode_description(wan, settings.prompt, ", ".join(found.phrases.values()))


def _best_photos(folder: Path, identity: Identity, most: int) -> list[FacePhoto]:
    """The photos that count most, best first. Raises: DataError for other photos, or an identity of none."""
    check_same_photos(folder, identity)
    weights = identity.photo_weights
    best = sorted(identity.photo_sha256, key=lambda name: (-weights[name], name))
    return face_photos(folder, identity, best[:most], {})
