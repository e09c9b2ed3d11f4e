"""Face crops to unit embeddings."""
