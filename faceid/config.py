"""Command line and YAML to frozen dataclasses, one per room.

Flags are flat: a key has one name in YAML, on the command line and in the code. jsonargparse reads both and writes
the help; pydantic checks ranges; this file adds what neither has: the nearest name for an unknown key, one-line
errors, and YAML < command line whatever their order.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jsonargparse
import yaml
from pydantic import TypeAdapter, ValidationError

from faceid.documents import DocumentError, read_yaml
from faceid.errors import ConfigError

Section = TypeVar("Section")


def parse_sections(prog: str, description: str, sections: Sequence[type], argv: Sequence[str]) -> list[Any]:
    """Read `argv` (and its `--config` files) into one instance of each section, in order.

    sections: pydantic dataclasses (frozen) whose field names are distinct over all of them.
    Raises: ConfigError for an unknown key (with the nearest known one), a wrong type or a value out of range.
    """
    # The help text of a flag is the docstring under its field.
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    # An abbreviation would hide a misspelled flag, and change its meaning when a flag is added.
    parser = _Parser(prog=prog, description=description, exit_on_error=True, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with the same keys as the flags below.")
    for section in sections:
        parser.add_class_arguments(section, None)
    names = [field.name for section in sections for field in dataclasses.fields(section)]
    _refuse_unknown_yaml_keys(argv, names)
    values = parser.parse_args(_normalise(list(argv), sections)).as_dict()
    return [build_section(s, {f.name: values[f.name] for f in dataclasses.fields(s)}) for s in sections]


def build_section(section: type[Section], values: dict[str, Any]) -> Section:
    """Make one validated section. Raises: ConfigError naming key, value and reason."""
    unknown = set(values) - {field.name for field in dataclasses.fields(section)}  # type: ignore[arg-type]
    for name in sorted(unknown):
        raise ConfigError(_unknown(name, [f.name for f in dataclasses.fields(section)]))  # type: ignore[arg-type]
    try:
        built = TypeAdapter(section).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        # A check over several keys (__post_init__) has no location and names its keys itself.
        raise ConfigError(f"{key}={first['input']!r}: {reason}" if key else reason) from error
    for field in dataclasses.fields(section):  # type: ignore[arg-type]
        _refuse_unusable(field.name, getattr(built, field.name))
    return built


def changed_fields(section: Any) -> list[str]:
    """Names of the fields whose value is not the default: what a user chose, as far as it makes a difference."""
    return [field.name for field in dataclasses.fields(section) if getattr(section, field.name) != field.default]


def sections_as_yaml(sections: Sequence[Any]) -> str:
    """The resolved config, as a YAML file that `--config` reads back to equal sections."""
    merged: dict[str, Any] = {}
    for section in sections:
        merged.update(TypeAdapter(type(section)).dump_python(section, mode="json"))
    return yaml.safe_dump(merged, sort_keys=False)


class _Parser(jsonargparse.ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(message.split())
        unknown = re.match(r"unrecognized arguments: --?([^\s=]+)", line)
        if unknown:
            known = [action.dest for action in self._actions]
            raise ConfigError(_unknown(unknown.group(1), known, prefix="--"))
        wrong = re.match(r'Parser key "([^"]+)": (.*)', line)
        raise ConfigError(f"{wrong.group(1)}: {wrong.group(2)}" if wrong else line)


def _normalise(argv: list[str], sections: Sequence[type]) -> list[str]:
    """Put --config first, so that flags win over it, and let a bare boolean flag mean true."""
    fields = [field for section in sections for field in dataclasses.fields(section)]
    booleans = {f"--{field.name}" for field in fields if str(field.type) in ("bool", "<class 'bool'>")}
    configs: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(argv):
        word = argv[index]
        following = argv[index + 1] if index + 1 < len(argv) else "--"
        if word == "--config" and index + 1 < len(argv):
            configs += [word, following]
            index += 1
        elif word.startswith("--config="):
            configs.append(word)
        elif word in booleans and following.lower() not in ("true", "false"):
            rest += [word, "true"]
        else:
            rest.append(word)
        index += 1
    return configs + rest


def _refuse_unknown_yaml_keys(argv: Sequence[str], names: Sequence[str]) -> None:
    files = [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == "--config"]
    files += [word.removeprefix("--config=") for word in argv if word.startswith("--config=")]
    for file in files:
        path = Path(file)
        if not path.is_file():
            raise ConfigError(f"--config {file}: no such file")
        try:
            content = read_yaml(path)
        except DocumentError as error:
            raise ConfigError(f"--config {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"--config {file}: expected `key: value` lines, found {type(content).__name__}")
        for key in content:
            if key not in names:
                raise ConfigError(f"{file}: {_unknown(str(key), names)}")
        # Without this it is a group of keys to jsonargparse, which says so at length.
        nested = next((key for key, value in content.items() if isinstance(value, dict)), None)
        if nested is not None:
            raise ConfigError(f"{file}: {nested}: has keys below it; no key of these has")


def _refuse_unusable(name: str, value: Any) -> None:
    """No range of ours holds NaN, infinity passes every lower bound, and no file's name has a NUL."""
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, float) and not math.isfinite(one):
            raise ConfigError(f"{name}={one}: is not a finite number; give one")
        if isinstance(one, str | Path) and "\0" in str(one):
            raise ConfigError(f"{name}={str(one)!r}: holds a NUL, which no file's name or text has; leave it out")


def _unknown(name: str, known: Sequence[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{near[0]}?" if near else "see --help for the known ones"
    return f"{prefix}{name}: unknown key; {hint}"
