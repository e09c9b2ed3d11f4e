"""Scores of identity and pose. Nothing is here yet; the README lists it among the limits."""
