"""Render one video from one pose video, and record what it was made of."""
