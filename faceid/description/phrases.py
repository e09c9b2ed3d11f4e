"""The phrases that a person may be described with, in groups of which one is chosen."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faceid.errors import ConfigError
from faceid.files.documents import DocumentError, fitted, read_yaml

SHIPPED = Path(__file__).with_name("phrases.yaml")
# With each, all photos are looked at several times.
MOST_PHRASES = 5000
_TOO_MANY = f"more than {MOST_PHRASES} phrases; every one costs time"
LOOKS_LIKE = "it looks like: groups: {hair: [a bald head, '{colour} hair']} and values: {colour: [red, grey]}"


@dataclass(frozen=True)
class Phrases:
    """groups: by what they are about, phrases that exclude each other."""

    groups: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))


def read_phrases(file: Path, key: str = "phrases") -> Phrases:
    """Read a YAML file of `groups`: a list of phrases for each. `{name}` in a phrase stands for each of `values.name`.

    Raises: ConfigError naming what is wrong with the file.
    """
    try:
        content = read_yaml(file)
    except (DocumentError, OSError) as error:
        raise ConfigError(f"{key}: {error}") from error
    try:
        found = _groups_of(content)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}={file}: not a file of phrases: {error}; {LOOKS_LIKE}") from error
    if len(phrases := Phrases(found)) > MOST_PHRASES:
        raise ConfigError(f"{key}={file}: {_TOO_MANY}")
    return phrases


def _groups_of(content: object) -> dict[str, tuple[str, ...]]:
    """The phrases by group, spelt out. Raises: TypeError, ValueError."""
    if not isinstance(content, dict):
        raise TypeError("it is no mapping")
    if unknown := sorted(set(map(str, content)) - {"values", "groups"}):
        raise ValueError(f"{unknown[0]}: unknown; it has groups, and values")
    values = fitted(dict[str, list[str]], content.get("values", {}), "values")
    groups = fitted(dict[str, list[str]], content.get("groups", {}), "groups")
    if not groups:
        raise ValueError("groups: no phrase")
    found = {}
    for name, phrases in groups.items():
        # Twice the same would be looked at twice, and crowd out others.
        found[name] = tuple(dict.fromkeys(each for phrase in phrases for each in _spelt_out(name, phrase, values)))
        if not found[name] or not all(phrase.strip() for phrase in found[name]):
            raise ValueError(f"{name}: no phrase, or an empty one")
    return found


def _spelt_out(group: str, phrase: str, values: Mapping[str, list[str]]) -> list[str]:
    """A phrase with each value for each {name} of it. Raises: ValueError."""
    names = []
    for _, name, style, conversion in string.Formatter().parse(phrase):
        if name is None:
            continue
        if style or conversion or name not in values:
            raise ValueError(f"{group}: {phrase!r}: {{{name}}} is none of values")
        names.append(name)
    names = list(dict.fromkeys(names))
    # Counted before they are made: a short file can stand for billions.
    if math.prod(len(values[name]) for name in names) > MOST_PHRASES:
        raise ValueError(f"{group}: {phrase!r}: {_TOO_MANY}")
    chosen = itertools.product(*(values[name] for name in names))
    return [phrase.format(**dict(zip(names, of, strict=True))) for of in chosen]
