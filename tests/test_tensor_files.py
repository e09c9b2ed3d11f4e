"""Files of torch.save: tensors and plain types are read; nothing is run, and nothing made larger than it is."""

from __future__ import annotations

import ast
import collections
import os
import zipfile

import pytest
import torch
from launching import REPOSITORY

from faceid.tensor_files import TensorFileError, load_plain, save_plain

pytestmark = pytest.mark.fault("W5")


@pytest.mark.parametrize(
    "content",
    [
        torch.ones(4),
        torch.ones(3, 2, dtype=torch.bfloat16)[::2],
        {"a": [1, (2.5, None), True, "x", b"y"], "t": torch.ones(2)},
        collections.OrderedDict(a=torch.nn.Parameter(torch.ones(2))),
        torch.ones(2, dtype=torch.float8_e4m3fn),
    ],
)
def test_tensors_and_plain_types_come_back(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    assert str(load_plain(tmp_path / "x.pt")) == str(content)


@pytest.mark.starts_process
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.ones(1).expand(10**12), "of more numbers than are stored"),
        ({"a": [torch.ones(1).expand(10**6, 10**6)]}, "of more numbers than are stored"),
        ({"a": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor; only tensors and plain types"),
        ({"a": bytearray(b"abc")}, "bytearray; only tensors and plain types"),
        (os.system, "system; only tensors and plain types"),
    ],
)
def test_what_asks_for_more_than_is_there_is_refused(tmp_path, content, reason):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(TensorFileError, match=reason):
        load_plain(tmp_path / "x.pt")


def test_packed_entries_are_refused_unread(tmp_path):
    torch.save(torch.ones(4), tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, bytes(10**7) if name.endswith("data/0") else data)
    assert (tmp_path / "bomb.pt").stat().st_size < 10**5
    with pytest.raises(TensorFileError, match="its entries are packed"):
        load_plain(tmp_path / "bomb.pt")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"not a zip at all" * 100])
def test_what_is_no_file_of_torch_is_refused(tmp_path, data):
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(TensorFileError, match=r"not a file of torch\.save"):
        load_plain(tmp_path / "x.pt")


def test_equal_content_is_equal_bytes_whatever_the_file_is_called(tmp_path):
    content = {"tensors": {"a": torch.ones(3), "b": torch.zeros(2, 2)}, "metadata": {"x": [1, "y"], "z": None}}
    for name in (".faceid-0a1b2c3d-77-5-aaaaaa.tmp.pth", "face_lora_final.pth"):
        save_plain(tmp_path / name, content)
    first, second = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first == second and b"faceid-" not in first
    assert str(load_plain(tmp_path / "face_lora_final.pth")) == str(content)


def test_nothing_else_calls_torch_save():
    """Which writes the name it is given into the file."""
    calls = {
        str(path.relative_to(REPOSITORY))
        for folder in ("faceid", "tools")
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.save"
    }
    assert calls == {"faceid/tensor_files.py"}
