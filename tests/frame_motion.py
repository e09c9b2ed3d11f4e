"""Whether two videos in memory move together, by the measure that clips and poses are paired by."""

import numpy as np

from faceid.media.pixels.motion import EnergyMeter, energy_correlation


def motion_energy(frames: np.ndarray) -> np.ndarray:
    """Of uint8 RGB frames [T, H, W, 3], or of grey thumbnails [T, h, w]: float64 [T-1]."""
    meter = EnergyMeter()
    for frame in frames:
        meter.add(frame)
    return meter.energy


def pairing_correlation(video_frames: np.ndarray, pose_frames: np.ndarray) -> float:
    """Pearson r of two videos' motion energy by frame index, over common frames; nan as in `energy_correlation`."""
    count = min(len(video_frames), len(pose_frames))
    return energy_correlation(motion_energy(video_frames[:count]), motion_energy(pose_frames[:count]))
