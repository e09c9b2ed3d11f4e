"""Encode clips and photos to latents, and read latents by number."""
