"""Decoding and encoding of video and images. The only door to PyAV."""
