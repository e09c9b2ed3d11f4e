"""A video's .json says what it was made of, and makes it again to the byte."""

import json
import logging
import shutil

import numpy as np
import pytest
from adapter_inputs import EMBEDDING_DIM as DIM
from one_video_inputs import render
from written_identities import write_identity

from faceid.errors import DataError
from faceid.files.provenance import sha256_file
from faceid.media.video import read_video
from faceid.sampling.like import given_flags, read_sidecar, words_like
from faceid.sampling.one_video.sidecar import sidecar_of

pytestmark = pytest.mark.promise(
    "the same video again from its .json (--like): the same bytes, or a word on what changed",
    bar="all checks pass",
    proof="sampling",
)


@pytest.mark.slow
def test_the_sidecar_renders_the_same_bytes_and_flags_besides_win(flags, tmp_path, caplog):
    caplog.set_level(logging.INFO, "faceid")
    first, again, other = (tmp_path / f"{name}.mp4" for name in ("first", "again", "other"))
    assert render(*flags, "--output", str(first), "--seed", "7") == 0
    said = json.loads(sidecar_of(first).read_text())
    assert said["settings"]["seed"] == 7 and said["settings"]["scheduler"] == "euler"
    assert said["video"]["sha256"] == sha256_file(first) and len(said["inputs"]["identity"]) == 64
    assert render("--like", str(sidecar_of(first)), "--output", str(again)) == 0
    assert again.read_bytes() == first.read_bytes()
    assert "the same bytes as first.mp4" in caplog.text
    assert render("--like", str(sidecar_of(first)), "--output", str(other), "--seed", "8") == 0
    assert other.read_bytes() != first.read_bytes()
    assert "not the bytes of first.mp4" in caplog.text
    # What it was made like is of no weight: the new one stands for itself.
    assert read_sidecar(sidecar_of(other))["settings"]["seed"] == 8


@pytest.mark.parametrize("who", [["--identity", "bob:3,carl:1"], ["--identity_from", "bob", "--identity_to", "carl"]])
@pytest.mark.slow
def test_a_blend_and_a_face_that_changes_are_rendered_again(flags, tmp_path, caplog, who):
    caplog.set_level(logging.INFO, "faceid")
    write_identity(tmp_path / "carl", seed=3, size=DIM)
    at = flags.index("--face_embedding")
    words = [*flags[:at], *flags[at + 2 :], "--identities_dir", str(tmp_path), *who]
    assert render(*words, "--output", str(tmp_path / "mixed.mp4")) == 0
    assert render("--like", str(tmp_path / "mixed.json"), "--output", str(tmp_path / "again.mp4")) == 0
    assert "the same bytes as mixed.mp4" in caplog.text
    # Somebody else, given besides, takes the place of all of that.
    alone = ["--face_embedding", str(tmp_path / "bob"), "--output", str(tmp_path / "bob.mp4")]
    assert render("--like", str(tmp_path / "mixed.json"), *alone) == 0
    assert "bob.mp4: not the bytes of mixed.mp4" in caplog.text


def test_several_seeds_are_several_videos_with_a_sidecar_each(flags, tmp_path):
    assert render(*flags, "--output", str(tmp_path / "o.mp4"), "--seed", "[7, 8]") == 0
    videos = [tmp_path / f"o_seed{seed}.mp4" for seed in (7, 8)]
    assert [read_sidecar(sidecar_of(video))["settings"]["seed"] for video in videos] == [7, 8]
    assert not np.array_equal(*(read_video(video).frames for video in videos)) and not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize(("changed", "key"), [("pose.mp4", "pose_video"), ("bob", "face_embedding")])
@pytest.mark.slow
def test_what_changed_since_is_named_and_nothing_is_rendered(flags, tmp_path, changed, key):
    assert render(*flags, "--output", str(tmp_path / "o.mp4")) == 0
    if changed == "bob":
        shutil.rmtree(tmp_path / "bob")
        write_identity(tmp_path / "bob", seed=3, size=DIM)
    else:
        shutil.copy(tmp_path / "other_pose.mp4", tmp_path / changed)
    words = ["--like", str(tmp_path / "o.json"), "--output", str(tmp_path / "p.mp4")]
    with pytest.raises(DataError, match=f"{key}=.*{changed}: its content is not what that video was made of"):
        render(*words)
    assert not (tmp_path / "p.mp4").exists()
    # Another one, given by name, is meant.
    if changed == "pose.mp4":
        assert render(*words, "--pose_video", str(tmp_path / "other_pose.mp4")) == 0


def test_a_file_that_is_no_sidecar_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"like=.*x\.json: is not a video's \.json"):
        words_like(["--like", str(tmp_path / "x.json"), "--output", "o.mp4"])
    (tmp_path / "x.json").write_text('{"version": 9}')
    with pytest.raises(DataError, match="is of version 9"):
        words_like([f"--like={tmp_path / 'x.json'}"])
    assert words_like(["--output", "o.mp4"]) == ["--output", "o.mp4"]
    assert given_flags(["--seed", "3", "--fps=4", "x"]) == {"seed", "fps"}
