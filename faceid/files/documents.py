"""Read text, JSON, YAML and CSV from files that anybody may have written.

Every reader of the project begins here. Only files are read: a pipe would block, and a device has no end.
tests/test_readers.py looks for other readers.

The returned content has bounded size and depth, and has each key once. It holds no number or text on which later code
would stumble (a number beyond 64 bits, NaN, a NUL, half a character). Anything else is a `DocumentError`, which is also
a `ValueError`. A reader that says more about its file catches it together with other errors of the content.
"""

from __future__ import annotations

import csv
import errno
import functools
import io
import itertools
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from pydantic import TypeAdapter, ValidationError

from faceid.errors import DataError

# A parsed value takes up to 25 times its bytes ("[],[],..."). This limit keeps it under 2 GB.
LARGEST_BYTES = 64 << 20
# Our YAML files have 5 KB. PyYAML reads about 60 KB in a second.
LARGEST_YAML_BYTES = 64 << 10
# An index has 5 levels, and COCO's files have 6.
DEEPEST = 64
# Each value that an alias stands for counts every time: nine lines can name a billion values.
MOST_YAML_VALUES = 20_000
# Seeds are up to 64 bits wide; a larger number fits no array and, beyond 308 digits, no float.
LARGEST_INTEGER = (1 << 64) - 1

_PIECE_BYTES = 64 << 10
# An escaped half of a character, or an escaped NUL. All texts are checked only where one is found. For an index of
# 100,000 clips that check takes two seconds.
_SUSPECT = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
# The same for whole numbers: 20 digits in a row. The table writes each digit as 0.
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else ord(" ") for byte in range(256))
_LONG_NUMBER = b"0" * 20
_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


class DocumentError(DataError, ValueError):
    """A document that is not in its stated form, in one line."""


def read_bytes(path: Path, largest_bytes: int = LARGEST_BYTES) -> bytes:
    """A whole file. Raises: OSError; DocumentError without its name, for a pipe, a device or a file over the limit."""
    with _open(path) as file:
        # The file is read piece by piece. For one read of the limit, Python would allocate the whole limit.
        pieces, left = [], largest_bytes + 1
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise DocumentError(f"over {largest_bytes} bytes; nothing of this kind is that large")
    return b"".join(pieces)


def read_text(path: Path, largest_bytes: int = LARGEST_BYTES) -> str:
    """A whole file in UTF-8, with or without a byte order mark. Raises: OSError, DocumentError as in `read_bytes`."""
    try:
        return read_bytes(path, largest_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"not text in UTF-8: {error}") from None


def read_json(path: Path, kind: type | None = dict, *, largest_bytes: int = LARGEST_BYTES, nan: bool = False) -> Any:
    """A JSON file's content. kind: dict, list, or None for either. nan: whether NaN is allowed in the file.

    Raises: DocumentError naming the file.
    """
    with _named(path):
        return parse_json(read_bytes(path, largest_bytes), kind, nan=nan, largest_bytes=largest_bytes)


def find_json(path: Path, *, largest_bytes: int = LARGEST_BYTES, nan: bool = False) -> dict[str, Any] | None:
    """A JSON file's object, as `read_json`; None where there is no such file, or it holds anything else."""
    with suppress(DocumentError):
        return read_json(path, largest_bytes=largest_bytes, nan=nan)
    return None


def parse_json(
    data: bytes | str, kind: type | None = dict, *, largest_bytes: int = LARGEST_BYTES, nan: bool = False
) -> Any:
    """The content of JSON in UTF-8, with or without a byte order mark. As `read_json`, but errors name no file."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    if len(data) > largest_bytes:
        raise DocumentError(f"{len(data)} bytes, at most {largest_bytes} are read")
    try:
        content = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_each_once,
            parse_int=_integer if _LONG_NUMBER in data.translate(_DIGITS) else None,
            parse_float=float if nan else _finite,
            parse_constant=float if nan else _finite,
        )
    except RecursionError:
        raise DocumentError(f"nested more than {DEEPEST} deep") from None
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"not JSON in UTF-8: {error}") from None
    _refuse_depth(content)
    if _SUSPECT.search(data):
        _refuse_odd_values(content, nan)
    return _of_kind(content, kind)


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Line numbers from 1 and the object of each line. A line without an object gives a DocumentError with the reason.

    A last line that was cut short is such a line. Raises: DocumentError when there is no such file.
    """
    with _named(path):
        file = _open(path)
    with file:
        for number in itertools.count(1):
            # A longer line comes in pieces, and each piece is an invalid line.
            line = file.readline(LARGEST_BYTES)
            if not line:
                return
            if not line.strip():
                continue
            try:
                yield number, parse_json(line, dict, nan=True)
            except DocumentError as error:
                yield number, DocumentError(f"{path}, line {number}: {error}")


def read_yaml(path: Path) -> Any:
    """A YAML file's content: one document of plain types. Raises: DocumentError naming the file."""
    with _named(path):
        return parse_yaml(read_bytes(path, LARGEST_YAML_BYTES))


def parse_yaml(data: bytes) -> Any:
    """As `read_yaml`, but errors name no file."""
    # PyYAML looks a thousand characters ahead of each bracket. With many brackets that takes a second before it fails.
    if _brackets_deep(data) > DEEPEST:
        raise DocumentError(f"nested more than {DEEPEST} deep")
    try:
        loader = yaml.SafeLoader(data.decode("utf-8-sig"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_odd_nodes(node)
            content = loader.construct_document(node)
        finally:
            loader.dispose()
    except DocumentError:
        raise
    except RecursionError:
        raise DocumentError(f"nested more than {DEEPEST} deep") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DocumentError(f"not YAML: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML's constructors fail in any of these ways when a tag does not fit its value.
        raise DocumentError(f"not YAML in UTF-8: {' '.join(str(error).split())}") from None
    _refuse_odd_values(content, nan=False)
    return content


def read_csv(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Read rows that are not empty: the line number, and the cells by the names in the first line. UTF-8.

    A cell may hold line breaks between quotes. Raises: DocumentError naming file and line, for an unclosed quote, more
    cells than names, or a name that is there twice.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
        if "\0" in text:
            raise DocumentError("holds a NUL")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        names = [name.strip() for name in next(reader, [])]
        if len(set(names)) != len(names):
            raise DocumentError(f"line 1: {next(n for n in names if names.count(n) > 1)!r} is there twice")
        rows = []
        for cells in reader:
            if len(cells) > len(names):
                raise DocumentError(f"line {reader.line_num}: more cells than the first line has names")
            if cells:
                rows.append((reader.line_num, dict(zip(names, cells, strict=False))))
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"{path}: cannot be read as a CSV file in UTF-8: {error}") from error
    return rows


def fitted(kind: Any, value: Any, name: str = "") -> Any:
    """Return a parsed value as a `kind` (a dataclass, or dict[str, str] and such). name: the value's name.

    Raises: DocumentError naming the place.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (*([name] if name else ()), *first["loc"]))
        raise DocumentError(f"{place}: {first['msg']}" if place else first["msg"]) from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def values_within(content: Any) -> Iterator[Any]:
    """Everything in plain containers, the containers too, each once. A pickle may hold a list that contains itself."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, dict):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value


def is_file_name(name: Any) -> bool:
    """Whether a name from a file names a file in the same folder and leads nowhere else."""
    is_name = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\")
    # The name has no line break, NUL or half character. File systems take 255 bytes at most.
    return is_name and name.isprintable() and len(name.encode()) <= 255


def is_text(name: str) -> bool:
    """Whether a name is text. File names are bytes, and Python shows bytes that are not UTF-8 as half characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in the errors of reading it."""
    try:
        yield
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from error


def _open(path: Path) -> BinaryIO:
    """Open a file to read. Raises: OSError; DocumentError for something that is there and is no file."""
    # Opened without waiting, so a pipe opens at once and is then recognised.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise DocumentError("a pipe or a device, not a file; write what it gives into a file, and name that")
    return os.fdopen(descriptor, "rb")


def _of_kind(content: Any, kind: type | None) -> Any:
    if isinstance(content, kind or (dict, list)):
        return content
    wanted = _NAMES[kind] if kind else "an object or a list"
    raise DocumentError(f"holds {_NAMES.get(type(content), 'a number')}, not {wanted}")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise DocumentError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _integer(text: str) -> int:
    # A sign and 20 digits hold 64 bits.
    if len(text) > 21 or abs(number := int(text)) > LARGEST_INTEGER:
        raise DocumentError("a whole number of more than 64 bits")
    return number


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise DocumentError(f"{text[:40]} is no number that can be used")
    return number


def _brackets_deep(data: bytes) -> int:
    """How deep brackets are nested, counting also those within texts."""
    deep = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", data):
        deep = deep + 1 if bracket in b"[{" else max(deep - 1, 0)
        deepest = max(deepest, deep)
    return deepest


def _refuse_depth(content: Any) -> None:
    """Refuse too deep nesting. The walk goes level by level; a recursive walk would itself fail on such input."""
    level = [content]
    for _ in range(DEEPEST):
        level = [
            inner
            for value in level
            if type(value) in (dict, list)
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) in (dict, list)
        ]
        if not level:
            return
    raise DocumentError(f"nested more than {DEEPEST} deep")


def _refuse_odd_values(content: Any, nan: bool) -> None:
    for value in values_within(content):
        if isinstance(value, str):
            _refuse_odd_text(value)
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise DocumentError("a whole number of more than 64 bits")
        elif isinstance(value, float) and not math.isfinite(value) and not nan:
            raise DocumentError(f"{value} is no number that can be used")


def _refuse_odd_text(text: str) -> None:
    if "\0" in text:
        raise DocumentError(f"the text {text[:40]!r} holds a NUL")
    if not is_text(text):
        raise DocumentError(f"the text {text[:40]!r} holds half a character (a lone surrogate)")


def _refuse_odd_nodes(root: yaml.Node) -> None:
    """Check depth, keys, and the number of values with aliases expanded, before any value is built."""
    waiting = [(root, 1)]
    number = 0
    while waiting:
        node, depth = waiting.pop()
        number += 1
        if depth > DEEPEST:
            raise DocumentError(f"nested more than {DEEPEST} deep, or in itself")
        if number + len(waiting) > MOST_YAML_VALUES:
            raise DocumentError(f"over {MOST_YAML_VALUES} values, with what its aliases stand for")
        if isinstance(node, yaml.MappingNode):
            _refuse_doubled_keys(node)
            waiting += [(inner, depth + 1) for pair in node.value for inner in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(inner, depth + 1) for inner in node.value]


def _refuse_doubled_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise DocumentError(f"line {key.start_mark.line + 1}: a key that is no plain word")
        if key.value in seen:
            raise DocumentError(f"line {key.start_mark.line + 1}: the key {key.value!r} is there twice")
        seen.add(key.value)
