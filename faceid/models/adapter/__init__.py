"""The face adapter: its modules, its files, and the description that a file carries."""
