"""Seconds and bytes, beside a plain way to do the same."""
