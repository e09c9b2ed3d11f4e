"""Folders of tar shards: their index, their writer, and how many processes share the work."""
