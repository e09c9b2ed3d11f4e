"""Validate a run while it trains, on clips, poses and people that it does not learn from."""
