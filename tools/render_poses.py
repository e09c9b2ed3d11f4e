"""Draw keypoints as pose videos in the style VACE was trained on: body and hands, no face landmarks.

With --videos_dir each clip gets a pose video of its own frames, size and rate. Its joints are beside it
(NAME.joints.json, as tools/split_clips.py leaves them), in --keypoints_dir, or estimated by --pose_model. Without
--videos_dir the keypoints are drawn at their own size and rate. Any number of processes on any number of machines may
share one output folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import Reason, parse_sections, warn_of_unused
from faceid.errors import ConfigError, run_entry_point
from faceid.limits import PixelDeviation, PixelMean, Rate
from faceid.logs import set_up_logging


@dataclass(frozen=True)
class RenderPosesSettings:
    """What is drawn and where it goes."""

    output_dir: Path
    """Folder for NAME_pose.mp4. Run again to continue."""
    videos_dir: Path | None = None
    """Folder of clips to draw the poses of, frame by frame."""
    keypoints_dir: Path | None = None
    """Folder with AIST++ keypoints2d (SEQUENCE.pkl) or COCO JSON. By default joints are looked for beside the clips."""
    from_videos: bool = False
    """Estimate the poses from the clips' pictures, with --pose_model."""
    pose_model: Path | None = None
    """The .onnx file of a COCO-17 pose model (HRNet, ViTPose, RTMPose), for --from_videos. One person a picture."""
    pose_mean: tuple[PixelMean, PixelMean, PixelMean] = (123.675, 116.28, 103.53)
    """Mean of red, green and blue that the pose model was trained with, 0 to 255."""
    pose_std: tuple[PixelDeviation, PixelDeviation, PixelDeviation] = (58.395, 57.12, 57.375)
    """Standard deviation of red, green and blue, likewise."""
    camera: Annotated[str, Field(pattern=r"^c0[1-9]$")] = "c01"
    """Without --videos_dir: the camera of an AIST++ sequence that is drawn, c01 to c09."""
    fps: Rate = 60.0
    """Without --videos_dir: rate of keypoints that do not state theirs. AIST++'s are at 60."""
    device: str = "cpu"
    """Where the pose model runs: cpu or cuda."""
    replace: bool = False
    """Remove pose videos that an earlier run drew from something else. Without it such a run is refused."""

    def __post_init__(self) -> None:
        if self.videos_dir is None and self.keypoints_dir is None:
            raise ConfigError("videos_dir, keypoints_dir: give clips, keypoints, or both")
        if self.from_videos and (self.videos_dir is None or self.pose_model is None):
            raise ConfigError("from_videos: needs --videos_dir with the clips and --pose_model with an .onnx file")
        if self.from_videos and self.keypoints_dir is not None:
            raise ConfigError("from_videos, keypoints_dir: poses are estimated or read; give one of them")


def main(argv: list[str] | None = None) -> int:
    """Parse, load the pose model if there is one, draw."""
    words = sys.argv[1:] if argv is None else argv
    (tool,) = parse_sections("tools/render_poses.py", __doc__ or "", [RenderPosesSettings], words)
    # Heavy imports come only once the command line is known to be good.
    from faceid.data.films.render_poses import PoseSource, render_poses

    set_up_logging()
    warn_of_unused([tool], _unused(tool))
    model = None
    if tool.from_videos and tool.pose_model is not None:
        # onnxruntime is an optional extra.
        from faceid.media.onnx_pose import OnnxPoseReader

        model = OnnxPoseReader(tool.pose_model, tool.device, tool.pose_mean, tool.pose_std).read
    name = tool.pose_model.name if tool.pose_model is not None and model is not None else ""
    source = PoseSource(tool.videos_dir, tool.keypoints_dir, tool.fps, tool.camera, model, name)
    render_poses(source, tool.output_dir, replace=tool.replace)
    return 0


def _unused(tool: RenderPosesSettings) -> Iterator[Reason]:
    if tool.videos_dir is not None:
        for name in ("camera", "fps"):
            yield name, "with --videos_dir, whose clips say it"
    if not tool.from_videos:
        for name in ("pose_model", "pose_mean", "pose_std", "device"):
            yield name, "without --from_videos"


if __name__ == "__main__":
    run_entry_point(main)
