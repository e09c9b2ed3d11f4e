"""Clips and photos to latents, and latents read back by number."""
