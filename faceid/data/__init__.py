"""Clips and poses to shards, latents and batches, read by index."""
