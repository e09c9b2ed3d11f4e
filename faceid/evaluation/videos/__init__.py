"""Rendered videos to measurements and scores, arm by arm."""
