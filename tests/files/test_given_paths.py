"""What is at a given path is said as it is (a folder, a pipe, no permission); never is it said not to be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from calling import call, refused
from launching import REPOSITORY
from permissions import obeyed_permissions
from safetensors.torch import save_file

from faceid.errors import FaceidError
from faceid.files.given_paths import why_no_file, why_no_folder
from faceid.models.adapter.adapter_file import read_adapter
from faceid.models.base.weights import WeightsFile
from faceid.models.lora.lora_formats import read_lora

KINDS = {
    "folder": "is a folder; name a file",
    "pipe": "a pipe or a device, not a file; write what it gives into a file",
    "device": "a pipe or a device, not a file",
    "absent": "no such file",
    "link": "no such file, only a link to what is not there",
}


@pytest.fixture
def places(tmp_path) -> dict[str, Path]:
    """One of each."""
    found = {kind: tmp_path / f"{kind}.safetensors" for kind in KINDS}
    found["folder"].mkdir()
    os.mkfifo(found["pipe"])
    found["device"].symlink_to("/dev/zero")
    found["link"].symlink_to(tmp_path / "gone")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_of_weights_says_what_is_there(places, kind):
    for reader in (WeightsFile.open, read_adapter, read_lora):
        with pytest.raises(Exception, match=rf"{kind}\.safetensors: {KINDS[kind]}"):
            reader(places[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_commands_say_what_is_there(places, kind, tmp_path):
    out = ("--output", tmp_path / "x.safetensors", "--lora_format", "kohya")
    refused(call("tools/export_lora.py", "--lora", places[kind], *out), f"lora={places[kind]}: {KINDS[kind]}")
    if kind != "folder":  # which may be one of the hub
        words = ("--face_lora_path", places[kind], *out)
        refused(call("tools/export_lora.py", *words), f"face_lora_path={places[kind]}: {KINDS[kind]}")
    refused(call("tools/export_lora.py", "--config", places[kind]), f"--config {places[kind]}: {KINDS[kind]}")


def test_a_folder_that_is_none_is_said_to_be_a_file(places, tmp_path):
    assert why_no_folder(tmp_path) is None
    assert why_no_folder(places["absent"]) == "no such folder"
    assert why_no_folder(places["pipe"]) == "a pipe or a device, not a folder"
    assert why_no_folder(Path(__file__)) == "is no folder but a file"
    words = ("--model_path", __file__, "--output_dir", tmp_path / "x")
    refused(call("tools/convert_model.py", *words), f"model_path={__file__}: is no folder but a file")


def test_what_may_not_be_read_is_said_to_be_there_and_whose_it_is(tmp_path):
    file, folder = tmp_path / "a.safetensors", tmp_path / "closed"
    folder.mkdir()
    for each in (file, folder / "b.safetensors"):
        each.write_bytes(b"x")
    file.chmod(0)
    folder.chmod(0)
    with obeyed_permissions():
        of_file, inside = why_no_file(file), why_no_file(folder / "b.safetensors")
        of_folder = why_no_folder(folder)
    folder.chmod(0o700)
    assert all(words.endswith("mode 0000; ask its owner to open it, or give another") for words in (of_file, of_folder))
    assert of_file.startswith("Permission denied: it is ") and inside.startswith(f"Permission denied: {folder} is ")


def test_an_adapter_without_permission_is_refused_as_such(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path)
    path.chmod(0)
    for reader in (WeightsFile.open, read_adapter, read_lora):
        with obeyed_permissions(), pytest.raises(FaceidError, match="Permission denied: it is "):
            reader(path)


@pytest.mark.parametrize("words", [("--lora", ""), ("--lora=",), ("--lora", " ")])
def test_an_empty_path_is_said_to_be_empty(words, tmp_path):
    out = ("--output", tmp_path / "x.safetensors", "--lora_format", "kohya")
    refused(call("tools/export_lora.py", *words, *out), "lora: is empty; give a value, or leave out --lora")
    refused(call("train.py", "--model_path", "", "--output_dir", "x"), "model_path: is empty")
    (tmp_path / "c.yaml").write_text("lora: ''\n")
    refused(call("tools/export_lora.py", "--config", tmp_path / "c.yaml", *out), "c.yaml: lora: is empty")


def test_words_may_be_empty():
    """An empty prompt is a prompt."""
    words = ("--negative_prompt", "", "--prompt", "", "--model_path", "nowhere", "--pose_video", "x.mp4")
    assert "is empty" not in call("sample.py", *words).error


def test_a_folder_that_peft_saved_is_read(tmp_path):
    pair = {"base_model.model.blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 8)}
    pair["base_model.model.blocks.0.attn1.to_q.lora_B.weight"] = torch.ones(8, 2)
    save_file(pair, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 6}')
    assert read_lora(tmp_path)["blocks.0.attn1.to_q"].scale == 3
    out = ("--output", tmp_path / "out" / "x.safetensors", "--lora_format", "kohya")
    assert call("tools/export_lora.py", "--lora", tmp_path, *out).code == 0
    (tmp_path / "adapter_model.safetensors").unlink()
    words = ("--lora", tmp_path, *out[2:], "--output", tmp_path / "y.safetensors")
    refused(call("tools/export_lora.py", *words), "is a folder; name a file, such as its adapter_model.safetensors")


def test_toy_is_a_base_wherever_one_is_named(tmp_path):
    assert call("tools/convert_model.py", "--model_path", "toy", "--output_dir", tmp_path / "x", "--dry_run").code == 0
    words = ("--high", "toy", "--low", "toy", "--model_path", "toy", "--output", tmp_path / "x.safetensors")
    said = call("tools/join_experts.py", *words).error
    assert "no such folder" not in said


def test_a_single_file_s_ending_says_what_is_written(tmp_path):
    words = ("--high", "a", "--low", "b", "--model_path", "toy", "--output", tmp_path / "x.txt")
    refused(call("tools/join_experts.py", *words), "x.txt: must end with .safetensors or .pth")
    merged = ("--summaries", f"[{tmp_path}/a.json]", "--output", tmp_path / "a.txt")
    refused(call("tools/merge_summaries.py", *merged), "a.txt: JSON is written; name a .json file")


def test_a_person_who_is_not_there_is_said_in_words(toy_inputs, tmp_path):
    pose = next((toy_inputs.dataset / "poses").glob("*.mp4"))
    words = ("--face_lora_path", "toy", "--identity", "nobody", "--pose_video", pose, "--output", tmp_path / "x.mp4")
    refused(call("sample.py", *words), "identity=nobody: no such path; name its folder by --identities_dir")


@pytest.mark.starts_process
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("tools/evaluate.py", "--renders [ours=a] --references_dir b --recognisers [toy_readout]"),
        ("tools/verify_encoder.py", "--faces_dir b"),
    ],
)
def test_a_wrong_output_is_refused_before_anything_heavy_is_imported(command, words, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", command, *words.split(), "--output_dir", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "holds thesis.txt, not as this command wrote it" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "faceid.files.outputs" in imported and not imported & {"torch", "transformers", "cv2", "matplotlib"}
