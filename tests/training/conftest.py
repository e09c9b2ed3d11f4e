"""Fixtures that several files of tests/training share."""

from trained_parameter import trained

__all__ = ["trained"]
