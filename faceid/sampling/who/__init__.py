"""Whose face is rendered: read, named and checked."""
