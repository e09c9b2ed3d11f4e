"""Sums of contents, and what says how a folder was made."""

from __future__ import annotations

import hashlib
import json

from faceid.files.provenance import sha256_file, sha256_json, write_provenance


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert sha256_json({"b": 1, "a": [2]}) == sha256_json({"a": [2], "b": 1}) != sha256_json({"a": [2], "b": 2})


def test_provenance_says_command_versions_and_inputs(tmp_path):
    write_provenance(tmp_path, {"shards": "abc"})
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["inputs"] == {"shards": "abc"}
    assert record["command"] and record["versions"]["torch"] and record["time"].endswith("Z")
