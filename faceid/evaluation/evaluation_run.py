"""One evaluation from settings to files: check what is cheap to check, load once, measure, compare, publish."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceid.errors import ConfigError, DataError
from faceid.evaluation.evaluation_effects import warn_without_effect
from faceid.evaluation.evaluation_settings import EvaluationSettings
from faceid.evaluation.places import EVALUATION, check_output
from faceid.evaluation.report.publish import publish
from faceid.evaluation.videos.arms import plain, summarise_arm
from faceid.evaluation.videos.comparisons import Videos, equals_unadapted
from faceid.evaluation.videos.controls import JOINTS_ENDING, driver_video
from faceid.evaluation.videos.drivers import find_drivers
from faceid.evaluation.videos.heads import HEADS_ENDING
from faceid.evaluation.videos.joint_reader import NONE, PoseReader, check_pose_reader_name, load_pose_reader
from faceid.evaluation.videos.measure import Instruments, Measurer
from faceid.evaluation.videos.recognisers import check_recogniser_names, know_gallery, load_recognisers
from faceid.evaluation.videos.reference_people import cut_references, find_people, refuse_shared_photos
from faceid.evaluation.videos.renders import JOBS_NAME, Arm, read_arm, read_real_clips
from faceid.evaluation.videos.results import Results
from faceid.evaluation.videos.scoring import check_identities, identities_by_clip, score_arm
from faceid.evaluation.videos.summary import Facts, compare_arms, summarise
from faceid.faces.encoders.face_encoders import FaceEncoder
from faceid.faces.photos.detect import load_detector
from faceid.files.documents import read_text
from faceid.files.given_paths import why_no_file
from faceid.files.outputs import refuse_replacing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What was found on disk, checked, nothing decoded yet."""

    arms: dict[str, Arm]
    people: dict[str, list[Path]]
    drivers: dict[str, str]
    """Dancer by clip."""
    notes: list[str]


def evaluate(settings: EvaluationSettings) -> dict[str, Any]:
    """Score all arms and write the report into `settings.output_dir`; returns what summary.json holds.

    With `dry_run` only the inputs are checked, and the result is empty.
    Raises: FaceidError subclasses for anything in the inputs that cannot be.
    """
    began = time.perf_counter()
    inputs = check_inputs(settings)
    if settings.dry_run:
        return {}
    encoders = load_recognisers(settings)
    reader = load_pose_reader(settings)
    instruments = make_instruments(settings, inputs.people, encoders, reader)
    gallery = instruments.gallery
    measurements = Measurer(instruments).measure_all(list(inputs.arms.values()))
    people = list(inputs.people)
    given = identities_by_clip(list(inputs.arms.values()), settings.real)
    videos: dict[str, dict[str, Videos]] = {
        recogniser.name: {
            name: score_arm(arm, recogniser, measurements, people, given) for name, arm in inputs.arms.items()
        }
        for recogniser in instruments.recognisers
    }
    facts = Facts(settings, inputs.arms, people, inputs.drivers)
    comparisons = {name: compare_arms(facts, by_arm) for name, by_arm in videos.items()}
    numbers = {name: _numbers(by_arm, settings) for name, by_arm in videos.items()}
    summary = summarise(facts, videos, comparisons, time.perf_counter() - began)
    publish(Results(facts, inputs.notes, gallery, instruments, videos, numbers, comparisons, summary))
    log.info("%s", settings.output_dir / "report.html")
    return plain(summary)


def make_instruments(
    settings: EvaluationSettings,
    people: dict[str, list[Path]],
    encoders: Sequence[tuple[str, FaceEncoder]],
    reader: PoseReader | None,
) -> Instruments:
    """What every video is measured with. Raises: ModelError or DataError as the detector and the references do."""
    detector = load_detector(settings.detector, settings.detector_path)
    # `none`: the picture is the face, so there is nothing around it.
    margin = 0.0 if settings.detector == NONE else settings.face_margin
    gallery = cut_references(people, detector, margin, settings.conditioning_dir)
    return Instruments(
        gallery=gallery,
        recognisers=[know_gallery(name, encoder, gallery) for name, encoder in encoders],
        detector=detector,
        face_margin=settings.face_margin if settings.heads_dir is not None else margin,
        heads_dir=settings.heads_dir,
        second_opinion=detector if settings.heads_dir is not None and settings.detector != NONE else None,
        pose_reader=reader,
        joints_dir=settings.joints_dir,
        driver_videos_dir=settings.driver_videos_dir,
    )


def check_inputs(settings: EvaluationSettings) -> Inputs:
    """Find and check everything that needs no model. Raises: ConfigError or DataError naming what cannot be."""
    refuse_replacing(settings.output_dir, EVALUATION)
    for key in ("references_dir", "conditioning_dir"):
        if (folder := getattr(settings, key)) is not None:
            check_output(settings.output_dir, folder, key)
    check_recogniser_names(settings.recognisers)
    check_pose_reader_name(settings.pose_reader)
    people = find_people(settings.references_dir)
    if settings.target is not None and settings.target not in people:
        raise ConfigError(f"target={settings.target}: not in references_dir ({', '.join(people)})")
    if settings.conditioning_dir is not None:
        refuse_shared_photos(people, settings.conditioning_dir)
    arms = {
        name: read_real_clips(name, folders, settings.drivers_csv)
        if name == settings.real and not all((folder / JOBS_NAME).is_file() for folder in folders)
        else read_arm(name, folders)
        for name, folders in settings.arm_folders().items()
    }
    check_identities(list(arms.values()), list(people))
    if settings.base is not None and settings.unadapted_base is not None:
        # For its refusals: the summary, which wants the answer, is made when everything has been measured.
        equals_unadapted(arms[settings.base], arms[settings.unadapted_base])
    clips = {render.clip for arm in arms.values() for render in arm.renders}
    _check_clip_files(settings, clips)
    drivers = find_drivers(clips, settings.drivers_csv)
    notes: list[str] = []
    if settings.notes is not None:
        if (reason := why_no_file(settings.notes)) is not None:
            raise ConfigError(f"notes={settings.notes}: {reason}")
        try:
            notes = read_text(settings.notes).splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"notes={settings.notes}: cannot be read as text in UTF-8: {error}") from error
    warn_without_effect(settings, clips)
    for name, arm in arms.items():
        log.info("%s: %d videos, face_scale %s", name, len(arm.renders), arm.face_scales)
    log.info("%d people to tell apart: %s", len(people), ", ".join(people))
    if settings.pose_reader == NONE:
        log.info("pose_reader=none: pose is not scored")
    return Inputs(arms, people, drivers, notes)


def _check_clip_files(settings: EvaluationSettings, clips: set[str]) -> None:
    """Every clip's head boxes and control are there before anything is loaded."""
    for clip in sorted(clips):
        for key, folder, ending in (
            ("heads_dir", settings.heads_dir, HEADS_ENDING),
            ("joints_dir", settings.joints_dir, JOINTS_ENDING),
        ):
            if folder is not None and not (folder / f"{clip}{ending}").is_file():
                raise DataError(f"{key}={folder}: no {clip}{ending} in it, and {clip} was rendered; add it")
        if settings.driver_videos_dir is not None and settings.pose_reader != NONE:
            driver_video(settings.driver_videos_dir, clip)


def _numbers(by_arm: dict[str, Videos], settings: EvaluationSettings) -> dict[str, dict[str, Any]]:
    return {name: summarise_arm(videos, settings.bootstrap_samples, settings.seed) for name, videos in by_arm.items()}
