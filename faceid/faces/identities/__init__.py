"""Photos to identity folders, and back; blends between people."""
