"""An adapter as a folder for the hub: what is in it, how it is found again, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_inputs import write_adapter
from huggingface_hub import constants

from faceid.errors import ModelError
from faceid.models.adapter import adapter_folder
from faceid.models.adapter.adapter_file import read_adapter
from faceid.models.adapter.adapter_folder import find_adapter, write_adapter_folder
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.toy.shipped import resolve_model_path

pytestmark = pytest.mark.promise(
    "the adapter as a hub folder with a model card; the tools as typed", bar="all checks pass", proof="model"
)

SETTINGS = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, lora_alpha=2.0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "face_lora_final.safetensors", SETTINGS)


@pytest.fixture
def folder(adapter, tmp_path) -> Path:
    write_adapter_folder(adapter, tmp_path / "anna", "Anna dances")
    return tmp_path / "anna"


def test_the_folder_is_the_adapter_and_says_what_it_is(adapter, folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        ".faceid",
        "README.md",
        "adapter_config.json",
        "face_adapter.safetensors",
    ]
    (tensors, metadata), (given, its) = read_adapter(find_adapter(folder)), read_adapter(adapter)
    assert metadata == its and tensors.keys() == given.keys()
    assert all(torch.equal(tensors[name], given[name]) for name in given)
    card = (folder / "README.md").read_text()
    for said in ("# Anna dances", "base_model: toy", "rank 4, alpha 2", "biometric", "license: other", "48 x 32"):
        assert said in card, said
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_fingerprint"] == its.base_fingerprint and config["settings"]["lora_rank"] == 4


def test_a_pipeline_takes_the_folder(adapter, folder):
    pipelines = [FaceIdentityPipeline.from_pretrained(resolve_model_path("toy"), path) for path in (folder, adapter)]
    mine, theirs = (pipeline.adapter.parameters() for pipeline in pipelines)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_hub_id_is_looked_for_in_the_cache_alone(folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--someone--anna" / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(folder)
    (tmp_path / "hub" / "models--someone--anna" / "refs").mkdir()
    (tmp_path / "hub" / "models--someone--anna" / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        adapter_folder, "snapshot_download", _with_cache(adapter_folder.snapshot_download, tmp_path / "hub")
    )
    assert read_adapter(find_adapter("someone/anna"))[1] == read_adapter(folder / "face_adapter.safetensors")[1]
    with pytest.raises(ModelError, match=r"face_lora_path=someone/berta: .*hf download someone/berta"):
        find_adapter("someone/berta")


def _with_cache(download, cache):
    # Its default was read when it was imported.
    return lambda name, **given: download(name, cache_dir=str(cache), **given)


def test_a_folder_that_is_none_is_said(folder, tmp_path):
    with pytest.raises(ModelError, match=r"no adapter_config\.json that can be read"):
        find_adapter(tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ModelError, match="is of 'LORA', not of a faceid face adapter"):
        find_adapter(folder, "init_adapter")
    # A config may not lead out of its folder.
    (folder / "adapter_config.json").write_text(json.dumps({**config, "weights": "../../etc/face_adapter.safetensors"}))
    with pytest.raises(ModelError, match=r"weights='\.\./\.\./etc/.*must be the name of a file in this folder"):
        find_adapter(folder)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert find_adapter(folder) == folder / "face_adapter.safetensors"
    (folder / "face_adapter.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no face_adapter\.safetensors in it; download it again"):
        find_adapter(folder)
