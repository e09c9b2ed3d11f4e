"""Decide what is learnt and for how long, by pure functions of the settings."""
