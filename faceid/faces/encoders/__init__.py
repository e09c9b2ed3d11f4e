"""Encode face crops to unit embeddings."""
