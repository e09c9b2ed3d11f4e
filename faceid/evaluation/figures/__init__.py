"""Compute scores and intervals as pure functions of numbers."""
