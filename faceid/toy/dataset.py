"""Write a toy dataset in the product's own input formats: photo folders, clips, pose videos, head boxes.

    photos/target/photo_01.jpg ...                  the person to learn, who dances in no clip
    photos/d01/photo_01.jpg ...                     the dancers
    references/d01/reference_01.jpg ...             other photos of everyone, to judge renders by
    videos/gBR_sBM_c01_d01_mBR0_ch01.mp4            AIST's names: genre, camera, dancer, music, choreography
    videos/gBR_sBM_c01_d01_mBR0_ch01.heads.json     {"boxes": [[x0, y0, x1, y1] or null per frame], "size_hw"}, pixels
    videos/dancers.csv                              who dances in which clip, when a dancer's number is over 99
    poses/gBR_sBM_c01_d01_mBR0_ch01_pose.mp4        the skeleton, frame by frame
    poses/gBR_sBM_c01_d01_mBR0_ch01.joints.json     {"joints": [[[x, y] x 17] per frame], "size_hw": [h, w]}, pixels
    target_videos/, target_poses/                   the same of the target, to measure by, and dancers.csv
    world.json                                      the truth: who is who, which photos are bad, every seed

The same settings give the same bytes.
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from faceid.errors import ConfigError
from faceid.files.outputs import refuse_replacing, staged_folder
from faceid.files.writing import write_atomic, write_json
from faceid.logs import progress
from faceid.media.video import write_video
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import draw_nuisance, draw_person
from faceid.toy.render import BadPhoto, drawn_head_boxes, render_bad_photo, render_clip, render_photo, render_pose
from faceid.toy.toy_settings import Framing, ToyClipSettings, ToySettings
from faceid.toy.worlds import person_seed

TARGET = "target"
WORLD_FILE = "world.json"
# The folder's content, in words.
TOY_DATASET = "a toy dataset"
JPEG_QUALITY = 92
# AIST's names have two digits for the dancer. dancers.csv tells more dancers apart.
MOST_AIST_DANCERS = 99


@dataclasses.dataclass(frozen=True)
class ToyClip:
    """One clip to draw. Its AIST-like name states genre, dancer, music and choreography."""

    stem: str
    dancer: str
    genre: str
    dance_seed: int
    nuisance_seed: int
    framing: Framing


def write_toy_dataset(settings: ToySettings, clip_settings: ToyClipSettings) -> dict[str, Any]:
    """Write the whole world into `settings.output_dir`, or nothing. Returns the content of world.json.

    Raises: ConfigError for clips of a target who is not drawn; DataError when the folder exists and is no unchanged toy
    dataset.
    """
    folder = settings.output_dir
    if clip_settings.target_clips and not settings.with_target:
        raise ConfigError(f"target_clips={clip_settings.target_clips}: with_target is false; use 0")
    refuse_replacing(folder, TOY_DATASET)
    people = {name: person_seed(settings.seed, name) for name in people_names(settings)}
    planned = plan_clips(settings, clip_settings)
    clips, of_target = (
        [clip for clip in planned if (clip.dancer == TARGET) is is_target] for is_target in (False, True)
    )
    bad_photos: dict[str, str] = {}
    said = {**dataclasses.asdict(settings), **dataclasses.asdict(clip_settings)}
    world: dict[str, Any] = {
        "settings": {key: value for key, value in said.items() if key != "output_dir"},
        "people": {name: {"seed": seed, **dataclasses.asdict(draw_person(seed))} for name, seed in people.items()},
        "clips": [dataclasses.asdict(clip) for clip in clips],
        "target_clips": [dataclasses.asdict(clip) for clip in of_target],
        "bad_photos": bad_photos,
    }
    with staged_folder(folder, TOY_DATASET) as staged:
        for name in progress(people, "photos", total=len(people), unit="person"):
            bad_photos.update(_write_photos(staged / "photos" / name, name, settings))
            _write_references(staged / "references" / name, name, settings)
        for clip in progress(clips, "clips", total=len(clips), unit="clip"):
            _write_clip(staged, "", clip, settings.seed, clip_settings)
        for clip in of_target:
            _write_clip(staged, "target_", clip, settings.seed, clip_settings)
        if of_target:
            _write_dancers(staged / "target_videos", of_target)
        if max(_numbers(settings)) > MOST_AIST_DANCERS:
            _write_dancers(staged / "videos", clips)
        write_json(staged / WORLD_FILE, world)
    return world


def people_names(settings: ToySettings) -> list[str]:
    """The target, where there is one, then the dancers d01, d02, ..."""
    return [*([TARGET] if settings.with_target else []), *(f"d{number:02d}" for number in _numbers(settings))]


def plan_clips(settings: ToySettings, clip_settings: ToyClipSettings) -> list[ToyClip]:
    """Every clip in the order it is written: the dancers', then the target's."""
    genres, by_dancer = list(GENRES), clip_settings.one_genre_per_dancer
    clips: list[ToyClip] = []
    for number in _numbers(settings):
        for turn in range(clip_settings.clips_per_person):
            # The genre moves three steps on per dancer, so that every dancer dances another mixture.
            genre = genres[(number - 1 if by_dancer else 3 * (number - 1) + turn) % len(genres)]
            dancer = f"d{number:02d}"
            # Framings take turns over the whole set, not for each dancer.
            framing = clip_settings.framings[len(clips) % len(clip_settings.framings)]
            clips.append(_plan_clip(settings.seed, genre, dancer, turn, dancer, framing))
    for turn in range(clip_settings.target_clips):
        framing = clip_settings.framings[turn % len(clip_settings.framings)]
        # AIST's names have no place for the word, so they say d00.
        clips.append(_plan_clip(settings.seed, genres[turn % len(genres)], "d00", turn, TARGET, framing))
    return clips


def _plan_clip(seed: int, genre: str, number: str, turn: int, dancer: str, framing: Framing) -> ToyClip:
    stem = f"g{genre}_sBM_c01_{number}_m{genre}{turn % 6}_ch{turn + 1:02d}"
    dance_seed, nuisance_seed = (zlib.crc32(f"{seed} {purpose} {stem}".encode()) for purpose in ("dance", "place"))
    return ToyClip(stem, dancer, genre, dance_seed, nuisance_seed, framing)


def _write_dancers(videos: Path, clips: list[ToyClip]) -> None:
    rows = "".join(f"{clip.stem},{clip.dancer}\n" for clip in clips)
    write_atomic(videos / "dancers.csv", f"clip,dancer\n{rows}")


def _numbers(settings: ToySettings) -> range:
    return range(settings.first_person, settings.first_person + settings.num_people)


def _write_photos(folder: Path, name: str, settings: ToySettings) -> dict[str, str]:
    """Write one person's photos. Returns the kind of each bad one by `person/file`."""
    folder.mkdir(parents=True)
    person = draw_person(person_seed(settings.seed, name))
    kinds = get_args(BadPhoto)
    bad: dict[str, str] = {}
    for index in range(settings.photos_per_person):
        file = folder / f"photo_{index + 1:02d}.jpg"
        seed = zlib.crc32(f"{settings.seed} photo {name} {index}".encode())
        turn = index - (settings.photos_per_person - settings.bad_photos)
        if turn >= 0:
            kind = kinds[turn % len(kinds)]
            photo = render_bad_photo(person, kind, seed, settings.photo_size)
            bad[f"{name}/{file.name}"] = kind
        else:
            photo = render_photo(person, seed, settings.photo_size)
        Image.fromarray(photo).save(file, quality=JPEG_QUALITY)
    return bad


def _write_references(folder: Path, name: str, settings: ToySettings) -> None:
    person = draw_person(person_seed(settings.seed, name))
    for index in range(settings.reference_photos):
        folder.mkdir(parents=True, exist_ok=True)
        seed = zlib.crc32(f"{settings.seed} reference {name} {index}".encode())
        photo = render_photo(person, seed, settings.photo_size)
        Image.fromarray(photo).save(folder / f"reference_{index + 1:02d}.jpg", quality=JPEG_QUALITY)


def _write_clip(folder: Path, kind: str, clip: ToyClip, seed: int, settings: ToyClipSettings) -> None:
    """kind: put before the names of the folders, for clips that are kept apart."""
    videos, poses = folder / f"{kind}videos", folder / f"{kind}poses"
    size_hw = (settings.height, settings.width)
    person = draw_person(person_seed(seed, clip.dancer))
    joints = dance_joints(clip.genre, clip.dance_seed, settings.num_frames, size_hw, clip.framing)
    frames = render_clip(person, joints, draw_nuisance(clip.nuisance_seed), size_hw)
    write_video(videos / f"{clip.stem}.mp4", frames, settings.fps)
    heads = {"boxes": drawn_head_boxes(joints, size_hw), "size_hw": list(size_hw)}
    write_json(videos / f"{clip.stem}.heads.json", heads)
    write_video(poses / f"{clip.stem}_pose.mp4", render_pose(joints, size_hw), settings.fps)
    # Two decimals of a pixel are finer than any reader reads them back.
    truth = {"joints": joints.astype(float).round(2).tolist(), "size_hw": list(size_hw)}
    write_json(poses / f"{clip.stem}.joints.json", truth)
