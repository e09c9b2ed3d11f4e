"""Examine photos: find and cut faces, measure quality, drop copies and poor photos."""
