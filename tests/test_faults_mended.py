"""Every fault that was found on 2026-11-28 has a test that is marked with its name, or a sentence why it is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from launching import REPOSITORY

FAULTS = REPOSITORY.parent / "shared" / "facts" / "faults.md"
# Of the same table: cost that is not asked for here, measured by another issue.
LATER = {"C4", "C5"}


def marked() -> set[str]:
    """Names of faults that a test is marked with."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(REPOSITORY / "tests").rglob("test_*.py"))]
    return {name for text in texts for name in re.findall(r'mark\.fault\("([A-Z]\d+)"\)', text)}


def test_every_fault_has_a_test_or_a_sentence():
    if not FAULTS.is_file():
        pytest.skip(f"no list of faults at {FAULTS}")
    listed = set(re.findall(r"^\| ([A-Z]\d+) \|", FAULTS.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(listed) > 50
    # In docs/decisions/ a fault that is right as it is stands as **L1:**.
    pages = [path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "docs/decisions").glob("*.md"))]
    explained = {name for page in pages for name in re.findall(r"\*\*([A-Z]\d+):\*\*", page)}
    assert listed - marked() - explained - LATER == set()
