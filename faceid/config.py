"""Read the command line and YAML into frozen dataclasses, one per room.

Flags are flat: a key has one name in YAML, on the command line and in the code. jsonargparse reads both and writes the
help. pydantic checks ranges. This file adds what neither has. It suggests the nearest name for an unknown key. It words
errors in one line that names the file. The command line wins over YAML whatever their order, and `~` is followed. It
warns of options that have no effect.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import jsonargparse
import yaml
from pydantic import TypeAdapter, ValidationError

from faceid.errors import ConfigError
from faceid.files.documents import DocumentError, is_text, read_yaml
from faceid.files.given_paths import why_no_file

log = logging.getLogger(__name__)

Section = TypeVar("Section")

# An option, and why it changes nothing. The reason is worded to follow "has no effect".
Reason = tuple[str, str]
# What a section demands when a run is resumed. same: Each option keeps its value, else it is refused by its name.
# free: Any option may differ. by_content: Paths may differ when their content is the same (the base, clips, photos, the
# identity).
OnResume = Literal["same", "free", "by_content"]
# Fields that hold words. A ~ in one of them is an ordinary character.
OF_WORDS = ("prompt", "negative_prompt", "caption", "title", "name", "identity_name")
# A ~ at the beginning of a value, or of a path within one: clip:~/model, ours=~/out.
_HOME = re.compile(r"(?:^|(?<=[=:,]))~(?=/|$)")
_PLAIN = {int: "a whole number", float: "a number", str: "a text", Path: "a path", bool: "true or false"}
_PLAIN |= {NoneType: "null"}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}


def parse_sections(
    prog: str,
    description: str,
    sections: Sequence[type],
    argv: Sequence[str],
    check: Callable[..., object] | None = None,
) -> list[Any]:
    """Read `argv` (and its `--config` files) into one instance of each section, in order.

    sections: pydantic dataclasses (frozen) whose field names are distinct over all of them.
    check: called with all sections, in order. It raises a ConfigError for options that do not go together.
    Raises: ConfigError for an unknown key (with the nearest known one), a wrong type or a value out of range.
    """
    if odd := [word for word in argv if not is_text(word)]:
        raise ConfigError(f"{ascii(odd[0])[1:-1]}: not text in UTF-8, so no record could name it; rename it")
    # The help text of a flag is the docstring under its field.
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    # An abbreviation would hide a misspelled flag, and change its meaning when a flag is added.
    parser = _Parser(prog=prog, description=description, exit_on_error=True, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with the same keys as the flags below.")
    for section in sections:
        parser.add_class_arguments(section, None)
        parser.fill_in(getattr(section, "IN_HELP", {}))
    names = [field.name for section in sections for field in dataclasses.fields(section)]
    of_files = _read_yaml_files(argv, names)
    _refuse_empty(argv, of_files, names)
    parser.hints = {name: hint for section in sections for name, hint in _hints(section).items()}
    try:
        values = parser.parse_args(_normalise(list(argv), sections)).as_dict()
        built = build_sections(sections, {name: values[name] for name in names})
        if check is not None:
            check(*built)
        return built
    except ConfigError as error:
        raise ConfigError(_with_file(str(error), of_files, argv)) from error


def flags_of(sections: Sequence[type], argv: Sequence[str]) -> list[str]:
    """The flags of these sections, taken from another command's words and its `--config` files.

    A tool that needs few of the command's options uses it.

    Raises: ConfigError for a file that cannot be read.
    """
    names = [field.name for section in sections for field in dataclasses.fields(section)]
    of_files: dict[str, Any] = {}
    for file in _config_files(argv):
        of_files |= _read_config(file)
    flags = [f"--{name}={of_files[name]}" for name in names if isinstance(of_files.get(name), str | int | float)]
    for place, word in enumerate(argv):
        name, equals, _ = word.removeprefix("--").partition("=")
        if word in ("-h", "--help"):
            flags.append(word)
        elif word.startswith("--") and name in names:
            flags += [word] if equals else argv[place : place + 2]
    return flags


def build_sections(sections: Sequence[type], values: Mapping[str, Any]) -> list[Any]:
    """Make all sections, in order, from values by their flags' names. Raises: ConfigError as in `build_section`."""
    names = [[field.name for field in dataclasses.fields(section)] for section in sections]
    known = [name for own in names for name in own]
    for name in sorted(set(values) - set(known)):
        raise ConfigError(_unknown(name, known))
    return [
        build_section(section, {name: values[name] for name in own if name in values})
        for section, own in zip(sections, names, strict=True)
    ]


def section_types(holder: type) -> tuple[type, ...]:
    """The sections that a dataclass holds, in order."""
    hints = get_type_hints(holder)
    return tuple(hints[field.name] for field in dataclasses.fields(holder))


def sections_in(holder: Any) -> list[Any]:
    """The sections in a dataclass of sections, in order."""
    return [getattr(holder, field.name) for field in dataclasses.fields(holder)]


def build_section(section: type[Section], values: dict[str, Any]) -> Section:
    """Make one validated section. Raises: ConfigError naming key, value and reason."""
    unknown = set(values) - {field.name for field in dataclasses.fields(section)}  # type: ignore[arg-type]
    for name in sorted(unknown):
        raise ConfigError(_unknown(name, [f.name for f in dataclasses.fields(section)]))  # type: ignore[arg-type]
    values = {name: _at_home(name, value) for name, value in values.items()}
    try:
        built = TypeAdapter(section).validate_python(values)
    except ValidationError as error:
        raise ConfigError(_why(error, _hints(section))) from error
    for field in dataclasses.fields(section):  # type: ignore[arg-type]
        _refuse_unusable(field.name, getattr(built, field.name))
    return built


def changed_fields(section: Any) -> list[str]:
    """Names of the fields whose value is not the default, thus the user's choices that make a difference."""
    return [field.name for field in dataclasses.fields(section) if getattr(section, field.name) != _default(field)]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def warn_of_unused(sections: Sequence[Any], reasons: Iterable[Reason]) -> None:
    """Warn of options of `sections` that were chosen and change nothing.

    reasons: of all options without effect, whether chosen or not.
    """
    chosen = {name for section in sections for name in changed_fields(section)}
    for name, reason in reasons:
        if name in chosen:
            log.warning("%s: has no effect %s", name, reason)
            # Warn once, with the first reason.
            chosen.remove(name)


def sections_as_yaml(sections: Sequence[Any]) -> str:
    """The resolved config, as a YAML file that `--config` reads back to equal sections."""
    merged: dict[str, Any] = {}
    for section in sections:
        merged.update(TypeAdapter(type(section)).dump_python(section, mode="json"))
    return yaml.safe_dump(merged, sort_keys=False)


class _Parser(jsonargparse.ArgumentParser):
    hints: Mapping[str, Any] = {}

    def fill_in(self, in_help: Mapping[str, str]) -> None:
        """Replace each {name} in a section's help by the text in its IN_HELP, made from a list that lives elsewhere."""
        for action in self._actions:
            for name, text in in_help.items():
                action.help = str(action.help).replace(f"{{{name}}}", text)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(message.split())
        unknown = re.match(r"unrecognized arguments: --?([^\s=]+)", line)
        if unknown:
            known = [action.dest for action in self._actions]
            raise ConfigError(_unknown(unknown.group(1), known, prefix="--"))
        wrong = re.match(r'Parser key "([^"]+)": (.*)', line)
        if wrong is None:
            raise ConfigError(line)
        key, reason = wrong.groups()
        value = re.search(r".*(?:Given|Got) value: ?(.*)", line)
        if value is None or key not in self.hints:
            raise ConfigError(f"{key}: {reason}")
        raise ConfigError(f"{key}={value.group(1)}: must be {_allowed(self.hints[key])}")


def _hints(section: type) -> dict[str, Any]:
    """The types of a section's fields, by their names."""
    hints = get_type_hints(section, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def _allowed(hint: Any) -> str:
    """What a value of a type may be, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _allowed(inner[0])
    if origin is Literal:
        return " or ".join(map(str, inner)) if len(inner) < 3 else f"one of {', '.join(map(str, inner))}"
    if origin in (Union, UnionType):
        return ", or ".join(dict.fromkeys(map(_allowed, inner)))
    if origin is list:
        return f"a list of {_several(inner[0])}"
    if origin is tuple:
        return f"a list of {len(inner)} {_several(inner[0])}"
    return _PLAIN.get(hint, str(hint))


def _several(hint: Any) -> str:
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return _SEVERAL.get(plain) or f"values, each {_allowed(plain)}"


def _why(error: ValidationError, hints: Mapping[str, Any]) -> str:
    """What pydantic found, in a line. For a union the line gives a range if one was left, else all allowed types."""
    errors = error.errors()
    if not errors[0]["loc"]:
        # A check over several keys (__post_init__) names its keys itself.
        return errors[0]["msg"].removeprefix("Value error, ")
    name = str(errors[0]["loc"][0])
    of_name = [one for one in errors if one["loc"][0] == name]
    left = [one for one in of_name if one["type"].startswith(("greater", "less"))]
    first = (left or of_name)[0]
    if len(of_name) > 1 and not left:
        return f"{name}={first['input']!r}: must be {_allowed(hints[name])}"
    # pydantic names the part of a union as well, and the place in a list. Only the place is shown.
    places = [str(part) for part in first["loc"][1:] if isinstance(part, int)]
    words = [_allowed(part) for part in get_args(hints.get(name)) if get_origin(part) is Literal]
    reason = "; or give ".join([first["msg"].removeprefix("Value error, "), *words])
    return f"{'.'.join([name, *places])}={first['input']!r}: {reason}"


def _with_file(message: str, of_files: Mapping[str, tuple[str, Any]], argv: Sequence[str]) -> str:
    """A message with the file in front whose value it is about; unchanged if no file set the value."""
    key = re.match(r"\w*", message)
    if key is None or key.group() not in of_files:
        return message
    file, value = of_files[key.group()]
    is_flag = any(word.partition("=")[0] == f"--{key.group()}" for word in argv)
    is_of_file = not is_flag or message.startswith(f"{key.group()}={value}:")
    return f"{file}: {message}" if is_of_file else message


def _at_home(name: str, value: Any) -> Any:
    """A path with its ~ followed as a shell would. Nobody wants a folder named ~."""
    if isinstance(value, list):
        return [_at_home(name, one) for one in value]
    if name in OF_WORDS or not isinstance(value, str | Path) or "~" not in str(value):
        return value
    return type(value)(_HOME.sub(lambda _: os.path.expanduser("~"), str(value)))


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


def _read_yaml_files(argv: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """For each key that a --config file sets: the last such file, and its value. Raises: ConfigError."""
    found: dict[str, tuple[str, Any]] = {}
    for file in _config_files(argv):
        content = _read_config(file)
        for key in content:
            if key not in names:
                raise ConfigError(f"{file}: {_unknown(str(key), names)}")
        # Without this check jsonargparse takes the value for a group of keys and prints a long error.
        nested = next((key for key, value in content.items() if isinstance(value, dict)), None)
        if nested is not None:
            raise ConfigError(f"{file}: {nested}: has keys below it; no key of these has")
        found |= {key: (file, value) for key, value in content.items()}
    return found


def _config_files(argv: Sequence[str]) -> list[str]:
    files = [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == "--config"]
    return files + [word.removeprefix("--config=") for word in argv if word.startswith("--config=")]


def _read_config(file: str) -> dict[Any, Any]:
    """All keys of a file. Raises: ConfigError."""
    path = Path(file)
    if (reason := why_no_file(path)) is not None:
        raise ConfigError(f"--config {file}: {reason}")
    try:
        content = read_yaml(path)
    except DocumentError as error:
        raise ConfigError(f"--config {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {file}: expected `key: value` lines, found {type(content).__name__}")
    return content


def _refuse_empty(argv: Sequence[str], of_files: Mapping[str, tuple[str, Any]], names: Sequence[str]) -> None:
    """Refuse an empty path or name.

    Most often a script's variable is unset; an empty path would be the current folder.
    """
    for word, following in pairwise([*argv, "--"]):
        name, equals, value = word.removeprefix("--").partition("=")
        is_empty = not value if equals else not following.strip()
        if word.startswith("--") and name in names and name not in OF_WORDS and is_empty:
            raise ConfigError(f"{name}: is empty; give a value, or leave out --{name}")
    for name, (file, value) in of_files.items():
        if isinstance(value, str) and not value.strip() and name not in OF_WORDS:
            raise ConfigError(f"{file}: {name}: is empty; give a value, or leave the line out")


def _refuse_unusable(name: str, value: Any) -> None:
    """Refuse NaN, infinity and NUL. No range holds NaN, infinity passes every lower bound, no file name has a NUL."""
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, float) and not math.isfinite(one):
            raise ConfigError(f"{name}={one}: is not a finite number; give one")
        if isinstance(one, str | Path) and "\0" in str(one):
            raise ConfigError(f"{name}={str(one)!r}: holds a NUL, which no file's name or text has; leave it out")


def _unknown(name: str, known: Sequence[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{near[0]}?" if near else "see --help for the known ones"
    return f"{prefix}{name}: unknown key; {hint}"
