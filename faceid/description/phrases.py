"""The phrases that a person may be described with, in groups of which one is chosen."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from faceid.errors import ConfigError
from faceid.files.documents import DocumentError, fitted, read_yaml

SHIPPED = Path(__file__).with_name("phrases.yaml")
# With each, all photos are looked at several times.
MOST_PHRASES = 5000


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
        values = fitted(dict[str, list[str]], content.get("values", {}), "values")
        groups = fitted(dict[str, list[str]], content["groups"], "groups")
        if unknown := sorted(set(content) - {"values", "groups"}):
            raise ValueError(f"{unknown[0]}: unknown; it has groups, and values")
        found = {name: tuple(_spelt_out(phrases, values)) for name, phrases in groups.items()}
    except (DocumentError, OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}={file}: not a file of phrases: {error}") from error
    phrases = Phrases(found)
    empty = [name for name, of in found.items() if not of or not all(phrase.strip() for phrase in of)]
    if not found or empty:
        raise ConfigError(f"{key}={file}: {empty[0] if empty else 'groups'}: no phrase, or an empty one")
    if len(phrases) > MOST_PHRASES:
        raise ConfigError(f"{key}={file}: {len(phrases)} phrases, at most {MOST_PHRASES}; every one costs time")
    return phrases


def _spelt_out(phrases: Iterable[str], values: Mapping[str, list[str]]) -> Iterable[str]:
    for phrase in phrases:
        names = [name for _, name, _, _ in string.Formatter().parse(phrase) if name is not None]
        for chosen in itertools.product(*(values[name] for name in names)):
            yield phrase.format(**dict(zip(names, chosen, strict=True)))
