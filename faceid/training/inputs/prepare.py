"""Prepare raw folders for training: identity, clip shards, latents, faces of the clips, photo latents.

Everything goes into the run folder's cache, where a second run finds it. The main process works. The others wait before
any process group exists, so that hours of encoding meet no collective's timeout. A folder of latents that was made
beforehand is used directly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from faceid.data.clips.captions import captions_for, find_caption, read_captions, say_captions, say_strangers
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.clips.pairs import find_pairs
from faceid.data.dancer_faces.banked_pictures import banked_pictures
from faceid.data.dancer_faces.face_bank import open_face_bank, write_face_bank
from faceid.data.dancer_faces.face_crops import FaceSource
from faceid.data.dancer_faces.face_sources import of_pairs, of_shards
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.latents.latent_shards import check_latents_folder, latents_are_current, write_latent_shards
from faceid.data.latents.photo_latents import PhotoView, encode_photos, face_photos, photo_latents_are_current, views_of
from faceid.data.latents.reference_latents import ReferencePicture, encode_references, references_are_current
from faceid.data.shards.index import ShardIndex
from faceid.errors import DataError, ModelError
from faceid.faces.encoders.face_encoders import FaceEncoder
from faceid.faces.identities.identity import Identity, check_same_photos, identity_is_current, load_identity
from faceid.faces.identities.photos_to_identity import encoder_of, make_identity
from faceid.faces.identities.reference_pictures import cut_reference
from faceid.files.provenance import sha256_json
from faceid.files.writing import make_parents, write_json
from faceid.media import images
from faceid.models.base.wan import load_wan
from faceid.training.inputs.input_plan import InputPlan

log = logging.getLogger(__name__)

POLL_S = 1.0


@dataclass(frozen=True)
class PreparedInputs:
    """Folders that training reads. faces is None when only latents were given."""

    identity: Path
    latents: Sequence[Path]
    faces: Path | None
    photos: Path | None
    references: Path | None = None
    """None where no sample gets a reference frame."""
    photos_dir: Path | None = None
    """The photos themselves."""


def prepare(plan: InputPlan, device: str) -> PreparedInputs:
    """Make or find every input. A second call changes nothing. Raises: FaceidError for inputs that cannot be used."""
    prepared = _folders(plan)
    if plan.inputs.latents is None:
        for folder in (_clips_dir(plan), *prepared.latents):
            make_parents(folder / "index")
    identity, encoder = _prepare_identity(plan, prepared.identity)
    if plan.inputs.face_bank is not None:
        # Checked before hours of encoding: the bank may be of another encoder than the identity.
        open_face_bank(Path(plan.inputs.face_bank), identity.encoder_fingerprint)
    if plan.inputs.latents is None:
        clips = _clips_dir(plan)
        videos, poses = plan.inputs.dance_videos_dir, plan.inputs.pose_videos_dir
        assert videos is not None and poses is not None
        caption_files, geometry = plan.captions.caption_files, plan.base.geometry
        write_clip_shards(Path(videos), Path(poses), clips, plan.clips, geometry, caption_files=caption_files)
        _encode_latents(plan, clips, prepared.latents[0], device)
    if prepared.faces is not None and plan.inputs.face_bank is None:
        encoder = encoder or encoder_of(plan.faces)
        _check_same_encoder(identity, encoder)
        write_face_bank(_face_sources(plan), prepared.faces, encoder, plan.faces)
    if prepared.photos is not None:
        _encode_photos(plan, identity, prepared.photos, device)
    if prepared.references is not None:
        _encode_references(plan, identity, prepared, device)
    return prepared


def prepare_on_main(plan: InputPlan, rank: int, device: str) -> PreparedInputs:
    """Call `prepare` on rank 0, while the other ranks wait for its marker file; see `remove_marker`."""
    marker = _marker(plan)
    if rank == 0:
        remove_marker(plan)  # a killed launch may have left one
        prepared = prepare(plan, device)
        write_json(marker, {"ready": True})
        return prepared
    _wait_for(marker.exists)
    return _folders(plan)


def remove_marker(plan: InputPlan) -> None:
    """Remove the marker. Rank 0 calls this once all ranks are past it, since the next launch must wait for its own."""
    _marker(plan).unlink(missing_ok=True)


def _marker(plan: InputPlan) -> Path:
    return plan.cache() / f"ready-{_attempt(plan)}.json"


def _folders(plan: InputPlan) -> PreparedInputs:
    cache, inputs = plan.cache(), plan.inputs
    return PreparedInputs(
        identity=Path(inputs.face_embedding) if inputs.face_embedding else cache / "identity",
        latents=inputs.latents_dirs or [cache / "latents"],
        faces=_faces_dir(plan),
        photos=cache / "photos" if inputs.face_images_dir else None,
        references=cache / "references" if plan.has_references else None,
        photos_dir=Path(inputs.face_images_dir) if inputs.face_images_dir else None,
    )


def _clips_dir(plan: InputPlan) -> Path:
    """The clip shards made from folders of clips."""
    return plan.cache() / "clips"


def _faces_dir(plan: InputPlan) -> Path | None:
    """The given bank, else the one made from the clips; None when there is nothing to make it from."""
    if plan.inputs.face_bank is not None:
        return Path(plan.inputs.face_bank)
    return plan.cache() / "faces" if plan.inputs.latents is None or plan.inputs.shards else None


def _face_sources(plan: InputPlan) -> Sequence[FaceSource]:
    """The original clips, which show most of a face; else the shards made from them."""
    if plan.inputs.shards_dirs:
        return [source for folder in plan.inputs.shards_dirs for source in of_shards(ShardIndex.load(folder, "clips"))]
    videos, poses = plan.inputs.dance_videos_dir, plan.inputs.pose_videos_dir
    assert videos is not None and poses is not None
    return of_pairs(find_pairs(Path(videos), Path(poses)).pairs)


def _prepare_identity(plan: InputPlan, folder: Path) -> tuple[Identity, FaceEncoder | None]:
    """The identity, and the encoder when it had to be loaded."""
    if plan.inputs.face_embedding is not None:
        return load_identity(folder), None
    photos = Path(plan.inputs.face_images_dir or "")
    encoder = encoder_of(plan.faces)
    check_init_encoder(plan, encoder.name, encoder.fingerprint, encoder.dim)
    if identity_is_current(folder, photos, encoder, plan.faces):
        return load_identity(folder), encoder
    return make_identity(photos, folder, plan.faces, encoder), encoder


def _encode_latents(plan: InputPlan, clips: Path, folder: Path, device: str) -> None:
    captions = captions_for(ShardIndex.load(clips, "clips"), plan.captions)
    if latents_are_current(clips, folder, plan.base.latents_fingerprint, captions):
        return
    check_latents_folder(clips, folder, plan.base.latents_fingerprint, captions)
    # Only the text encoder follows the dtype. The real one takes 23 GB in float32. tools/encode_latents.py does the
    # same.
    wan = load_wan(plan.base, ("vae", "text"), device, torch.bfloat16, name=plan.base_name)
    write_latent_shards(clips, folder, wan, captions)


def _encode_photos(plan: InputPlan, identity: Identity, folder: Path, device: str) -> None:
    """Encode the photos that the identity kept, as single-frame samples of the clips' size, around the face."""
    photos_dir, fingerprint = Path(plan.inputs.face_images_dir or ""), plan.base.latents_fingerprint
    (height, width), views = clip_size(plan), photo_views(plan)
    check_same_photos(photos_dir, identity)
    captions = photo_captions(plan, list(identity.photo_sha256))
    if plan.captions.caption_files == "read":
        say_strangers(photos_dir)
        say_captions(len(captions), len(identity.photo_sha256), "photos")
    if photo_latents_are_current(folder, identity.photo_sha256, fingerprint, height, width, captions, views):
        return
    photos = face_photos(photos_dir, identity, sorted(identity.photo_sha256), captions)
    parts = ("vae", "text") if captions else ("vae",)
    wan = load_wan(plan.base, parts, device, torch.bfloat16, name=plan.base_name)
    encode_photos(photos, folder, wan, height, width, views, private=not plan.faces.shared)


def _encode_references(plan: InputPlan, identity: Identity, prepared: PreparedInputs, device: str) -> None:
    """Encode reference frames: of the target from the photos, of the dancers from the face bank."""
    assert prepared.references is not None
    photos_dir = Path(plan.inputs.face_images_dir or "")
    boxes = identity.photo_boxes if plan.inputs.face_images_dir else {}
    of_photos = sorted({(view.height, view.width) for view in photo_views(plan)})
    of_clips = sorted({size[1:] for size in LatentSets.open(prepared.latents).sizes})
    made_of: dict[str, Any] = {
        "photos": {name: [identity.photo_sha256[name], list(boxes[name])] for name in boxes},
        "sizes_hw": [[list(size) for size in sizes] for sizes in (of_photos, of_clips)],
    }
    if prepared.faces is not None:
        made_of["faces"] = open_face_bank(prepared.faces, identity.encoder_fingerprint).sha256
    if references_are_current(prepared.references, made_of, plan.base.latents_fingerprint):
        return
    pictures = [
        ReferencePicture(cut_reference(images.read_photo(photos_dir / name), box), name, of_photos)
        for name, box in sorted(boxes.items())
    ]
    if prepared.faces is not None:
        pictures += banked_pictures(prepared.faces, identity.encoder_fingerprint, of_clips)
    wan = load_wan(plan.base, ("vae",), device, torch.bfloat16, name=plan.base_name)
    encode_references(pictures, made_of, prepared.references, wan, private=not plan.faces.shared)


def photo_views(plan: InputPlan) -> list[PhotoView]:
    """How each photo is shown."""
    multiple = plan.base.geometry.size_multiple_px
    return views_of(plan.photos.photo_framings, plan.photos.photo_sizes, clip_size(plan), multiple)


def photo_captions(plan: InputPlan, names: Sequence[str]) -> dict[str, str]:
    """The captions of the photos that have one of their own, by name. Raises: DataError when one cannot be used."""
    common = plan.photos.photo_caption
    of_all = {} if common is None else dict.fromkeys(names, common)
    if plan.captions.caption_files == "ignore":
        return of_all
    folder = Path(plan.inputs.face_images_dir or "")
    return {**of_all, **read_captions({name: find_caption(folder / name) for name in names})}


def clip_size(plan: InputPlan) -> tuple[int, int]:
    """Height and width of the clips in pixels."""
    if plan.inputs.latents is None:
        return plan.clips.height, plan.clips.width
    settings = LatentSets.open(plan.inputs.latents_dirs).settings
    return settings["height"], settings["width"]


def check_init_encoder(plan: InputPlan, encoder: str, fingerprint: str, face_embedding_dim: int) -> None:
    """Raises: ModelError when the initial adapter was trained with another encoder than the run's identity."""
    metadata = plan.init_metadata
    if metadata is None:
        return
    if metadata.encoder_fingerprint != fingerprint:
        raise ModelError(
            f"init_adapter={plan.init_adapter}: trained with encoder {metadata.encoder} "
            f"({metadata.encoder_fingerprint[:12]}), the identity is by {encoder} ({fingerprint[:12] or 'unknown'}); "
            "make the identity with the adapter's encoder"
        )
    if metadata.face_embedding_dim != face_embedding_dim:
        raise ModelError(
            f"init_adapter={plan.init_adapter}: trained with face embeddings of {metadata.face_embedding_dim} numbers, "
            f"the identity has {face_embedding_dim}; make the identity with the adapter's encoder"
        )


def _check_same_encoder(identity: Identity, encoder: FaceEncoder) -> None:
    if identity.encoder_fingerprint != encoder.fingerprint:
        raise DataError(
            f"face_embedding: made by encoder {identity.encoder} ({identity.encoder_fingerprint[:12] or 'unknown'}), "
            f"but --encoder is {encoder.name} ({encoder.fingerprint[:12]}); use the same one for the clips' faces"
        )


def _attempt(plan: InputPlan) -> str:
    """A name for this launch's inputs, so that a marker for other inputs is never accepted."""
    described: dict[str, Any] = {name: asdict(getattr(plan, name)) for name in ("inputs", "clips", "captions", "faces")}
    return sha256_json(described)[:12]


def _wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(POLL_S)
