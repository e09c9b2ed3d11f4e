"""Clips and their pose videos: paired, captioned, audited, and packed into clip shards."""
