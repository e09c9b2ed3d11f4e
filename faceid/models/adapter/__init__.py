"""The face adapter: its modules, its files, and what a file says of itself."""
