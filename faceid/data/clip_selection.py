"""Choose the clips that take part.

Lists name sequences to take or leave, and parts of a set share no person. AIST++'s own `crossmodal_*` lists separate
music and dances, not people: all thirty dancers are in each. A model's result on "test" there says nothing of new
faces. `--split` separates people instead.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from faceid.data.aist import parse_aist_name, read_name_list
from faceid.data.order import seed_for
from faceid.data.selection_settings import SelectionSettings
from faceid.data.video_files import VIDEO_SUFFIXES
from faceid.errors import DataError
from faceid.media.listing import entries_of, files_among

log = logging.getLogger(__name__)

Part = Literal["train", "validation", "test"]


class Named(Protocol):
    """A clip or film by name. dancer: the person in it."""

    @property
    def stem(self) -> str: ...
    @property
    def dancer(self) -> str: ...
    @property
    def genre(self) -> str | None: ...


Candidate = TypeVar("Candidate", bound=Named)


NO_FILES = "that are no files"


@plain_dataclass(frozen=True)
class LeftOut:
    """One clip or film that takes no part. kind: the name under which it is counted."""

    name: str
    reason: str
    kind: str = "reason"


def select(candidates: Sequence[Candidate], settings: SelectionSettings) -> tuple[list[Candidate], list[LeftOut]]:
    """The clips that take part, in their order, and the others with reasons.

    Raises: DataError for a list that cannot be read, or when more people are to be held out than there are.
    """
    only = _sequences([settings.only_list]) if settings.only_list else None
    ignored = _sequences(settings.ignore_list)
    part_of = split_people({c.dancer: c.genre for c in candidates}, settings)
    kept, left_out = [], []
    for candidate in candidates:
        name = parse_aist_name(candidate.stem)
        sequence = name.sequence if name else candidate.stem
        if sequence in ignored:
            left_out.append(LeftOut(candidate.stem, "on the ignore list", "on the ignore list"))
        elif only is not None and sequence not in only:
            left_out.append(LeftOut(candidate.stem, f"not on {settings.only_list}", "not on the list"))
        elif settings.split not in ("all", part_of[candidate.dancer]):
            part = part_of[candidate.dancer]
            left_out.append(LeftOut(candidate.stem, f"{candidate.dancer} is in the {part} part", f"of the {part} part"))
        else:
            kept.append(candidate)
    if only is not None:
        names = {entry.name for entry in left_out}
        _say_who_is_on_both_sides(
            {c.dancer for c in kept}, {c.dancer for c in candidates if c.stem in names}, settings.only_list
        )
    if settings.split != "all":
        log.info("split=%s: %s", settings.split, ", ".join(sorted({c.dancer for c in kept})) or "nobody")
    return kept, left_out


def split_people(genre_of: Mapping[str, str | None], settings: SelectionSettings) -> dict[str, Part]:
    """Each person's part. Test people are drawn first, one genre after the other, so that no genre is lost whole.

    genre_of: person to genre. Raises: DataError when nobody would be left to train on.
    """
    held_out = settings.validation_people + settings.test_people
    if held_out and held_out >= len(genre_of):
        raise DataError(
            f"validation_people={settings.validation_people}, test_people={settings.test_people}: there are "
            f"{len(genre_of)} people, and one at least must be left to train on"
        )

    def drawn(word: str) -> int:
        return seed_for(settings.split_seed, 0, f"split {word}")

    places: Counter[str | None] = Counter()
    turns = []
    for person in sorted(genre_of, key=lambda p: (drawn(f"person {p}"), p)):
        genre = genre_of[person]
        turns.append((places[genre], drawn(f"genre {genre}"), person))
        places[genre] += 1
    order = [person for _, _, person in sorted(turns)]
    parts: dict[str, Part] = dict.fromkeys(order, "train")
    parts |= dict.fromkeys(order[: settings.test_people], "test")
    parts |= dict.fromkeys(order[settings.test_people : held_out], "validation")
    return parts


def list_no_files(videos_dir: Path) -> list[LeftOut]:
    """Names in a folder that look like videos and are no files."""
    found = files_among(entries_of(videos_dir), VIDEO_SUFFIXES)[1]
    return [LeftOut(name, f"is no file: {what}", NO_FILES) for name, what in found.items()]


def log_left_out(left_out: Sequence[LeftOut], noun: str) -> None:
    """Log one line a kind, with its count and an example. Names that are no files were reported with the folder."""
    for kind, count in sorted(Counter(entry.kind for entry in left_out if entry.kind != NO_FILES).items()):
        example = next(entry for entry in left_out if entry.kind == kind)
        log.warning("%d %s left out, %s, such as %s: %s", count, noun, kind, example.name, example.reason)


def _sequences(lists: Sequence[Path]) -> set[str]:
    return {name.sequence for path in lists for name in read_name_list(path)}


def _say_who_is_on_both_sides(taken: set[str], left: set[str], path: Path | None) -> None:
    shared = sorted(taken & left)
    if shared:
        log.warning(
            "only_list=%s: %d of its %d people are also in the clips it leaves out, such as %s: a split by it shares "
            "people, and says nothing of new faces; --split with --test_people parts people",
            path,
            len(shared),
            len(taken),
            shared[0],
        )
