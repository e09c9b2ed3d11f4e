"""What can be chosen about an evaluation. Field names are flag names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.errors import ConfigError
from faceid.faces.identity_settings import DetectorKind
from faceid.limits import MOST_AT_ONCE, NaturalSeed, PixelDeviation, PixelMean

# Flags that give a part to one of the arms.
ROLES = (
    "base",
    "ours",
    "start",
    "heldout_people",
    "training_people",
    "wrong",
    "wrong_start",
    "naive",
    "real",
    "unadapted_base",
)


@dataclass(frozen=True)
class EvaluationSettings:
    """Rendered folders, the people they should show, and who judges."""

    renders: list[str]
    """Arms as name=folder, in the order of the report: '[ours=out/a, base=out/b]'. A name twice is one arm of both."""
    references_dir: Path
    """One subfolder of photos per person, none of them used for conditioning; these people are the candidates."""
    recognisers: list[str]
    """[clip:PATH, dinov3:PATH, dinov2:PATH, onnx:PATH, toy_recogniser, toy_readout], one or more; the first one is the
    primary."""
    output_dir: Path
    """Folder for report.html, summary.json, scores.json and videos.csv; an older evaluation there is replaced."""
    shared: bool = False
    """Let others on this machine look into the report, which shows faces; by default only you can."""
    conditioning_dir: Path | None = None
    """The photos the embeddings were made from, laid out as references_dir; refused when one is also a reference."""
    adapter: Path | None = None
    """The adapter that rendered: its encoder is refused as a recogniser."""
    conditioning_fingerprint: str | None = None
    """The conditioning encoder's fingerprint, instead of --adapter."""
    heads_dir: Path | None = None
    """Folder of <clip>.heads.json, boxes per frame in pixels of the clip (size_hw). Default: the detector looks."""
    joints_dir: Path | None = None
    """Folder of <clip>.joints.json, the control joints (COCO-17) per frame."""
    driver_videos_dir: Path | None = None
    """Folder of the clips the poses were drawn from, read by the pose reader; instead of --joints_dir."""
    pose_reader: str = "none"
    """none: pose is not scored; toy; or a COCO-17 top-down .onnx pose model of yours."""
    drivers_csv: Path | None = None
    """clip,dancer: who dances in the driving clips. Default: read from AIST names."""
    base: str | None = None
    """Arm of the base model: the adapter at face_scale 0."""
    ours: str | None = None
    """Arm of the recipe that is judged."""
    start: str | None = None
    """Arm rendered with the adapter that training began with (--init_adapter), same people and poses as --ours."""
    heldout_people: str | None = None
    """Arm of people who were not trained on."""
    training_people: str | None = None
    """Arm of people who were trained on, in new poses."""
    wrong: str | None = None
    """Arm rendered with embeddings of other people than the one the adapter was fine-tuned on."""
    wrong_start: str | None = None
    """Arm of the same people and poses as --wrong, rendered with the adapter that training began with."""
    naive: str | None = None
    """Arm of the control recipe (pairing: constant)."""
    real: str | None = None
    """Arm of real clips of the same people, a folder of clips: what a perfect render would score."""
    unadapted_base: str | None = None
    """Arm rendered without any adapter loaded, compared byte by byte with --base."""
    target: str | None = None
    """Person the adapter was fine-tuned on; a folder of references_dir."""
    detector: DetectorKind = "haar"
    """haar: frontal faces, built in; yunet: better, needs --detector_path; none: the whole picture is the face."""
    detector_path: str | None = None
    """yunet: the model file."""
    face_margin: Annotated[float, Field(ge=0, le=2)] = 0.3
    """Margin around a face box, as a share of its longer side, on each side."""
    device: str = "cpu"
    """Where recognisers and the pose model run: cpu, cuda, cuda:0."""
    onnx_mean: PixelMean = 127.5
    """onnx recognisers: subtracted from each 0..255 value."""
    onnx_std: PixelDeviation = 127.5
    """onnx recognisers: each value is divided by this after the mean is subtracted."""
    onnx_colour: Literal["rgb", "bgr"] = "rgb"
    """onnx recognisers: channel order they were trained with."""
    pose_mean: tuple[PixelMean, PixelMean, PixelMean] = (123.675, 116.28, 103.53)
    """onnx pose model: subtracted from red, green and blue, 0..255."""
    pose_std: tuple[PixelDeviation, PixelDeviation, PixelDeviation] = (58.395, 57.12, 57.375)
    """onnx pose model: each colour is divided by this after the mean is subtracted."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)] = 2000
    """Resamplings of the people behind each 95 % interval."""
    seed: NaturalSeed = 0
    """Seed of the resampling."""
    num_shown: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 6
    """People shown with pictures in the report, the target first."""
    title: str = "Evaluation"
    """Heading of the report."""
    notes: Path | None = None
    """Text file whose lines are shown at the top of the report."""
    dry_run: bool = False
    """Check the inputs, say what would be scored and stop."""

    def __post_init__(self) -> None:
        arms = self.arm_folders()
        if not self.recognisers:
            raise ConfigError("recognisers: is empty; name at least one, such as '[onnx:recogniser.onnx]'")
        if len(set(self.recognisers)) < len(self.recognisers):
            raise ConfigError(f"recognisers={self.recognisers}: names one twice; leave it out once")
        for role, arm in self.roles().items():
            if arm not in arms:
                raise ConfigError(f"{role}={arm}: not an arm; --renders names {', '.join(arms)}")
        if self.joints_dir is not None and self.driver_videos_dir is not None:
            raise ConfigError("joints_dir, driver_videos_dir: give one of them, not both")
        control = self.joints_dir or self.driver_videos_dir
        if self.pose_reader != "none" and control is None:
            raise ConfigError(f"pose_reader={self.pose_reader}: has nothing to compare with; give --joints_dir")
        if self.adapter is not None and self.conditioning_fingerprint is not None:
            raise ConfigError("adapter, conditioning_fingerprint: give one of them, not both")

    def arm_folders(self) -> dict[str, list[Path]]:
        """Folders by arm, in the order given. Raises: ConfigError for what is not name=folder."""
        folders: dict[str, list[Path]] = {}
        for entry in self.renders:
            name, is_there, folder = entry.partition("=")
            if not is_there or not name.strip() or not folder.strip():
                raise ConfigError(f"renders: {entry!r} is not name=folder; write --renders '[ours=out/a, base=out/b]'")
            folders.setdefault(name.strip(), []).append(Path(folder.strip()))
        if not folders:
            raise ConfigError("renders: is empty; write --renders '[ours=out/a, base=out/b]'")
        return folders

    def roles(self) -> dict[str, str]:
        """Arm by role, for the roles that were given."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}
