"""A base on disk and in memory: its files, its parts, its text and its latents."""
