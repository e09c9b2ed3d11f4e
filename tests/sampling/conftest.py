"""Fixtures that several files of tests/sampling share."""

from one_video_inputs import adapter_file, flags
from two_poses import settings

__all__ = ["adapter_file", "flags", "settings"]
