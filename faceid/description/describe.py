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
from faceid.models.base.prompts import count_tokens
from faceid.models.base.wan import WanModel, load_wan
from faceid.models.prompt_phrases import join_phrases
from faceid.toy.descriptions import phrase_groups
from faceid.toy.shipped import SIDE_PX, TOY, resolve_model_path

log = logging.getLogger(__name__)

# What a photo shows, besides whom.
OPENING = "a portrait of a person"
# Of the sizes that Wan was trained at, the least.
USUAL_SIDE_PX = 480


def describe(settings: DescribeSettings) -> Description:
    """Find a description, or encode the one that was given. Raises: FaceidError for inputs that cannot be used."""
    files = ModelFiles.find(resolve_model_path(settings.model_path), settings.vae_path, settings.text_encoder_path)
    device = pick_device(settings.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    if settings.text is not None:
        if not settings.text.strip():
            raise ConfigError("text: is empty; nothing is said of the person")
        return encode_description(
            load_wan(files, ("text",), device, dtype, name=settings.model_path), settings.prompt, [settings.text]
        )
    is_toy = settings.model_path == TOY
    if is_toy and settings.phrases is None:
        phrases = Phrases(phrase_groups())
    else:
        phrases = read_phrases(Path(settings.phrases or SHIPPED))
    files = files.of_expert(settings.expert)
    identity = load_identity(settings.face_embedding)
    if not identity.photo_sha256:
        raise ConfigError(f"face_embedding={settings.face_embedding}: knows no photos; give an identity folder")
    photos = _best_photos(Path(settings.face_images_dir), identity, settings.most_photos)
    size = settings.photo_size or (SIDE_PX if is_toy else USUAL_SIDE_PX)
    files.geometry.check_size(size, size, ("photo_size", "photo_size"))
    wan = load_wan(files, ("text", "vae", "transformer"), device, dtype, name=settings.model_path)
    # Before the search, which takes the time.
    _check_room(wan, settings.prompt, phrases)
    quick, careful = (photo_losses(wan, photos, size, *of) for of in ((QUICK_LEVELS, 0), (CAREFUL_LEVELS, 1)))
    log.info("%d phrases; samples of each: %d, of the best %d", len(phrases), quick.num_samples, careful.num_samples)
    found = find_phrases(phrases, OPENING, quick, careful)
    if not found.phrases:
        raise ConfigError(
            f"phrases={settings.phrases or SHIPPED}: none of {len(phrases)} helps the base to draw these photos; give "
            "--text, or train without a description"
        )
    log.info("loss of the photos inside the head: %.4f, described %.4f", found.loss_before, found.loss_after)
    return encode_description(wan, settings.prompt, list(found.phrases.values()))


def _check_room(wan: WanModel, prompt: str, phrases: Phrases) -> None:
    """Raises: ConfigError where a phrase after the prompt, or after the opening, is more than the base reads."""
    for group, of in phrases.groups.items():
        longest = max(of, key=len)
        for opening in (prompt, OPENING):
            count, most = count_tokens(wan.tokenizer, join_phrases(opening, [longest])), wan.files.text_tokens
            if count >= most:
                with_phrase = f"prompt={opening[:24]}...: with a phrase of {group} ({longest[:24]})"
                raise ConfigError(
                    f"{with_phrase} it has {count} tokens, the base reads {most}; give a shorter prompt, or phrases"
                )


def _best_photos(folder: Path, identity: Identity, most: int) -> list[FacePhoto]:
    """The photos that count most, best first. Raises: DataError for other photos, or an identity of none."""
    check_same_photos(folder, identity)
    weights = identity.photo_weights
    best = sorted(identity.photo_sha256, key=lambda name: (-weights[name], name))
    return face_photos(folder, identity, best[:most], {})
