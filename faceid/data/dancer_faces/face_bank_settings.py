"""Settings of how many faces of the dancers are kept."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from faceid.limits import AtOnce


@dataclass(frozen=True)
class FaceBankSettings:
    """How many faces are kept."""

    faces_per_film: AtOnce = 8
    """Most faces cut out of each film or clip, one in each stretch of it."""
