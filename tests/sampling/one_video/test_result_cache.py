"""Tensors kept by what they were made of: found again, never another's, within bounds, and never in the way."""

import logging
import os

import pytest
import torch
from safetensors.torch import save_file

from faceid.errors import DataError
from faceid.models.base.prompts import encode_prompts
from faceid.models.base.wan import load_wan
from faceid.sampling.one_video import prompt_encoder as module
from faceid.sampling.one_video.prompt_encoder import PromptEncoder
from faceid.sampling.one_video.result_cache import ResultCache
from faceid.toy.shipped import resolve_model_path

pytestmark = pytest.mark.promise(
    "a batch of renders, its cache, and a file that somebody sent",
    bar="deletes its own entries alone; no place to write is taken from a file",
    proof="nothing_lost",
)

MB = 10**6


@pytest.fixture
def cache(tmp_path):
    cache = ResultCache(tmp_path / "cache", 10 * MB, {"base": "a"})
    cache.claim()
    return cache


def entries(cache):
    return sorted(path for path in cache.folder.iterdir() if path.suffix == ".safetensors")


def test_what_was_made_of_the_same_is_found_and_nothing_else(cache, tmp_path):
    made = torch.randn(3, 4)
    assert cache.get("text", {"text": "x"}) is None and cache.put("text", {"text": "x"}, made)
    assert torch.equal(cache.get("text", {"text": "x"}), made)
    for kind, made_of in (("text", {"text": "y"}), ("control", {"text": "x"})):
        assert cache.get(kind, made_of) is None
    assert ResultCache(tmp_path / "cache", 10 * MB, {"base": "b"}).get("text", {"text": "x"}) is None


def test_what_was_used_longest_ago_goes_first(cache):
    # 4 MB each.
    for number in range(2):
        cache.put("control", {"pose": number}, torch.full((MB,), float(number)))
        for path in entries(cache):
            os.utime(path, ns=(number, number))
    assert cache.get("control", {"pose": 0}) is not None
    cache.put("control", {"pose": 2}, torch.full((MB,), 2.0))
    assert [number for number in range(3) if cache.get("control", {"pose": number}) is not None] == [0, 2]
    assert sum(path.stat().st_size for path in entries(cache)) <= 10 * MB


def test_one_that_is_larger_than_the_bound_is_kept_alone(tmp_path):
    cache = ResultCache(tmp_path, 1000, {})
    cache.claim()
    for number in range(2):
        cache.put("control", {"pose": number}, torch.zeros(MB))
    assert cache.get("control", {"pose": 1}) is not None and len(entries(cache)) == 1


def write_adapter_file(path):
    path.parent.mkdir(exist_ok=True)
    save_file({"tensor": torch.zeros(MB)}, path, {"faceid": "{}"})
    return path.read_bytes()


@pytest.mark.fault("L5")
def test_a_folder_that_holds_anything_else_is_no_cache(tmp_path):
    mine = write_adapter_file(tmp_path / "models" / "face_lora.safetensors")
    with pytest.raises(DataError, match=r"cache_dir=.*models: holds face_lora.safetensors, not written by this"):
        ResultCache(tmp_path / "models", 1000, {}).claim()
    # Nor may what has been kept elsewhere go there by a way around.
    ResultCache(tmp_path / "models", 1000, {}).put("text", {}, torch.zeros(MB))
    assert (tmp_path / "models" / "face_lora.safetensors").read_bytes() == mine


@pytest.mark.fault("L5")
def test_what_came_into_a_cache_later_is_never_removed(cache):
    """By its name, or by what it says inside: both must be an entry's."""
    names = ("face_lora_final.safetensors", f"text_{'0' * 32}.safetensors", f"control_{'1' * 32}.safetensors.bak")
    mine = {name: write_adapter_file(cache.folder / name) for name in names}
    # And an entry that somebody has kept under another name.
    cache.put("text", {}, torch.ones(MB))
    (kept,) = (path for path in entries(cache) if path.name not in names)
    kept.rename(cache.folder / "kept.safetensors")
    mine["kept.safetensors"] = (cache.folder / "kept.safetensors").read_bytes()
    small = ResultCache(cache.folder, 1000, {})
    for number in range(3):
        small.put("control", {"pose": number}, torch.zeros(MB))
    small.remove()
    found = {name: (cache.folder / name).read_bytes() for name in mine if (cache.folder / name).exists()}
    assert found.keys() == mine.keys() and found == mine
    assert sorted(path.name for path in cache.folder.iterdir() if path.name != ".faceid") == sorted(mine)


def test_a_cache_is_gone_once_it_is_removed(cache):
    for kind in ("text", "pose_frames"):
        cache.put(kind, {}, torch.zeros(2))
    cache.remove()
    assert not cache.folder.exists()


def test_a_damaged_file_or_a_folder_that_cannot_be_is_said_and_does_no_harm(cache, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "faceid")
    cache.put("text", {"text": "x"}, torch.ones(2))
    (path,) = entries(cache)
    path.write_bytes(path.read_bytes()[:20])
    assert cache.get("text", {"text": "x"}) is None and cache.put("text", {"text": "x"}, torch.ones(2))
    assert "cannot be read" in caplog.text and torch.equal(cache.get("text", {"text": "x"}), torch.ones(2))
    (tmp_path / "file").touch()
    nowhere = ResultCache(tmp_path / "file" / "cache", MB, {})
    assert not nowhere.put("text", {}, torch.ones(2)) and "cannot be kept" in caplog.text


def test_texts_are_the_pipelines_and_the_encoder_is_loaded_once_for_new_ones(cache, monkeypatch):
    base, loaded = resolve_model_path("toy"), []
    monkeypatch.setattr(module, "load_wan", lambda *given: loaded.append(1) or load_wan(*given))
    texts = PromptEncoder(base, torch.device("cpu"), torch.float32, cache)
    texts.prepare(["a dance", "", "a dance"])
    wan = load_wan(base, ("text",))
    for text, expected in encode_prompts(wan.tokenizer, wan.text_encoder, ["a dance", ""]).items():
        assert torch.equal(texts.of(text)[0], expected)
    assert len(loaded) == 1
    # Another process finds what this one has made.
    other = PromptEncoder(base, torch.device("cpu"), torch.float32, cache)
    assert torch.equal(other.of("a dance", "")[1], texts.of("")[0]) and len(loaded) == 1
    other.of("a jump")
    assert len(loaded) == 2


def test_memory_holds_none_of_those_that_the_disk_has_and_all_others(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_wan", lambda *given: pytest.fail("loaded again"))
    base = resolve_model_path("toy")
    for number in range(5):
        cache.put(module.KIND, {"text": str(number)}, torch.full((2,), float(number)))
    texts = PromptEncoder(base, torch.device("cpu"), torch.float32, cache)
    texts.prepare([str(number) for number in range(5)])
    for number in (*range(5), 0):
        assert texts.of(str(number))[0][0] == number
        assert [one[0] for one in texts.of("0", str(number))] == [0, number]
    assert len(texts._known) == 0
    monkeypatch.undo()
    (tmp_path / "file").touch()
    nowhere = PromptEncoder(base, torch.device("cpu"), torch.float32, ResultCache(tmp_path / "file" / "cache", MB, {}))
    for text in (nowhere, PromptEncoder(base, torch.device("cpu"), torch.float32)):
        text.prepare(["a dance"])
        with monkeypatch.context() as patch:
            patch.setattr(module, "load_wan", lambda *given: pytest.fail("loaded again"))
            assert text.of("a dance")[0].dim() == 2
