"""faceid: face identity on Wan2.1-VACE, from photos and pose videos to rendered dances."""

__version__ = "0.1.0"
