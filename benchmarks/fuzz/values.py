"""What the fuzz puts into files where something else was: values of every kind, and small files that ask for much."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

# Where a path from a file would lead that is obeyed: it must not exist, and must not come to.
ESCAPED = "/tmp/faceid_fuzz_escaped"
TOKENS = [
    *(b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n\n", b"\x80", b"\xf0\x9f\x92\x83", b"\xe2\x80\xa8"),
    *(b"../../escaped", ESCAPED.encode() + b"/x", b"nan", b"inf", b"-1", b"9" * 30, b"1e999", b"null", b'"', b"{"),
    b"[",
    *(b"[" * 3000, b"{" * 300, b"\x00" * 4096, b"\xff" * 300, b"'", b"\\", b"\\u0000", b"&a *a", b"<<: *a", b"---\n"),
]


class Raw(str):
    """Text that goes into JSON as it is."""


JSON_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 255, 65_536, 2**31, 2**32, 2**62, 2**63, 2**64, -(2**63) - 1, 10**9, 10**12),
    *(0.5, -0.0, 1e-300, 1e30, 1e308, [], {}, "", " ", "a", "12", "nan", "-inf", "1e400", "true", "None", "é", "😀"),
    *("../../escaped", f"{ESCAPED}/x", "/", ".", "..", "a/b", "~", "-", "a\nb", "\x1b[31mred", "\u2028", "\u202e"),
    "x" * 300,
    *("y" * 100_000, [None], [[]], [1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5], ["a"], {"a": 1}, {"": {}}, [{}]),
    list(range(500)),
    *(Raw("NaN"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 400), Raw("1" * 5000), Raw('"\\u0000"'), Raw('"\\ud800"')),
    *(Raw('{"a": 1, "a": 2}'), Raw("[" * 50_000 + "]" * 50_000), Raw('{"a":' * 400 + "1" + "}" * 400)),
    *(Raw("[" * 90 + "]" * 90), Raw("+1"), Raw("01"), Raw(".5"), Raw("'a'"), Raw("undefined"), Raw("[1,]"), Raw("")),
]


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


PICKLED_VALUES: list[Any] = [
    *(None, True, 0, -1, 2**31, 2**63, 2**70, 1.5, float("nan"), float("inf"), "", "a", "../../escaped"),
    f"{ESCAPED}/x",
    *("a\0b", "\x1b[31m", "z" * 50_000, b"bytes", [], {}, (), [1, 2, 3], {"a": 1}, {1: 2}, (1, "a"), _nested(60)),
    _nested(200),
]


def tensor_values() -> list[Any]:
    """What stands in a file of tensors where another tensor was."""
    return [
        *(torch.zeros(0), torch.zeros(()), torch.ones(3), torch.ones(2, 2), torch.full((4,), float("nan"))),
        *(torch.full((4,), 0.5), torch.ones(1).expand(10**11), torch.ones(1).expand(10**5, 10**6)),
        torch.ones(4).long(),
        *(torch.ones(4, dtype=torch.complex64), torch.ones(2, dtype=torch.bool), torch.eye(2).to_sparse()),
        *(torch.ones(2, dtype=torch.float8_e4m3fn), torch.nn.Parameter(torch.ones(4) / 2), torch.full((4,), 1e38)),
    ]


def array_values() -> list[Any]:
    """What stands in a pickle of arrays where another array was."""
    return [
        *(np.zeros(0), np.ones((1, 0, 17, 3)), np.ones((0, 5, 17, 3)), np.ones((2, 5, 17, 2))),
        np.ones((2, 5, 17, 3), "U3"),
        *(np.ones((2, 5, 17, 3), complex), np.array([None, {}], object), np.ones((2, 5, 17, 3), ">f4")),
        *(np.full((2, 5, 17, 3), np.nan), np.ones((2, 5, 17, 3), bool), np.ones((2, 5, 133, 3)), np.float64(3)),
        *(np.ones((2, 5, 17, 3), np.float16), np.full((2, 5, 17, 3), 1e300), np.ones(3, [("a", "f4"), ("b", "i8")])),
        *([np.ones((5, 17, 3))] * 2, [np.ones((5, 17, 3)), np.ones((4, 17, 3))], np.ones((2, 5, 17, 3), "M8[s]")),
    ]


CELLS = [
    *("", " ", '"', '"open', '""', '"a\nb"', '"a""b"', "a,b", "a;b", "\0", "../../escaped", f"{ESCAPED}/x", "-1"),
    "1.9",
    *("true", "1_0", "9" * 40, "nan", "[1, 2]", "[1, ", "[" * 3000, '"[""a"", 1]"', "{}", "x" * 200_000, "\u2028"),
    "\x1b[31m",
    *("١٢", "é", "a" * 300, ".", "..", "/", "con", "a.mp4", "0", "1e9", "18446744073709551616"),
]


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_VALUES = [
    *("", "~", "yes", "-1", "0", "1e999", ".nan", "-.inf", "1" * 5000, "0b_", "0x", "1:60:60", "2001-13-45"),
    "2001-01-01",
    *("[]", "{}", "[1, 2]", "{a: 1}", "[" * 2000, "[" * 90 + "]" * 90, "{a: " * 90 + "}" * 90, "'open", '"open'),
    '"\\0"',
    *('"\\ud800"', '"\\U0010FFFF"', "*missing", "&a [*a]", "&a {a: *a}", "!!int x", "!!float x", "!!bool x"),
    "!!timestamp x",
    *("!!binary '%%'", "!!omap [1]", "!!set {a, b}", "!!null x", "!!str [1]", "!unknown x", "!!pairs [a]"),
    *("|\n  a\n  b", ">"),
    *("!!python/name:os.system", f"!!python/object/apply:os.system ['touch {ESCAPED}']", "? a", "- 1\n- 2", "a: b: c"),
    *("../../escaped", f"{ESCAPED}/x", "x" * 5000, "\t1", "@a", "`a", "%a", "a #b", "é", "😀", "\u2028", "null"),
    "1_000",
]
YAML_LINES = [
    *(_BOMB, "---\n", "...\n", "%YAML 9.9\n---\n", "<<: {a: 1}\n", "<<: *a\n", "? [a]\n: 1\n", "? {a: 1}\n"),
    *("- 1\n", "1: 2\n", "~: 1\n", "a\n", "\ta: 1\n", "  a: 1\n", ": 1\n", "[a]: 1\n", "'': 1\n", "# a\n"),
    *("\ufeff", "true: 1\n"),
]


def wicked_pickles() -> Iterator[bytes]:
    """Small pickles that ask for much, or for what must not be run."""
    for module, name, argument in (
        *(("os", "system", f"touch {ESCAPED}"), ("builtins", "eval", f"open('{ESCAPED}', 'w')")),
        ("builtins", "open", ESCAPED),
        *(("posix", "system", f"touch {ESCAPED}"), ("numpy", "load", ESCAPED), ("pathlib", "Path.touch", ESCAPED)),
        *(("builtins", "bytearray", 10**11), ("builtins", "range", 10**12), ("numpy", "ones", 10**10)),
        ("numpy", "empty", 10**11),
        *(("numpy", "ndarray", (10**10,)), ("numpy", "dtype", "V2000000000"), ("torch", "ones", 10**11)),
        ("builtins", "list", "ab"),
        *(("collections", "OrderedDict", 5), ("torch.storage", "UntypedStorage", 10**11)),
        ("torch", "FloatStorage", 10**10),
        *(("builtins", "getattr", "a"), ("torch._utils", "_rebuild_parameter", 5), ("torch", "Size", (10**12,))),
    ):
        value = pickle.dumps(argument, 2)[2:-1]
        yield b"\x80\x02c" + f"{module}\n{name}\n".encode() + value + b"\x85R."
        yield b"\x80\x04" + pickle.dumps(module, 4)[11:-1] + pickle.dumps(name, 4)[11:-1] + b"\x93" + value + b"\x85R."
    for core in ("core", "_core"):
        made = b"\x80\x02cnumpy.%s.multiarray\n_reconstruct\ncnumpy\nndarray\n" % core.encode()
        yield made + pickle.dumps((10**10,), 2)[2:-1] + b"U\x01b\x87R."
        yield b"\x80\x02cnumpy.%s.multiarray\nscalar\ncnumpy\ndtype\nU\x0bV2000000000\x85R\x85R." % core.encode()
    yield b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b"."
    yield b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a."
    yield b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a."
    yield b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    yield b"\x80\x02(" + b"N" * 1000 + b"d."
    yield b"L" + b"9" * 100_000 + b"L\n."
