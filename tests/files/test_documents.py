"""JSON, YAML and CSV that anybody may have written: read as what they say, or refused in one line."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from faceid.errors import DataError
from faceid.files.documents import DocumentError, fitted, parse_json, read_csv, read_json, read_json_lines, read_yaml

pytestmark = pytest.mark.fault("W5")

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_what_is_json_is_read_as_it_is(tmp_path, mark, end):
    content = {"a": [1, -2.5e3, None, True, "é\u2028", {"b": 2**64 - 1, "c": -(2**63)}], "\\u0000": "\\ud800"}
    (tmp_path / "x.json").write_bytes(mark + json.dumps(content, indent=1).encode().replace(b"\n", end))
    assert read_json(tmp_path / "x.json") == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than 64 deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "nested more than 64 deep"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "the key 'c' is there twice"),
        ("[1]", "holds a list, not an object"),
        ("null", "holds null, not an object"),
        ("3", "holds a number, not an object"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "1e999 is no number"),
        (f'{{"a": {"9" * 400}}}', "a whole number of more than 64 bits"),
        (f'{{"a": {2**64}}}', "a whole number of more than 64 bits"),
        ('{"a": ["\\u0000"]}', "holds a NUL"),
        ('{"\\u0000": 1}', "holds a NUL"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"a": 1', "not JSON in UTF-8"),
        ("", "not JSON in UTF-8"),
        (b'{"a": "\xe9"}', "not JSON in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not JSON in UTF-8"),
    ],
)
def test_what_no_reader_can_use_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=reason) as error:
        read_json(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_file_that_is_too_large_missing_or_a_folder_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}' + " " * 100)
    with pytest.raises(DocumentError, match=r"x\.json: over 50 bytes"):
        read_json(tmp_path / "x.json", largest_bytes=50)
    with pytest.raises(DocumentError, match=r"none\.json: cannot be read: No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DocumentError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


def test_nan_is_read_where_it_is_asked_for():
    assert str(parse_json('{"a": [NaN, 1e999, -Infinity]}', nan=True)) == "{'a': [nan, inf, -inf]}"


def test_lines_are_read_one_by_one_and_a_bad_one_says_why(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes('{"a": "\u2028"}\r\n\n[1]\n{"b": 2}\n{"c"'.encode())
    read = dict(read_json_lines(path))
    assert read[1] == {"a": "\u2028"} and read[4] == {"b": 2}
    assert str(read[3]) == f"{path}, line 3: holds a list, not an object"
    assert isinstance(read[5], DocumentError) and set(read) == {1, 3, 4, 5}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "over 20000 values, with what its aliases stand for"),
        ("a: &a [*a]", "in itself"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is there twice"),
        ("a: {b: 1, b: 2}", "the key 'b' is there twice"),
        ("a: " + "[" * 1000 + "]" * 1000, "nested more than 64 deep"),
        ("a: " + "[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("? [a]\n: 1", "a key that is no plain word"),
        ("a: .nan", "nan is no number"),
        ("a: .inf", "inf is no number"),
        ("a: " + "9" * 400, "more than 64 bits"),
        ("a: " + "9" * 5000, "not YAML"),
        ('a: "x\\0y"', "holds a NUL"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML: line 1, column 4"),
        ("a: 2001-13-45", "not YAML"),
        ("a: !!bool x", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("a: 0b_", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML: line 2"),
        ("a: [1", "not YAML: line 1"),
        (b"a: \xff", "not YAML"),
        ("a: " + "x" * 70_000, "over 65536 bytes"),
    ],
)
def test_yaml_that_no_reader_can_use_is_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=reason) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_yaml_with_aliases_a_mark_and_a_carriage_return_is_read(tmp_path):
    (tmp_path / "x.yaml").write_bytes("\ufeffa: &a [1, 2]\r\nb: *a\r\nc: {<<: {d: 1}, d: 2}\r\n".encode())
    assert read_yaml(tmp_path / "x.yaml") == {"a": [1, 2], "b": [1, 2], "c": {"d": 2}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('a,b\n1,"2\n3,4\n', "cannot be read as a CSV file"),
        ("a,b\n1,2,3\n", "line 2: more cells than the first line has names"),
        ("a,a\n1,2\n", "line 1: 'a' is there twice"),
        ("a,b\n1,\0\n", "holds a NUL"),
        (b"a,b\n\xff,1\n", "cannot be read as a CSV file in UTF-8"),
        ("a,b\n1," + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path, text, reason):
    (tmp_path / "x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DocumentError, match=reason):
        read_csv(tmp_path / "x.csv")


def test_a_cell_may_hold_line_breaks_and_every_row_knows_its_line(tmp_path):
    (tmp_path / "x.csv").write_bytes('\ufeffa, b\r\n"1\n2",3\r\n\r\n4\r\n\u2028,5\r\n'.encode())
    assert read_csv(tmp_path / "x.csv") == [
        (3, {"a": "1\n2", "b": "3"}),
        (5, {"a": "4"}),
        (6, {"a": "\u2028", "b": "5"}),
    ]


def test_a_value_of_another_kind_names_its_place():
    @dataclass(frozen=True)
    class Size:
        height: int
        sides: list[int]

    assert fitted(Size, {"height": 3, "sides": [1], "more": 0}) == Size(3, [1])
    with pytest.raises(DocumentError, match=r"^sides\.1: "):
        fitted(Size, {"height": 3, "sides": [1, "a"]})
