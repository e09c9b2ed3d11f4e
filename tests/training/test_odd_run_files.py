"""Files of a run that an editor, a kill or a user left odd: read as far as they go, or refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from forked_runs import run
from launching import QUIET, SMALL_ADAPTER

from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.checkpoint import CheckpointError
from faceid.training.measuring.metrics import cut_lines_after, read_metrics
from faceid.training.world.attempts import STARTED, Attempt, Attempts, judge_attempt

pytestmark = pytest.mark.fault("W5")

ODD = b'[1]\n"a"\n{"step": "a"}\n{"event": 3}\n\xff\xfe\n{"a": 1, "a": 2}\n' + b"[" * 5000 + b"\n"


def test_odd_lines_of_attempts_and_metrics_are_left_out(tmp_path):
    attempts = Attempts(tmp_path, Attempt("7", 0))
    attempts.add(STARTED, 0)
    with attempts.path.open("ab") as file:
        file.write(ODD)
    attempts.add(STARTED, 4)
    assert [line["step"] for line in attempts.read()] == [0, 4]
    assert judge_attempt(tmp_path, Attempt("7", 0), 1, 3).goes_on
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + ODD + b'{"step": 2, "loss": NaN}\n{"step": 3}\n{"step"')
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3]
    cut_lines_after(path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", "[" * 5000),
        ("state.json", "[]"),
        ("state.json", '{"step": "3"}'),
        ("state.json", '{"step": 3, "step": 4}'),
        ("MANIFEST.json", '{"files": []}'),
        ("MANIFEST.json", '{"files": {"../state.json": {"size": 1, "sha256": "a"}}}'),
    ],
)
def test_an_odd_checkpoint_is_refused_in_one_line(tmp_path, file, content):
    names = (checkpoint.TRAINABLES, *checkpoint.MOMENTS)
    made = checkpoint.save(tmp_path, {name: {"a": torch.ones(2)} for name in names}, {"step": 3}, keep=2)
    (made / file).write_text(content)
    if file == "state.json":
        manifest = json.loads((made / "MANIFEST.json").read_text())
        digest = checkpoint.sha256_file(made / file)
        manifest["files"][file] = {"size": len(content), "sha256": digest}
        (made / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=made.name) as error:
        checkpoint.verify(made)
    assert "\n" not in str(error.value)


def test_a_users_pin_may_hold_anything(tmp_path):
    for step, make in ((3, lambda pin: pin.write_bytes(b"\xff\x00")), (4, lambda pin: pin.mkdir())):
        (tmp_path / f"step_0000000{step}").mkdir()
        make(tmp_path / f"step_0000000{step}" / "PINNED")
    checkpoint.pin(tmp_path / "step_00000003", "best")
    (tmp_path / "step_00000003" / "PINNED").write_bytes(b"\xff")
    checkpoint.unpin(tmp_path, "best")
    assert len(list(tmp_path.glob("*/PINNED"))) == 2


class NearlyFull:
    """As on a disk with a little room: enough to begin, too little for a checkpoint."""

    def __call__(self) -> None:
        usage = shutil.disk_usage("/")
        shutil.disk_usage = lambda folder: usage._replace(free=100_000)


@pytest.mark.starts_process
def test_a_disk_without_room_for_a_checkpoint_is_refused_before_the_first_step(toy_inputs, tmp_path):
    """It trained on, and told at the end that nothing could be saved."""
    folder = tmp_path / "run"
    words = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, "--num_epochs", "1", "--output_dir", str(folder)]
    assert run(words, around=NearlyFull()) == [2]
    assert not (folder / "metrics.jsonl").exists() and not list(folder.glob("face_lora*"))
