"""Scores of identity and pose."""
