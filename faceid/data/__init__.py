"""Turn clips and poses into shards, latents and batches, read by index."""
