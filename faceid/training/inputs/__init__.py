"""What a run reads: prepared folders, the stream, and what it came from."""
