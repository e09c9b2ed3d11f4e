"""docs/extending.md: an encoder, a scheduler, a loss term and a metric are added as its recipes say, and work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from launching import QUIET, SMALL_ADAPTER
from planted_faults import copy_tree
from recipes import PAGE, recipes

from faceid.faces.identities.identity import load_identity
from faceid.training.measuring.metrics import read_metrics

# In one process, for imports are most of what it costs: every command in turn, each with its words.
USING = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, command
"""


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_changes_fewer_than_five_files_and_says_how_many(name):
    files = {edit.file for edit in recipes()[name]}
    assert len(files) < 5
    link = re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")
    assert re.search(rf"\]\(#{link}\) \| {len(files)} \|", PAGE.read_text())


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the repository in which every recipe was followed."""
    tree = tmp_path_factory.mktemp("followed") / "tree"
    copy_tree(tree)
    for edits in recipes().values():
        for edit in edits:
            edit.follow(tree)
    return tree


def run_in(tree, *words):
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.starts_process
def test_the_recipes_leave_lint_and_the_tests_of_lists_and_pages_green(tree):
    run_in(tree, "docs/list_files.py")
    run_in(tree, "-m", "ruff", "check", "faceid", "tests")
    run_in(tree, "-m", "ruff", "format", "--check", "faceid")
    files = [
        "tests/test_docs.py",
        "tests/models/rendering/test_denoise.py",
        "tests/evaluation/videos/test_recognisers.py",
    ]
    files += ["tests/training/checks/test_run_sections.py", "tests/test_house.py", "tests/test_sections.py"]
    chosen = "not slow and not starts_process"
    run_in(tree, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", chosen, *files)


@pytest.mark.slow
@pytest.mark.starts_process
def test_what_the_recipes_add_can_be_used(toy_inputs, tree, tmp_path):
    photos, pose = toy_inputs.dataset / "photos" / "target", next((toy_inputs.dataset / "poses").glob("*.mp4"))
    run = "--num_epochs 1 --batch_size 2 --lora_rank 2 --motion_weight 0.5 --best_metric head_sharpness_target".split()
    run += "--validate_every 1 --validation_steps 1 --validation_cfg_scale 1 --validation_people 0".split()
    commands = [
        [
            *("tools/prepare_face_embeddings.py", "--face_images_dir", photos, "--output_dir", tmp_path / "identity"),
            *"--identity_name anna --encoder tint".split(),
        ],
        [
            *("train.py", "--output_dir", tmp_path / "run", *toy_inputs.prepared_flags),
            *(*SMALL_ADAPTER, *QUIET, *run),
        ],
        [
            *("sample.py", "--face_lora_path", tmp_path / "run" / "face_lora_best.safetensors", "--pose_video", pose),
            *("--face_embedding", toy_inputs.identity, "--output", tmp_path / "video.mp4"),
            *"--scheduler dpm --num_inference_steps 2 --cfg_scale 1".split(),
        ],
    ]
    words = json.dumps([[str(word) for word in command] for command in commands])
    run_in(tree, "-c", USING, words)
    assert load_identity(tmp_path / "identity").encoder == "tint"
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    # Some steps are of photos alone, in which nothing moves.
    moves = [line for line in lines if line.get("train/motion_loss")]
    assert moves and all(line["train/loss"] > 0.5 * line["train/motion_loss"] > 0 for line in moves)
    assert any(line.get("validation/head_sharpness_target", 0) > 0 for line in lines)
    assert json.loads((tmp_path / "video.json").read_text())["settings"]["scheduler"] == "dpm"
