"""A run's inputs: prepared folders, the stream, and their origin."""
