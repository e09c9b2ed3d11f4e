"""`make demo` at its small size: the whole chain by its own script, and what its judges say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from launching import REPOSITORY

pytestmark = pytest.mark.starts_process


def demo(out: Path, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", "launch/demo.sh", str(out), "3"]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.promise(
    "the demo at its small size shows the target and strangers, and the naive recipe does not",
    bar="every figure it ends with",
    proof="main",
)
@pytest.mark.proof_only("trains twice, for minutes", proof="main")
def test_the_demo_shows_the_target_and_strangers_where_the_naive_recipe_does_not(tmp_path, record_property):
    done = demo(tmp_path, SIZE="small")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    record_property("measured", json.dumps({k: v for k, v in summary.items() if k != "by_recogniser"}))
    assert summary["num_identities"] == 16 and summary["wall_s"] > 0
    assert summary["face_scale_zero_equals_base"] is True and summary["face_scale_spearman"] >= 0.9
    assert summary["identity_rank1_heldout_people"] >= 0.75 and summary["identity_auc_heldout_people"] >= 0.9
    # 16 renders: one more than four people wrong.
    assert summary["identity_rank1_heldout_poses"] >= 0.75
    assert summary["wrong_identity_follows_embedding"] >= 0.75 and summary["wrong_identity_nearest_is_target"] <= 0.1
    # A training of a minute's eighth: no more than that it goes the right way.
    assert summary["target_similarity_from_base"] > summary["target_similarity_zero_shot"]
    assert summary["target_rank1_from_base"] >= summary["naive_rank1_from_base"]
    assert 0.1 <= summary["encoder_eer"] <= 0.25
    assert summary["real_rank1"] >= 0.9
    assert summary["pose_error_ratio_to_base"] <= 1.2 and summary["pose_error_ratio_ours"] <= 1.3
    report = (tmp_path / "report.html").read_text()
    assert "shipped with the package" in report.lower() and "naive" in report and "data:image" in report


def shell(words: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", "-c", words], cwd=folder, capture_output=True, text=True, check=True)


@pytest.mark.fault("L1")
def test_what_somebody_edited_in_the_demos_folder_is_kept_and_said(tmp_path):
    """The last step copied its report over an edited one."""
    script = (REPOSITORY / "launch" / "demo.sh").read_text()
    functions = script[script.index("put() {") : script.index("# What an earlier version")]
    put = f"set -euo pipefail; out=.\n{functions}\nput report.html new.html"
    new = tmp_path / "new.html"
    for content in ("one", "two"):
        new.write_text(content)
        assert shell(put, tmp_path).stderr == "" and (tmp_path / "report.html").read_text() == content
    (tmp_path / "report.html").write_text("mine")
    said = shell(put, tmp_path).stderr
    assert (tmp_path / "report.html").read_text() == "mine" and "report.html" in said and "new.html" in said
    shell(f"{functions.replace('local file', 'out=. file=')}\nmkdir from; echo a >from/a; put_all to from/*", tmp_path)
    assert (tmp_path / "to" / "a").read_text() == "a\n"
    # Nothing else in the script writes over a file that a person would open.
    kept = [line for line in script.splitlines() if line.lstrip().startswith(("cp ", "mv ", "rm "))]
    assert [line.strip() for line in kept] == ['rm "$new"', 'mv "$new" "$1"']


@pytest.mark.fault("L1")
def test_clean_removes_what_is_built_and_says_how_to_remove_the_rest(tmp_path):
    """It removed demo_out, with the adapter that was trained there."""
    (tmp_path / "Makefile").write_text((REPOSITORY / "Makefile").read_text())
    for name in ("demo_out/run/face_lora_final.safetensors", ".venv/mine", "build/x", ".ruff_cache/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    said = shell("make clean", tmp_path).stdout
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "demo_out", ".venv"}
    assert "rm -r demo_out" in said and "rm -r .venv" in said
    (tmp_path / ".venv" / ".made_by_setup").touch()
    shell("make clean", tmp_path)
    assert not (tmp_path / ".venv").exists() and (tmp_path / "demo_out").is_dir()


def test_an_unknown_size_is_refused(tmp_path):
    done = demo(tmp_path / "out", SIZE="tiny")
    assert done.returncode == 2 and done.stderr == "demo: SIZE=tiny: is neither full nor small; take one\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.fault("L1")
def test_a_folder_of_another_demo_is_left_as_it_is(tmp_path):
    """It was emptied, with all that somebody had put there."""
    (tmp_path / ".version").write_text("another\n")
    (tmp_path / "mine.mp4").write_text("mine")
    done = demo(tmp_path)
    assert done.returncode == 2 and "was made by another version of this demo; remove it" in done.stderr
    assert (tmp_path / "mine.mp4").read_text() == "mine"
