"""Options that were given and change nothing, or less than their name says: whoever gave one is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from faceid.config import Reason, warn_of_unused
from faceid.evaluation.evaluation_settings import EvaluationSettings
from faceid.evaluation.videos.drivers import find_drivers
from faceid.evaluation.videos.joint_reader import NONE, TOY
from faceid.evaluation.videos.recognisers import TOY_RECOGNISERS


def warn_without_effect(settings: EvaluationSettings, clips: Iterable[str]) -> None:
    """Say which of the options that were given change nothing. clips: those that were rendered."""
    warn_of_unused([settings], [*_of_models(settings), *_of_arms(settings, clips)])


def _of_models(settings: EvaluationSettings) -> Iterator[Reason]:
    """(option, why it changes nothing) for what detector, recognisers and pose reader do not use."""
    if not any(name.startswith("onnx:") for name in settings.recognisers):
        for name in ("onnx_mean", "onnx_std", "onnx_colour"):
            yield name, "without an onnx: recogniser"
    if not settings.pose_reader.endswith(".onnx"):
        for name in ("pose_mean", "pose_std"):
            yield name, "without an .onnx --pose_reader"
    if settings.pose_reader == NONE:
        yield "driver_videos_dir", "without --pose_reader"
        yield "joints_dir", "on the scores without --pose_reader; it is only drawn in the report"
    if settings.detector != "yunet":
        yield "detector_path", "without --detector yunet"
    if settings.detector == NONE and settings.heads_dir is None:
        yield "face_margin", "with --detector none, for which the whole picture is the face"
    if set(settings.recognisers) <= set(TOY_RECOGNISERS) and settings.pose_reader in (NONE, TOY):
        yield "device", "here: the toy's own readers run on the CPU"


def _of_arms(settings: EvaluationSettings, clips: Iterable[str]) -> Iterator[Reason]:
    """(option, why it changes nothing) for what needs another arm to be said."""
    is_judged = settings.ours is not None or settings.heldout_people is not None
    if not is_judged:
        for name in ("base", "start", "naive"):
            if name != "base" or settings.unadapted_base is None:
                yield name, "without --ours or --heldout_people, which it is compared with"
        if settings.wrong is None:
            yield "target", "but its place in the report without --ours, --heldout_people or --wrong"
    if settings.base is None:
        yield "unadapted_base", "without --base, which it is compared with"
    if not is_judged and settings.real is None:
        yield "drivers_csv", "without --ours, --heldout_people or --real"
    elif find_drivers(clips, settings.drivers_csv) == find_drivers(clips, None):
        yield "drivers_csv", "here: of no rendered clip it says more than its name does"
