"""Pose videos to rendered videos: one, or a folder of them."""
