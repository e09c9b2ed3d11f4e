"""The recipes of docs/extending.md, read off the page: which file each block of code goes into, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
# A line before the block says it: New file `PATH`: / In `PATH`, after `what one line holds`: (or two backticks).
_WHERE = r"(?m:^)(?:New file|In) `([^`\n]+)`(?:, (before|after|instead of) (?:`` (.+?) ``|`([^`\n]+)`))?:"
_BLOCK = re.compile(_WHERE + r"\n\n```\w*\n(.*?)```\n", re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """A block of code, and where it goes. place: empty for a new file. anchor: what one line of the file holds."""

    file: str
    place: str
    anchor: str
    code: str

    def follow(self, root: Path) -> None:
        """As a reader would, in the tree at root."""
        path = root / self.file
        if not self.place:
            path.write_text(self.code)
            return
        lines = path.read_text().splitlines(keepends=True)
        (number,) = [number for number, line in enumerate(lines) if self.anchor in line]
        first = number + (self.place == "after")
        lines[first : number + (self.place != "before")] = [self.code]
        path.write_text("".join(lines))


def recipes() -> dict[str, list[Edit]]:
    """What to write for each, by its heading; those without code are left out."""
    sections = re.split(r"(?m)^## ", PAGE.read_text())[1:]
    found = {
        section.partition("\n")[0]: [
            Edit(file, place, with_ticks or anchor, code)
            for file, place, with_ticks, anchor, code in _BLOCK.findall(section)
        ]
        for section in sections
    }
    return {name: edits for name, edits in found.items() if edits}
