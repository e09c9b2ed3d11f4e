"""Settings of which clips of a folder take part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.errors import ConfigError
from faceid.limits import Count, Seed


@dataclass(frozen=True)
class SelectionSettings:
    """Which clips of a folder take part."""

    only_list: Path | None = None
    """File of AIST names, one a line. Only these sequences are taken (a split of AIST++, such as pose_train.txt)."""
    ignore_list: list[Path] = field(default_factory=list)
    """Files of AIST names whose sequences are left out (AIST++'s ignore_list.txt); [a.txt, b.txt]."""
    split: Literal["all", "train", "validation", "test"] = "all"
    """Take one part of the people. No person is in two parts. Needs validation_people or test_people."""
    validation_people: Count = 0
    """People in the validation part, drawn by hash, spread over genres."""
    test_people: Count = 0
    """People in the test part, drawn first, spread over genres."""
    split_seed: Seed = 0
    """Another seed draws other people."""

    def __post_init__(self) -> None:
        if self.split != "all" and not (self.validation_people or self.test_people):
            raise ConfigError(f"split={self.split}: nobody is held out; set validation_people or test_people too")
        for part, count in (("validation", self.validation_people), ("test", self.test_people)):
            if self.split == part and not count:
                raise ConfigError(f"split={part}: {part}_people is 0; set how many people the part has")


def of_selection(settings: SelectionSettings) -> Iterator[Reason]:
    """Options that change nothing given the others."""
    if settings.split == "all":
        for name in ("validation_people", "test_people", "split_seed"):
            yield name, "with --split all, which parts nobody"
