"""The pages read fast: short sentences, few of them long. Code, links' addresses and paths are not words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# (90th percentile, longest) of words a sentence.
PAGE_LIMITS = {
    **dict.fromkeys(("README.md", "CONTRIBUTING.md", "CHANGELOG.md"), (22, 30)),
    **{
        f"docs/{name}.md": (22, 30)
        for name in (
            "adapters",
            "aist",
            "architecture",
            "data_formats",
            "decisions/data",
            "decisions/files_and_trust",
            "decisions/films_and_pictures",
            "decisions/likeness",
            "decisions/models",
            "decisions/rendering",
            "decisions/slurm",
            "decisions/tests_and_house",
            "decisions/training",
            "evidence",
            "extending",
            "index",
            "licences",
            "photos",
            "rendering",
            "slurm",
            "tasks",
            "troubleshooting",
        )
    },
    "benchmarks/README.md": (22, 30),
    # One cell is a list of headings.
    "docs/decisions.md": (22, 35),
    # One sentence is a list of settings.
    "docs/run_folder.md": (22, 40),
}


def sentences(text: str) -> list[str]:
    """Sentences of a Markdown page: of its paragraphs, list items and table cells; no headings, no code blocks."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    # A piece of code is one word, whatever is in it.
    text = re.sub(r"`[^`]*`", "Code", text)
    blocks: list[str] = []
    for line in text.splitlines():
        if line.startswith("#") or re.fullmatch(r"[|\s:-]*", line):
            blocks.append("")
        elif line.startswith("|"):
            blocks += [*line.strip("|").split("|"), ""]
        elif re.match(r"\s*(?:[-*]|\d+\.) ", line):
            blocks += ["", line.strip(" -*")]
        elif blocks:
            blocks[-1] = f"{blocks[-1]} {line}"
        else:
            blocks.append(line)
    # A sentence may end within bold: "**Headline.** Next sentence".
    end = r"(?:(?<=[.!?])|(?<=[.!?]\*\*))\s+(?=[A-Z0-9*])|(?<=:)\s*$"
    found = [s for block in blocks for s in re.split(end, block)]
    return [s.strip() for s in found if re.search(r"\w", s)]


def words(sentence: str) -> int:
    return len([word for word in sentence.split() if re.search(r"\w", word)])


@pytest.mark.parametrize("page", PAGE_LIMITS)
def test_sentences_are_short(page):
    found = sorted(sentences((REPOSITORY / page).read_text()), key=words)
    lengths = [words(s) for s in found]
    ninetieth, longest = PAGE_LIMITS[page]
    assert lengths[-1] <= longest, f"{lengths[-1]} words: {found[-1]}"
    assert lengths[int(0.9 * len(lengths))] <= ninetieth


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize(
    "text, counted",
    [
        ("One two three. Four five.", [3, 2]),
        ("**One two three.** Four five, **six**. **Seven?** Eight.", [3, 3, 1, 1]),
        ("- a b c\n- d e\n", [3, 2]),
        ("# heading\nwords go\non here\n\nnext one", [4, 2]),
        ("| a b | `x y z` d |\n|---|---|\n| e f g | h |", [2, 2, 3, 1]),
        ("see [this page](http://a/b c) now", [4]),
        ("```bash\nmany words in code\n```\nfew", [1]),
    ],
)
def test_sentences_are_counted_as_they_are_read(text, counted):
    assert [words(s) for s in sentences(text)] == counted
