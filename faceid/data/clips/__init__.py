"""Pair clips with their pose videos, caption and audit them, and pack them into clip shards."""
