"""Put phrases that describe a person into a prompt."""

from __future__ import annotations

from collections.abc import Iterable


def join_phrases(opening: str, phrases: Iterable[str]) -> str:
    """One prompt: the opening, "with", and the phrases that are not empty."""
    said = ", ".join(phrase for phrase in phrases if phrase)
    return f"{opening} with {said}" if said else opening
