"""Checkpoints are published whole, damage is noticed and skipped with a reason, and two always remain."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from launching import run_command
from torch import nn
from trained_parameter import EMA, step, wrapped

from faceid.errors import DataError
from faceid.files.writing import sweep
from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.checkpoint import (
    MANIFEST_FILE,
    STATE_FILE,
    CheckpointError,
    check_room,
    find_newest,
    name_of,
    pin,
    read_tensors,
    save,
    unpin,
    verify,
)
from faceid.training.checkpoints.sharded_state import TRAINABLES, average_decay


def save_steps(folder, sharded, steps, keep=2):
    return [save(folder, sharded.gather(), {"step": step, "origin": {}}, keep) for step in steps]


def test_a_copy_under_a_later_steps_name_is_not_taken_for_the_newest(trained, tmp_path, caplog):
    import logging

    logging.getLogger("faceid").propagate = True
    paths = save_steps(tmp_path, trained, [4, 6])
    copy = shutil.copytree(paths[0], tmp_path / "step_00000099")
    assert find_newest(tmp_path) == paths[1] and "was saved as step_00000004" in caplog.text
    save_steps(tmp_path, trained, [8])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000006", "step_00000008", copy.name]
    # Under a name that is no checkpoint's a copy is one's own, to go on from.
    assert verify(copy.rename(tmp_path / "mine"))["step"] == 4


def test_a_checkpoint_holds_trainables_moments_and_averages_exactly(trained, tmp_path):
    path = save(tmp_path, trained.gather(), {"step": 3, "origin": {"base": "x"}}, keep=2)
    assert path.name == "step_00000003" and verify(path) == {"step": 3, "origin": {"base": "x"}}
    tensors, parameter = read_tensors(path), trained.parameters["a.weight"]
    assert torch.equal(tensors["trainables"]["a.weight"], parameter)
    for kind in ("exp_avg", "exp_avg_sq", "ema"):
        assert torch.equal(tensors[kind]["a.weight"], trained.adam.state[parameter][kind])


def test_adam_and_the_averages_go_on_bit_for_bit_after_a_scatter(trained, tmp_path):
    (path,) = save_steps(tmp_path, trained, [3])
    restored = wrapped(nn.Parameter(torch.zeros(3, 5)))
    restored.scatter(read_tensors(path), updates=3)
    assert restored.updates() == 3
    for sharded in (trained, restored):
        step(sharded, 3, torch.ones(3, 5))
    for kind in ("trainables", "exp_avg", "exp_avg_sq", "ema"):
        assert torch.equal(restored.gather()[kind]["a.weight"], trained.gather()[kind]["a.weight"])


def test_the_averaged_weights_follow_their_rule_and_are_what_is_exported():
    sharded = wrapped(nn.Parameter(torch.zeros(2)))
    expected = torch.zeros(2)
    for number in range(20):
        step(sharded, number, torch.full((2,), 1.0 + number))
        expected = expected.lerp(sharded.parameters["a.weight"].detach(), 1 - min(EMA, (1 + number) / (10 + number)))
    assert torch.allclose(sharded.exported()["a.weight"], expected, rtol=1e-6)
    assert not torch.allclose(sharded.trainables()["a.weight"], expected, rtol=1e-3)
    assert [round(average_decay(number, EMA), 3) for number in (0, 1, 10, 80, 1000)] == [0.1, 0.182, 0.55, 0.9, 0.9]


def test_without_averages_the_last_weights_are_exported_and_nothing_else_is_kept(tmp_path):
    sharded = wrapped(nn.Parameter(torch.zeros(2)), ema=0.0)
    step(sharded, 0, torch.ones(2))
    assert torch.equal(sharded.exported()["a.weight"], sharded.trainables()["a.weight"])
    (path,) = save_steps(tmp_path, sharded, [1])
    assert set(read_tensors(path)) == {"trainables", "exp_avg", "exp_avg_sq"}


def test_inside_averaged_the_module_holds_the_averages_and_afterwards_its_own(trained):
    (parameter,) = trained.parameters.values()
    before, averages = parameter.detach().clone(), trained.exported()["a.weight"]
    with pytest.raises(RuntimeError, match="seen"), trained.averaged():
        assert torch.equal(parameter, averages) and not torch.equal(parameter, before)
        raise RuntimeError("seen")
    assert torch.equal(parameter, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(trained, bad):
    before = trained.gather()
    gradient = torch.ones(3, 5)
    gradient[1, 2] = bad
    step(trained, 3, gradient)
    assert trained.was_skipped().item() == 1 and trained.updates() == 3
    after = trained.gather()
    assert all(torch.equal(after[kind]["a.weight"], before[kind]["a.weight"]) for kind in before)
    step(trained, 4, torch.ones(3, 5))
    assert trained.was_skipped().item() == 0 and trained.updates() == 4


def test_the_newest_valid_checkpoint_is_found_and_the_skipped_one_named(trained, tmp_path, caplog):
    older, newer = save_steps(tmp_path, trained, [5, 10])
    assert find_newest(tmp_path) == newer
    damage(newer / "exp_avg.safetensors")
    faceid_propagates(caplog)
    assert find_newest(tmp_path) == older
    assert "step_00000010/exp_avg.safetensors" in caplog.text and "damaged" in caplog.text


@pytest.mark.parametrize(
    "name", [f"{name}.safetensors" for name in ("trainables", "exp_avg_sq", "ema")] + ["state.json", "MANIFEST.json"]
)
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_every_damage_is_noticed(trained, tmp_path, name, how):
    (path,) = save_steps(tmp_path, trained, [3])
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
    with pytest.raises(DataError, match="no space left on the disk"):
        save_steps(tmp_path, trained, [2])
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert find_newest(tmp_path).name == "step_00000001"


@pytest.mark.starts_process
def test_what_a_killed_save_left_is_never_taken_and_swept_by_the_next(trained, tmp_path):
    dead = run_command([sys.executable, "-c", "from faceid.processes import process_mark as m; print(m())"])
    left = f".faceid-{dead.stdout.strip()}-0123ab.tmp"
    for name in (left, ".trash_step_00000001_0123abcd", ".trash_of_mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE_FILE).write_text("{}")
    assert find_newest(tmp_path) is None
    sweep.cache_clear()
    save_steps(tmp_path, trained, [1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".trash_of_mine", "step_00000001"]


def test_a_checkpoint_with_a_file_of_somebody_is_not_removed(trained, tmp_path, caplog):
    first, second = save_steps(tmp_path, trained, [1, 2])
    (first / "notes.txt").write_text("why this one is good")
    (second / MANIFEST_FILE).write_text("{}")
    faceid_propagates(caplog)
    save_steps(tmp_path, trained, [3, 4, 5])
    assert (first / "notes.txt").read_text() == "why this one is good" and second.is_dir()
    assert "notes.txt in it is somebody's" in caplog.text


def test_a_damaged_checkpoint_in_the_way_of_a_new_one_is_kept_under_another_name(trained, tmp_path):
    _, second = save_steps(tmp_path, trained, [1, 2])
    (second / f"{TRAINABLES}.safetensors").write_bytes(b"damaged")
    save_steps(tmp_path, trained, [2])
    assert find_newest(tmp_path).name == "step_00000002"
    assert (tmp_path / "step_00000002.damaged" / f"{TRAINABLES}.safetensors").read_bytes() == b"damaged"
    save_steps(tmp_path, trained, [1, 2])
    assert sorted(path.name for path in tmp_path.iterdir())[:2] == ["step_00000001", "step_00000002"]


def test_a_pinned_checkpoint_stays_and_does_not_count(trained, tmp_path):
    first, second = save_steps(tmp_path, trained, [1, 2])
    pin(first, "best"), (second / "PINNED").write_text("mine\n")
    save_steps(tmp_path, trained, [3, 4, 5])
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "2", "4", "5"]
    unpin(tmp_path, "best")
    save_steps(tmp_path, trained, [6])
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["2", "5", "6"]


@pytest.mark.fault("L10")
def test_a_users_own_pin_is_neither_written_over_nor_removed(trained, tmp_path):
    """The best checkpoint so far may be one that a user keeps for reasons of their own."""
    paths = save_steps(tmp_path, trained, [1, 2])
    (paths[0] / "PINNED").write_bytes(b"sch\xf6n\n")
    (paths[1] / "PINNED").mkdir()
    for path in paths:
        pin(path, "best")
    unpin(tmp_path, "best")
    assert (paths[0] / "PINNED").read_bytes() == b"sch\xf6n\n" and (paths[1] / "PINNED").is_dir()
    save_steps(tmp_path, trained, [3, 4, 5])
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "2", "4", "5"]


def test_a_tensor_that_is_not_finite_is_never_written(trained, tmp_path):
    tensors = trained.gather()
    tensors["exp_avg"]["a.weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"exp_avg a.weight is not finite"):
        save(tmp_path, tensors, {"step": 1, "origin": {}}, keep=2)
    assert list(tmp_path.iterdir()) == []


def test_without_room_for_it_nothing_is_begun(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(DataError, match="the tensors of one checkpoint need about"):
        save_steps(tmp_path, trained, [1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keep", "best", "there", "fit"), [(2, False, 0, 3), (4, True, 0, 6), (2, True, 3, 1), (2, False, 9, 1)]
)
def test_a_run_asks_for_all_the_room_that_its_saves_will_ask_for(tmp_path, monkeypatch, keep, best, there, fit):
    for number in range(there):
        (tmp_path / name_of(number)).mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=fit * 1000))
    check_room(tmp_path, 1000, keep, best)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=fit * 1000 - 1))
    with pytest.raises(DataError, match=rf"{fit} checkpoints? \(keep_checkpoints={keep}\) need about"):
        check_room(tmp_path, 1000, keep, best)


def test_a_checkpoint_of_before_there_were_averages_is_read(trained, tmp_path):
    (path,) = save_steps(tmp_path, wrapped(nn.Parameter(torch.ones(3, 5)), ema=0.0), [1])
    assert verify(path)["step"] == 1 and set(read_tensors(path)) == {"trainables", "exp_avg", "exp_avg_sq"}


def test_an_empty_tensor_is_never_written(tmp_path):
    with pytest.raises(CheckpointError, match="was not gathered"):
        save_steps(tmp_path, wrapped(nn.Parameter(torch.zeros(0, 4))), [1])
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
    (path,) = save_steps(tmp_path, trained, [3])
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((path / "MANIFEST.json").read_text())["version"] == 1
