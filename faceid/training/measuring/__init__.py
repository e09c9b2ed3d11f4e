"""Measure a run, and record the measurements."""
