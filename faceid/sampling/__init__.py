"""Render pose videos: one, or a folder of them."""
