"""The command: one line and exit code 2 for a user's error, an identity folder otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from calling import command_module
from launching import run_command

from faceid.errors import ConfigError, DataError, ModelError, OutputError
from faceid.faces.identities import photos_to_identity
from faceid.faces.identities.identity import load_identity

TOOL = Path(__file__).resolve().parents[2] / "tools" / "prepare_face_embeddings.py"


@pytest.fixture
def tool():
    return command_module("tools/prepare_face_embeddings.py")


def arguments(photos, output, *more):
    return ["--face_images_dir", str(photos), "--output_dir", str(output), *more]


def test_it_makes_an_identity_named_after_the_folder(tool, photos, tmp_path, tiny_clip_folder):
    more = ("--encoder_path", str(tiny_clip_folder), "--detector", "none", "--aggregation", "median")
    assert tool.main(arguments(photos, tmp_path / "out", *more)) == 0
    assert load_identity(tmp_path / "out").name == "photos"


def test_the_toy_encoder_is_known_by_name(tool, photos, tmp_path):
    more = ("--encoder_path", "toy", "--detector", "none", "--identity_name", "ann")
    assert tool.main(arguments(photos, tmp_path / "out", *more)) == 0
    assert load_identity(tmp_path / "out").name == "ann"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        (("--agregation", "mean"), ConfigError, "did you mean --aggregation"),
        (("--face_margin", "-1"), ConfigError, "face_margin"),
        (("--identity_name", " "), ConfigError, "identity_name"),
        (("--encoder", "onnx"), ModelError, "encoder_path"),
        (("--encoder_path", "/absent"), ModelError, "/absent"),
    ],
)
def test_a_wrong_flag_is_refused_by_name(tool, photos, tmp_path, more, error, words):
    with pytest.raises(error, match=words):
        tool.main(arguments(photos, tmp_path / "out", *more))


@pytest.mark.starts_process
def test_a_user_error_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "empty").mkdir()
    command = [sys.executable, str(TOOL), *arguments(tmp_path / "empty", tmp_path / "out")]
    run = run_command(command, expect=2)
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1 and "no photos" in run.stderr


def test_photos_are_counted_before_the_encoder_is_looked_for(tool, photos, tmp_path):
    for index in range(6):
        (photos / f"p{index}.png").unlink()
    with pytest.raises(DataError, match="2 photos"):
        tool.main(arguments(photos, tmp_path / "out", "--encoder_path", "/absent"))


def test_a_link_to_a_folder_that_is_not_there_is_not_followed(tool, photos, tmp_path, monkeypatch):
    """A disk that is not mounted, most often. Before the encoder is looked for, which takes seconds."""
    monkeypatch.setattr(photos_to_identity, "encoder_of", lambda _: pytest.fail("the encoder is loaded"))
    (tmp_path / "out").symlink_to(tmp_path / "not_mounted")
    with pytest.raises(OutputError, match=r"out: is a link to .*not_mounted, which is not there"):
        tool.main(arguments(photos, tmp_path / "out", "--detector", "none"))
    assert not (tmp_path / "not_mounted").exists()
