"""What the fuzz does to files: bytes, trees of JSON and pickles, YAML lines, csv cells, tars, zips and safetensors.

Everything is a function of the random generator that is passed in, so that a mutation can be made again from its
number. Nothing here knows what a file is for; `fuzz_targets` puts these together.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz.values import (
    CELLS,
    ESCAPED,
    JSON_VALUES,
    PICKLED_VALUES,
    TOKENS,
    YAML_LINES,
    YAML_VALUES,
    Raw,
    tensor_values,
    wicked_pickles,
)

# Of a number of each type, as safetensors names them.
BITS = {
    name: bits
    for bits, names in {
        4: "F4",
        8: "F8_E4M3 F8_E5M2 F8_E8M0 BOOL U8 I8",
        16: "BF16 F16 I16",
        32: "F32 I32",
        64: "F64 I64 U64 C64",
    }.items()
    for name in names.split()
}


def change_bytes(random: Random, data: bytes) -> bytes:
    """A few changes that know nothing of the format."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(changed) + 1)
        end = min(len(changed), at + random.choice((1, 2, 4, 16, 100, 1000)))
        kind = random.randrange(9)
        if kind == 0 and changed:
            changed[at - 1] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = random.choice(TOKENS)
        elif kind == 4:
            changed[at:end] = random.randbytes(end - at)
        elif kind == 5:
            changed[at:at] = changed[at:end] * random.choice((1, 2, 50))
        elif kind == 6:
            changed[at:end] = random.choice(TOKENS)
        elif kind == 7:
            changed[at:end] = bytes(end - at)
        elif len(changed) >= at + 8:
            # A length or an offset, as most formats store them.
            changed[at : at + 8] = struct.pack(
                "<Q", random.choice((0, 1, 2**16, 2**31, 2**32, 2**40, 2**63, 2**64 - 1))
            )
    return bytes(changed)


def change_text(random: Random, text: str) -> bytes:
    """A text's bytes as other editors and machines would have written them; most of the time as they are."""
    kind = random.randrange(24)
    if kind == 0:
        return text.encode("utf-8-sig")
    if kind == 1:
        return text.encode("utf-16")
    if kind == 2:
        return text.replace("\n", "\r\n").encode()
    if kind == 3:
        return text.encode() + b"\xff\xe9"
    if kind == 4:
        return text.encode() + random.choice((b"\x00", b"\n\n", b"{}", b"[1]", text.encode()))
    return text.encode("utf-8", "surrogatepass")


def places_in(tree: Any, most: int = 4_000) -> list[tuple[Any, Any]]:
    """(container, key) of every value of a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < most:
        value = waiting.pop()
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in inside:
            found.append((value, key))
            waiting.append(inner)
    return found


def _copied(value: Any) -> Any:
    """Containers anew; what is in them, tensors above all, as it is."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if type(value) is list else value


def change_tree(random: Random, tree: Any, values: list[Any]) -> Any:
    """A copy with a few values replaced, left out, doubled, renamed, wrapped or swapped."""
    tree = _copied(tree)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = places_in(tree)
        if not places or random.random() < 0.02:
            return _copied(random.choice(values))
        # Half of the time one near the root, of which long lists leave little chance.
        container, key = random.choice(places[:40] if random.random() < 0.5 else places)
        kind = random.randrange(10)
        if kind <= 4:
            container[key] = _copied(random.choice(values))
        elif kind == 5:
            del container[key]
        elif kind == 6:
            other, other_key = random.choice(places)
            container[key] = _copied(other[other_key]) if other is not container else [container[key]]
        elif kind == 7:
            container[key] = random.choice(([container[key]], {"a": container[key]}, [[container[key]]]))
        elif isinstance(container, list):
            container[key:key] = [_copied(container[key])] * random.choice((1, 3, 300))
        else:
            name = random.choice(("a", "", "../../escaped", f"{key}_", str(key).upper(), "__class__", "\x1b[2J", "é"))
            container[name] = container.pop(key) if kind == 8 else _copied(container[key])
    return tree


def json_text(tree: Any, random: Random | None = None) -> str:
    """JSON of a tree that may hold `Raw`. random: now and then a key is there twice."""
    raw: list[str] = []

    def held(value: Any) -> Any:
        if isinstance(value, Raw):
            raw.append(str(value))
            return f"@RAW{len(raw) - 1}@"
        if isinstance(value, dict):
            return {str(key): held(inner) for key, inner in value.items()}
        return [held(inner) for inner in value] if isinstance(value, list | tuple) else value

    text = json.dumps(held(tree), ensure_ascii=random is None or random.random() < 0.5)
    for number, value in enumerate(raw):
        text = text.replace(f'"@RAW{number}@"', value)
    if random is not None and random.random() < 0.08 and text.startswith('{"'):
        key = text[1 : text.index('"', 2) + 1]
        text = f"{{{key}: {random.choice(('1', 'null', '[]'))}, {text[1:]}"
    return text


def change_json(random: Random, data: bytes) -> bytes:
    """JSON with its tree changed, or its bytes."""
    try:
        tree = json.loads(data)
    except ValueError:
        tree = None
    if tree is None or random.random() < 0.25:
        return change_bytes(random, data)
    return change_text(random, json_text(change_tree(random, tree, JSON_VALUES), random))


def change_json_lines(random: Random, data: bytes) -> bytes:
    """A line or two of a .jsonl changed, left out or doubled."""
    if random.random() < 0.25:
        return change_bytes(random, data)
    lines = data.splitlines()
    at = random.randrange(len(lines))
    kind = random.randrange(8)
    if kind == 0:
        lines[at:at] = [random.choice((b"", b"   ", b"null", b"[]", b"1", b'"a"', b"\x00", b"\xff", lines[at]))]
    else:
        lines[at] = change_json(random, lines[at])
    return random.choice((b"\n", b"\n", b"\n", b"\r\n", b"\n\n")).join(lines) + b"\n"


def change_csv(random: Random, data: bytes) -> bytes:
    """Cells, rows or the first line of a csv changed, or its bytes."""
    if random.random() < 0.25:
        return change_bytes(random, data)
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(random.choice((1, 1, 2))):
        row = rows[random.randrange(len(rows)) if random.random() < 0.8 else 0]
        kind = random.randrange(8)
        if kind == 0:
            row.append(random.choice(CELLS))
        elif kind == 1 and row:
            row.pop()
        elif kind == 2:
            rows.append(list(row))
        elif kind == 3 and len(rows) > 1:
            rows.remove(row)
        elif row:
            # One of another row is as good as any.
            row[random.randrange(len(row))] = random.choice((random.choice(CELLS), random.choice(rows[0] or [""])))
    return change_text(random, "\n".join(",".join(row) for row in rows) + "\n")


def change_yaml(random: Random, data: bytes) -> bytes:
    """Lines or values of a YAML file changed, or its bytes."""
    if random.random() < 0.2:
        return change_bytes(random, data)
    lines = data.decode().splitlines(keepends=True)
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(lines))
        name = lines[at].partition(":")[0]
        kind = random.randrange(8)
        if kind <= 3:
            lines[at] = f"{name}: {random.choice(YAML_VALUES)}\n"
        elif kind == 4:
            lines.insert(at, random.choice(YAML_LINES))
        elif kind == 5:
            lines.insert(random.randrange(len(lines) + 1), lines[at])
        elif kind == 6:
            lines[at] = f"{name}{random.choice(('x', '-', ' ', '.a'))}: {random.choice(YAML_VALUES)}\n"
        else:
            del lines[at]
            lines = lines or ["\n"]
    return change_text(random, "".join(lines))


def change_safetensors(random: Random, data: bytes, inner: Callable[[Random, bytes], bytes] | None = None) -> bytes:
    """The header's tree, a tensor's numbers, or bytes. inner: changes the JSON that a header's text holds."""
    kind = random.random()
    if kind < 0.2:
        return change_bytes(random, data)
    size = struct.unpack("<Q", data[:8])[0]
    header, numbers = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    described = header.get("__metadata__", {})
    if inner is not None and described and kind < 0.6:
        name = random.choice(sorted(described))
        described[name] = inner(random, described[name].encode()).decode("utf-8", "replace")
    elif kind < 0.7:
        for _ in range(random.choice((1, 4, 64))):
            at = random.randrange(len(numbers) + 1)
            # All bits set: NaN in every format of numbers.
            numbers[at : at + 4] = random.choice((b"\xff" * 4, b"\x00" * 4, random.randbytes(4)))[: len(numbers) - at]
    elif kind < 0.85:
        _retype(random, header, numbers)
    else:
        header = change_tree(random, header, [value for value in JSON_VALUES if len(str(value)) < 2_000])
    text = json_text(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(numbers)


def _retype(random: Random, header: dict[str, Any], numbers: bytearray) -> None:
    """A tensor gets another type, shape or name that its bytes still fit, or ends without any."""
    name = random.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    begin, end = entry["data_offsets"]
    kind = random.randrange(4)
    if kind == 0:
        entry["dtype"] = random.choice(sorted(BITS))
        count = (end - begin) * 8 // BITS[entry["dtype"]]
        entry["shape"] = random.choice(([count], [1, count], [count, 1, 1, 1]))
    elif kind == 1:
        count = int(np.prod(entry["shape"]))
        entry["shape"] = random.choice(([count], [1] * 30 + [count], entry["shape"][::-1], [1, *entry["shape"]]))
    elif kind == 2:
        header[random.choice(("a", "../../escaped", name + ".x", name.upper(), ""))] = header.pop(name)
    else:
        del header[name]
        # What follows moves up.
        del numbers[begin:end]
        for other, described in header.items():
            if other != "__metadata__" and described["data_offsets"][0] >= end:
                described["data_offsets"] = [place - (end - begin) for place in described["data_offsets"]]


def change_pickle(random: Random, tree: Any, values: list[Any]) -> bytes:
    """A pickle of a changed tree, a pickle's bytes changed, or one that asks for what it must not get."""
    kind = random.random()
    protocol = random.choice((0, 1, 2, 2, 3, 4, 5))
    if kind < 0.15:
        return random.choice(list(wicked_pickles()))
    if kind < 0.5:
        return change_bytes(random, pickle.dumps(tree, protocol))
    return pickle.dumps(change_tree(random, tree, values), protocol)


def change_torch(random: Random, tree: Any) -> bytes:
    """A file of torch.save: of a changed tree, with entries of its zip changed, or its bytes."""
    kind = random.random()
    if kind < 0.45:
        return torch_bytes(change_tree(random, tree, PICKLED_VALUES + tensor_values()), random)
    data = torch_bytes(tree)
    return change_bytes(random, data) if kind < 0.6 else _change_zip(random, data)


def torch_bytes(tree: Any, random: Random | None = None) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(tree, file, pickle_protocol=2 if random is None else random.choice((2, 2, 2, 4)))
    return file.getvalue()


def _change_zip(random: Random, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(sorted(entries))
    pickled = next(each for each in entries if each.endswith("data.pkl"))
    kind, compression = random.randrange(9), zipfile.ZIP_STORED
    if kind <= 2:
        entries[pickled] = change_bytes(random, entries[pickled])
    elif kind == 3:
        entries[pickled] = random.choice(list(wicked_pickles()))
    elif kind == 4:
        entries[name] = change_bytes(random, entries[name])
    elif kind == 5:
        del entries[name]
    elif kind == 6:
        entries[random.choice(("../../escaped", f"{ESCAPED}/x", "a/../b", name.upper(), "constants.pkl"))] = (
            entries.pop(name)
        )
    elif kind == 7:
        compression = zipfile.ZIP_DEFLATED
        entries[name] = bytes(random.choice((1_000, 10**6, 4 * 10**7)))
    else:
        entries[name] = b""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for each, content in entries.items():
            archive.writestr(zipfile.ZipInfo(each), content, compression)
    return file.getvalue()
