"""Measure how well an encoder tells labelled people apart."""
