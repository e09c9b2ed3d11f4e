"""Promises that a planted fault once broke unnoticed: clipping, the read-back of a checkpoint, and asking the fence."""

import pytest
import torch
from calling import call
from forked_runs import run
from launching import QUIET, SMALL_ADAPTER

from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.checkpoint import CheckpointError
from faceid.training.measuring.samples import read_samples
from faceid.training.world.fence import Fence, FencedError

STEPS = "--num_epochs 1 --batch_size 2 --warmup_steps 0 --save_every 9".split()


def words(toy_inputs, folder, *more):
    return [*SMALL_ADAPTER, *QUIET, *STEPS, *toy_inputs.prepared_flags, *more, "--output_dir", str(folder)]


def first_moment_norm(folder):
    (kept,) = (folder / "checkpoints").glob("step_*")
    tensors = checkpoint.read_tensors(kept)["exp_avg"]
    return float(torch.cat([tensor.flatten() for tensor in tensors.values()]).norm())


@pytest.mark.starts_process
@pytest.mark.fault("8")
@pytest.mark.parametrize("world", ["single", "cpu_zero2"])
@pytest.mark.slow
def test_the_gradient_that_adam_sees_is_clipped(toy_inputs, warm_server, tmp_path, world):
    """Adam forgets how long a gradient was, its first moment does not: after one step a tenth of it."""
    # 8 samples in one step.
    asked = ("--batch_size", "8", "--max_grad_norm", "1e-4")
    given = words(toy_inputs, tmp_path, *asked)
    assert call("train.py", *given).code == 0 if world == "single" else set(run(given, world)) == {0}
    assert first_moment_norm(tmp_path) == pytest.approx(0.1 * 1e-4, rel=1e-2)


@pytest.mark.fault("8")
@pytest.mark.slow
def test_without_a_reason_to_it_is_not(toy_inputs, tmp_path):
    """The gradient's own length is far from the bound above: what is seen there is the clipping."""
    assert call("train.py", *words(toy_inputs, tmp_path, "--batch_size", "8", "--max_grad_norm", "1e9")).code == 0
    assert first_moment_norm(tmp_path) > 1e-4


@pytest.mark.fault("8")
@pytest.mark.parametrize("name", ["trainables.safetensors", "exp_avg.safetensors", "state.json"])
def test_a_checkpoint_that_does_not_read_back_gets_no_name(trained, tmp_path, monkeypatch, name):
    """A disk that takes bytes and gives others back."""
    checkpoint.save(tmp_path, trained.gather(), {"step": 1, "origin": {}}, keep=2)
    write = checkpoint._write

    def damaged(folder, tensors, state):
        write(folder, tensors, state)
        content = bytearray((folder / name).read_bytes())
        content[-2] ^= 1
        (folder / name).write_bytes(content)

    monkeypatch.setattr(checkpoint, "_write", damaged)
    with pytest.raises(CheckpointError, match=f"{name}: not what the manifest says"):
        checkpoint.save(tmp_path, trained.gather(), {"step": 2, "origin": {}}, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


@pytest.mark.fault("8")
def test_the_fence_is_asked_before_a_checkpoint_gets_its_name_and_before_one_is_removed(trained, tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, trained.gather(), {"step": step, "origin": {}}, keep=2)
    seen = []

    def taken_over(at):
        def ask():
            seen.append(sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")))
            if len(seen) == at:
                raise FencedError("taken over")

        return ask

    with pytest.raises(FencedError):
        checkpoint.save(tmp_path, trained.gather(), {"step": 3, "origin": {}}, 2, taken_over(at=1))
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "2"]
    seen.clear()
    with pytest.raises(FencedError):
        checkpoint.save(tmp_path, trained.gather(), {"step": 3, "origin": {}}, 2, taken_over(at=2))
    # The last time it was asked the new one had its name, and the oldest was still there.
    assert [name[-1] for name in seen[-1]] == ["1", "2", "3"]
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "2", "3"]


@pytest.mark.fault("8")
@pytest.mark.slow
def test_the_fence_is_asked_each_step(toy_inputs, tmp_path, monkeypatch):
    """Taken over in the middle of a run that writes nothing for a while: it ends with that step."""
    asked = []
    quiet = ("--log_every_steps", "100", "--log_samples", "true")

    def taken_over(fence):
        asked.append(1)
        if len(asked) == 2:
            raise FencedError("taken over")

    monkeypatch.setattr(Fence, "check", taken_over)
    ended = call("train.py", *words(toy_inputs, tmp_path / "run", *quiet))
    assert ended.code == 2 and ended.error == "taken over"
    assert len(read_samples(tmp_path / "run" / "logs")) == 1
    assert not list((tmp_path / "run").glob("face_lora*")) and not list((tmp_path / "run" / "checkpoints").glob("*"))
