"""Run one evaluation from settings to files.

The steps are: check cheap things first, load once, measure, compare, publish.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from faceid.config import warn_of_unused
from faceid.errors import ConfigError, DataError
from faceid.evaluation.evaluation_sections import EvaluationSections
from faceid.evaluation.places import EVALUATION, refuse_output_among_photos
from faceid.evaluation.report.publish import publish_evaluation
from faceid.evaluation.report.results import Results
from faceid.evaluation.videos.arms import plain, summarise_arm
from faceid.evaluation.videos.comparisons import Resampling, Videos, equals_unadapted
from faceid.evaluation.videos.controls import JOINTS_ENDING, driver_video
from faceid.evaluation.videos.heads import HEADS_ENDING
from faceid.evaluation.videos.joint_reader import check_pose_reader_name, load_joint_reader
from faceid.evaluation.videos.judge_settings import NONE, PeopleSettings, PoseReaderSettings
from faceid.evaluation.videos.measure import Instruments, Measurer
from faceid.evaluation.videos.recognisers import check_recogniser_names, know_gallery, load_recognisers
from faceid.evaluation.videos.reference_people import cut_references, find_reference_photos, refuse_shared_photos
from faceid.evaluation.videos.renders import JOBS_NAME, Arm, find_drivers, read_arm, read_real_clips
from faceid.evaluation.videos.scoring import check_identities, identities_by_clip, score_arm
from faceid.evaluation.videos.summary import ComparedArms, compare_arms, summarise
from faceid.faces.encoders.face_encoders import FaceEncoder
from faceid.faces.photos.detect import load_detector
from faceid.files.documents import read_text
from faceid.files.given_paths import why_no_file
from faceid.files.outputs import refuse_replacing
from faceid.models.base.latent_codec import through_vae
from faceid.models.base.wan import load_wan
from faceid.toy.shipped import resolve_model_path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationInputs:
    """The inputs on disk, checked. Nothing is decoded yet."""

    arms: dict[str, Arm]
    people: dict[str, list[Path]]
    drivers: dict[str, str]
    """Dancer by clip."""
    notes: list[str]


def evaluate(sections: EvaluationSections) -> dict[str, Any]:
    """Score all arms and write the report into its output folder. Returns the content of summary.json.

    With `dry_run` only the inputs are checked, and the result is empty.
    Raises: FaceidError subclasses for any unusable input.
    """
    began = time.perf_counter()
    inputs = check_inputs(sections)
    if sections.report.dry_run:
        return {}
    instruments = _instruments(sections, inputs.people)
    videos = _score(sections, inputs, instruments)
    resampling = Resampling(sections.report.bootstrap_samples, sections.report.seed)
    compared = ComparedArms(sections.arms, inputs.arms, list(inputs.people), inputs.drivers, resampling)
    comparisons = {name: compare_arms(compared, by_arm) for name, by_arm in videos.items()}
    summary = summarise(compared, videos, comparisons, time.perf_counter() - began)
    publish_evaluation(
        Results(
            compared=compared,
            report=sections.report,
            notes=inputs.notes,
            gallery=instruments.gallery,
            instruments=instruments,
            videos=videos,
            numbers={name: _numbers(by_arm, resampling) for name, by_arm in videos.items()},
            comparisons=comparisons,
            summary=summary,
            pose_reader=sections.pose.pose_reader,
            are_photos_checked=sections.people.conditioning_dir is not None,
            is_encoder_checked=sections.recognisers.is_encoder_known,
        )
    )
    log.info("%s", sections.report.output_dir / "report.html")
    return plain(summary)


def make_instruments(
    settings: PeopleSettings, people: dict[str, list[Path]], encoders: Sequence[tuple[str, FaceEncoder]]
) -> Instruments:
    """Everything that measures a video, except poses. Raises: ModelError or DataError as detector and references do."""
    detector = load_detector(settings.detector, settings.detector_path)
    # With `none` the picture is the face, so there is nothing around it.
    margin = 0.0 if settings.detector == NONE else settings.face_margin
    gallery = cut_references(people, detector, margin, settings.conditioning_dir)
    return Instruments(
        gallery=gallery,
        recognisers=[know_gallery(name, encoder, gallery) for name, encoder in encoders],
        detector=detector,
        face_margin=settings.face_margin if settings.heads_dir is not None else margin,
        heads_dir=settings.heads_dir,
        second_opinion=detector if settings.heads_dir is not None and settings.detector != NONE else None,
    )


def check_inputs(sections: EvaluationSections) -> EvaluationInputs:
    """Find and check everything that needs no model. Raises: ConfigError or DataError naming a fault."""
    arms_of, pose_reader = sections.arms, sections.pose.pose_reader
    refuse_replacing(sections.report.output_dir, EVALUATION)
    for key, folder in (
        ("references_dir", sections.people.references_dir),
        ("conditioning_dir", sections.people.conditioning_dir),
    ):
        if folder is not None:
            refuse_output_among_photos(sections.report.output_dir, folder, key)
    check_recogniser_names(sections.recognisers.recognisers)
    check_pose_reader_name(pose_reader)
    people = find_reference_photos(sections.people.references_dir)
    if arms_of.target is not None and arms_of.target not in people:
        raise ConfigError(f"target={arms_of.target}: not in references_dir ({', '.join(people)})")
    if sections.people.conditioning_dir is not None:
        refuse_shared_photos(people, sections.people.conditioning_dir)
    arms = _read_arms(arms_of.arm_folders(), arms_of.real, arms_of.drivers_csv)
    check_identities(list(arms.values()), list(people))
    if arms_of.base is not None and arms_of.unadapted_base is not None:
        # Called for its refusals alone. The summary uses the answer, after everything has been measured.
        equals_unadapted(arms[arms_of.base], arms[arms_of.unadapted_base])
    if sections.people.real_vae is not None:
        _refuse_real_twice(arms, arms_of.real)
    clips = {render.clip for arm in arms.values() for render in arm.renders}
    _check_clip_files(sections.people.heads_dir, sections.pose, clips)
    drivers = find_drivers(clips, arms_of.drivers_csv)
    notes = _read_notes(sections.report.notes)
    warn_of_unused(sections.every, sections.unused(drivers != find_drivers(clips, None)))
    for name, arm in arms.items():
        log.info("%s: %d videos, face_scale %s", name, len(arm.renders), arm.face_scales)
        if name != arms_of.real and arm.num_noises < len(arm.renders):
            log.warning(
                "%s: %d videos of %d noises; the noise may decide who appears: render with --seed per_video",
                *(name, len(arm.renders), arm.num_noises),
            )
    log.info("%d people to tell apart: %s", len(people), ", ".join(people))
    if pose_reader == NONE:
        log.info("pose_reader=none: pose is not scored")
    return EvaluationInputs(arms, people, drivers, notes)


def _instruments(sections: EvaluationSections, people: dict[str, list[Path]]) -> Instruments:
    """The instruments of a report, which also reads poses."""
    encoders = load_recognisers(sections.recognisers)
    reader = load_joint_reader(sections.pose, sections.recognisers.device)
    vae = sections.people.real_vae
    return replace(
        make_instruments(sections.people, people, encoders),
        pose_reader=reader,
        joints_dir=sections.pose.joints_dir,
        driver_videos_dir=sections.pose.driver_videos_dir,
        real_vae=None if vae is None else partial(through_vae, load_wan(resolve_model_path(vae), ("vae",)).vae),
    )


def _score(
    sections: EvaluationSections, inputs: EvaluationInputs, instruments: Instruments
) -> dict[str, dict[str, Videos]]:
    """Scores of every video, by recogniser, then by arm."""
    arms, people = list(inputs.arms.values()), list(inputs.people)
    measurements = Measurer(instruments).measure_all(arms, sections.arms.real)
    given = identities_by_clip(arms, sections.arms.real)
    return {
        recogniser.name: {
            name: score_arm(arm, recogniser, measurements, people, given) for name, arm in inputs.arms.items()
        }
        for recogniser in instruments.recognisers
    }


def _refuse_real_twice(arms: dict[str, Arm], real: str | None) -> None:
    """Raises: ConfigError when a real clip is also in another arm, whose videos no VAE is to touch."""
    clips = {render.path for render in arms[real].renders} if real is not None else set()
    for name, arm in arms.items():
        if name != real and (twice := [render.path for render in arm.renders if render.path in clips]):
            raise ConfigError(f"real_vae: {twice[0]} is in {real} and in {name}; give it in one of them")


def _read_arms(folders_of: dict[str, list[Path]], real: str | None, drivers_csv: Path | None) -> dict[str, Arm]:
    """Every arm by its name. The arm of real clips may be a folder of clips."""
    arms = {}
    for name, folders in folders_of.items():
        is_rendered = name != real or all((folder / JOBS_NAME).is_file() for folder in folders)
        arms[name] = read_arm(name, folders) if is_rendered else read_real_clips(name, folders, drivers_csv)
    return arms


def _read_notes(notes: Path | None) -> list[str]:
    if notes is None:
        return []
    if (reason := why_no_file(notes)) is not None:
        raise ConfigError(f"notes={notes}: {reason}")
    try:
        return read_text(notes).splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"notes={notes}: cannot be read as text in UTF-8: {error}") from error


def _check_clip_files(heads_dir: Path | None, pose: PoseReaderSettings, clips: set[str]) -> None:
    """Check that every clip's head boxes and control are there, before anything is loaded."""
    for clip in sorted(clips):
        for key, folder, ending in (
            ("heads_dir", heads_dir, HEADS_ENDING),
            ("joints_dir", pose.joints_dir, JOINTS_ENDING),
        ):
            if folder is not None and not (folder / f"{clip}{ending}").is_file():
                raise DataError(f"{key}={folder}: no {clip}{ending} in it, and {clip} was rendered; add it")
        if pose.driver_videos_dir is not None and pose.pose_reader != NONE:
            driver_video(pose.driver_videos_dir, clip)


def _numbers(by_arm: dict[str, Videos], resampling: Resampling) -> dict[str, dict[str, Any]]:
    return {name: summarise_arm(videos, resampling.num_samples, resampling.seed) for name, videos in by_arm.items()}
