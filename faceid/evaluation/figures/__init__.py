"""Scores and intervals as pure functions of numbers."""
