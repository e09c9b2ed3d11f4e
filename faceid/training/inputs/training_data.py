"""Build the stream that a run trains on from latents, photos and faces.

Its content is reported before the start.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from faceid.data.dancer_faces.face_bank import FaceBank, read_face_bank
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.latents.photo_latents import PhotoLatent, read_photo_latents
from faceid.data.latents.reference_latents import References, read_references
from faceid.data.order import hold_out
from faceid.data.stream.held_out import HeldOut, hold_back
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.data.stream.training_set import TrainingSet
from faceid.errors import ConfigError
from faceid.faces.identities.identity import Identity
from faceid.faces.photos.photo_selection import FEWEST_PHOTOS
from faceid.models.base.wan import WanModel
from faceid.training.inputs.prepare import PreparedInputs
from faceid.training.recipe.recipe_settings import HeldOutSettings

log = logging.getLogger(__name__)


def build_training_set(
    prepared: PreparedInputs,
    identity: Identity,
    wan: WanModel,
    pairing_settings: PairingSettings,
    held_out_settings: HeldOutSettings,
    order: StreamOrder,
) -> TrainingSet:
    """Join latents, photos and faces to one stream. Raises: ConfigError when no dancer would be left to train on."""
    latents = LatentSets.open(prepared.latents)
    faces = read_face_bank(prepared.faces, identity.encoder_fingerprint) if prepared.faces else FaceBank()
    has_own_faces = pairing_settings.pairing == "own"
    if not faces and has_own_faces:
        log.warning("no dancer's face is known: every clip is trained with the null face, only photos carry identity")
    photos = read_photo_latents(prepared.photos, wan.latents_fingerprint) if prepared.photos else {}
    if not photos:
        log.warning("no photos of the target: only the clips' dancers teach the face; give --face_images_dir")
    dancer_of = dict(zip(latents.clips, latents.dancers, strict=True))
    own = sum(one.num_captioned for one in latents.sets), sum(photo.caption is not None for photo in photos.values())
    if any(own):
        log.info("captions of their own: %d of %d clips, %d of %d photos", own[0], len(dancer_of), own[1], len(photos))
    if faces and has_own_faces:
        _warn_of_faceless(faces, dancer_of)
    pairing = Pairing(pairing_settings, order.seed, identity, faces, dancer_of)
    held_out = hold_back_of(latents.clips, latents.dancers, held_out_settings, order.seed)
    references = None
    if prepared.references is not None:
        references = read_references(prepared.references, wan.latents_fingerprint)
        _say_references(references, photos, pairing_settings.reference_share)
    kept = hold_photos_back(photos, held_out_settings.heldout_photos, order.seed)
    training_set = TrainingSet(latents, photos, pairing, wan.statistics, order, held_out, references, kept)
    _say_held_out(training_set, held_out_settings.heldout_clips)
    _say_sizes(latents, order.micro_batch_size)
    return training_set


def _say_references(references: References, photos: dict[str, PhotoLatent], share: float) -> None:
    log.info("reference frames in %.0f %% of the samples, of %d dancers", 100 * share, references.num_dancers)
    if photos and not references.has_target:
        log.warning("no reference frame of the target: give --face_images_dir")
    if not references.num_dancers:
        log.warning("no reference frame of any dancer: only the target's photos get one; give --shards or --face_bank")


def _say_sizes(latents: LatentSets, micro_batch_size: int) -> None:
    sizes = Counter(latents.sizes)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {f} frames at {w}x{h}" for (f, h, w), count in sizes.items())
        log.info("clips of several sizes, %d to a micro-batch of one size: %s", micro_batch_size, listed)


def hold_back_of(clips: Sequence[str], dancers: Sequence[str], settings: HeldOutSettings, seed: int) -> HeldOut:
    """The clips that a run keeps from training. Raises: ConfigError unless enough is left on both sides."""
    heldout_dancers, num_dancers = settings.heldout_dancers, len(set(dancers))
    if heldout_dancers and not 2 <= heldout_dancers < num_dancers:
        legal = f"0, or 2 to {num_dancers - 1}" if num_dancers > 2 else "0"
        raise ConfigError(
            f"heldout_dancers={heldout_dancers}: the clips show {num_dancers} dancers, a swap needs two and "
            f"training one; use {legal}"
        )
    held_out = hold_back(clips, dancers, heldout_dancers, settings.heldout_clips, seed)
    if settings.heldout_clips and not held_out.performances:
        raise ConfigError(
            f"heldout_clips={settings.heldout_clips}: no dancer has two performances, one to learn from and one to "
            "keep; use 0, or --heldout_dancers"
        )
    return held_out


def check_heldout_photos(count: int, num_photos: int) -> None:
    """Raises: ConfigError unless three photos are left to learn from."""
    most = max(num_photos - FEWEST_PHOTOS, 0)
    if count > most:
        raise ConfigError(
            f"heldout_photos={count}: of {num_photos} photos {FEWEST_PHOTOS} must be left to learn from; use {most} "
            "or fewer"
        )


def hold_photos_back(photos: Mapping[str, PhotoLatent], count: int, seed: int) -> list[str]:
    """The photos that a run keeps from training. Raises: ConfigError unless three are left to learn from."""
    names = sorted({photo.photo or key for key, photo in photos.items()})
    check_heldout_photos(count, len(names))
    kept = hold_out(names, count, seed)
    if missing := [name for name in kept if name not in photos]:
        raise ConfigError(
            f"heldout_photos={count}: {missing[0]} is not shown as itself; give photo_framings with photo, and "
            "photo_sizes with 1"
        )
    if kept:
        log.info("held out: %d of %d photos of the target", len(kept), len(names))
    return kept


def _say_held_out(training_set: TrainingSet, heldout_clips: int) -> None:
    held, latents = training_set.held_out, training_set.latents
    kept = len(latents) - len(training_set.clip_numbers)
    if kept:
        log.info(
            "held out: %d of %d clips, of %d dancers and of %d performances of others",
            kept,
            len(latents),
            len(held.dancers),
            len(held.performances),
        )
    num_training = len(set(latents.dancers) - held.dancers)
    if len(held.performances) < heldout_clips * num_training:
        log.warning(
            "heldout_clips: %d performances kept, fewer than %d of each of %d dancers: one at least stays in training",
            len(held.performances),
            heldout_clips,
            num_training,
        )


def _warn_of_faceless(faces: FaceBank, dancer_of: dict[str, str]) -> None:
    """Report how many clips have a dancer without a known face, and who. They are trained with the null face."""
    faceless = [key for key, dancer in dancer_of.items() if not faces.knows(key, dancer)]
    if faceless:
        dancers = sorted({dancer_of[key] for key in faceless})
        log.warning(
            "no face is known of %d of %d clips, of %d dancers such as %s: they are trained with the null face",
            len(faceless),
            len(dancer_of),
            len(dancers),
            dancers[0],
        )


def say_stage2(training_set: TrainingSet) -> None:
    """Report the mixture of stage 2, and which of its shares nothing can fill."""
    mixture = training_set.mixture
    quotas = ", ".join(f"{count} {kind}" for kind, count in sorted(mixture.quotas.items()))
    count = mixture.length.stage2
    log.info("stage 2 from epoch %d: of %d samples %s", mixture.length.stage2_from_epoch + 1, count, quotas)
    missing = [kind for kind, share in training_set.pairing.settings.stage2_shares.items() if share]
    missing = [kind for kind in missing if not mixture.quotas.get(kind)]
    if missing:
        log.warning(
            "stage 2: no %s samples, although a share is set: there are none, or an epoch is too small for it",
            ", ".join(missing),
        )
