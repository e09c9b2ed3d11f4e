"""Checkpoints are published whole, damage is noticed and skipped with a reason, and two always remain."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from faceid.training import checkpoint
from faceid.training.checkpoint import CheckpointError, find_newest, read_tensors, save, verify
from faceid.training.sharded_state import ShardedState


@pytest.fixture
def trained():
    """A parameter that Adam has stepped three times, as accelerate would wrap it."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(3, 5))
    adam = torch.optim.AdamW([parameter], lr=0.1)
    for _ in range(3):
        parameter.grad = torch.randn(3, 5)
        adam.step()
    return ShardedState({"a.weight": parameter}, SimpleNamespace(optimizer=adam), "single")


def save_steps(folder, sharded, steps, keep=2):
    return [save(folder, sharded, {"step": step, "origin": {}}, keep, is_main=True) for step in steps]


def test_a_checkpoint_holds_trainables_and_both_moments_exactly(trained, tmp_path):
    path = save(tmp_path, trained, {"step": 3, "origin": {"base": "x"}}, keep=2, is_main=True)
    assert path.name == "step_00000003" and verify(path) == {"step": 3, "origin": {"base": "x"}}
    tensors, parameter = read_tensors(path), trained.parameters["a.weight"]
    assert torch.equal(tensors["trainables"]["a.weight"], parameter)
    for moment in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(tensors[moment]["a.weight"], trained.adam.state[parameter][moment])


def test_adam_goes_on_bit_for_bit_after_a_scatter(trained, tmp_path):
    tensors = read_tensors(save(tmp_path, trained, {"step": 3, "origin": {}}, keep=2, is_main=True))
    restored = nn.Parameter(torch.zeros(3, 5))
    adam = torch.optim.AdamW([restored], lr=0.1)
    ShardedState({"a.weight": restored}, SimpleNamespace(optimizer=adam), "single").scatter(tensors, step=3)
    for parameter, optimizer in ((trained.parameters["a.weight"], trained.adam), (restored, adam)):
        parameter.grad = torch.ones(3, 5)
        optimizer.step()
    assert torch.equal(restored, trained.parameters["a.weight"])


def test_the_newest_valid_checkpoint_is_found_and_the_skipped_one_named(trained, tmp_path, caplog):
    older, newer = save_steps(tmp_path, trained, [5, 10])
    assert find_newest(tmp_path) == newer
    damage(newer / "exp_avg.safetensors")
    faceid_propagates(caplog)
    assert find_newest(tmp_path) == older
    assert "step_00000010/exp_avg.safetensors" in caplog.text and "damaged" in caplog.text


@pytest.mark.parametrize("name", ["trainables.safetensors", "exp_avg_sq.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_every_damage_is_noticed(trained, tmp_path, name, how):
    path = save(tmp_path, trained, {"step": 3, "origin": {}}, keep=2, is_main=True)
    damage(path / name, how)
    with pytest.raises(CheckpointError) as error:
        find_newest(tmp_path)
    assert "none of 1" in str(error.value)


def test_no_folder_at_all_is_a_fresh_start(tmp_path):
    assert find_newest(tmp_path / "checkpoints") is None


def test_only_the_newest_are_kept_and_never_fewer_than_two(trained, tmp_path):
    save_steps(tmp_path, trained, range(1, 6), keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000004", "step_00000005"]


def test_a_damaged_checkpoint_does_not_count_as_one_of_the_two(trained, tmp_path):
    first, second = save_steps(tmp_path, trained, [1, 2])
    damage(second / "state.json")
    save_steps(tmp_path, trained, [3])
    assert first.exists()
    assert find_newest(tmp_path).name == "step_00000003"


def test_a_save_that_fails_leaves_the_older_ones_and_no_rubbish(trained, tmp_path, monkeypatch):
    save_steps(tmp_path, trained, [1])

    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_steps(tmp_path, trained, [2])
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert find_newest(tmp_path).name == "step_00000001"


def test_what_a_killed_save_left_is_never_taken_and_swept_by_the_next(trained, tmp_path):
    torn = tmp_path / ".tmp_step_00000009_dead"
    torn.mkdir()
    (torn / "trainables.safetensors").write_bytes(b"half")
    assert find_newest(tmp_path) is None
    save_steps(tmp_path, trained, [1])
    assert not torn.exists()


def test_an_empty_tensor_is_never_written(tmp_path):
    empty = nn.Parameter(torch.zeros(0, 4))
    adam = torch.optim.AdamW([empty], lr=0.1)
    adam.state[empty] = {"exp_avg": torch.zeros(0, 4), "exp_avg_sq": torch.zeros(0, 4)}
    sharded = ShardedState({"a.weight": empty}, SimpleNamespace(optimizer=adam), "single")
    with pytest.raises(CheckpointError, match="was not gathered"):
        save_steps(tmp_path, sharded, [1])
    assert list(tmp_path.iterdir()) == []


def damage(path, how="flip"):
    data = bytearray(path.read_bytes())
    if how == "flip":
        # In the middle of a manifest a flip may keep its meaning; in its first byte it cannot.
        data[0 if path.suffix == ".json" else len(data) // 2] ^= 0x40
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()


def faceid_propagates(caplog):
    import logging

    logging.getLogger("faceid").propagate = True
    caplog.set_level(logging.WARNING, logger="faceid")


def test_state_is_json_and_the_rest_tensors_only(trained, tmp_path):
    path = save(tmp_path, trained, {"step": 3, "origin": {}}, keep=2, is_main=True)
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((path / "MANIFEST.json").read_text())["version"] == 1
