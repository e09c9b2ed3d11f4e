"""Measure and score rendered videos, arm by arm."""
