"""A worker that is told to stop leaves nothing behind and blames no job; what a kill left, the next one sweeps."""

import os
import signal
import sys
import tempfile

import pytest
from calling import process_state_kept
from launching import run_command
from render_flags import changed
from two_poses import rows, run

from faceid.processes import process_mark
from faceid.sampling.jobs import worker
from faceid.sampling.stopping import TOLD_TO_STOP, stop_when_told
from faceid.sampling.who.private_folder import PREFIX, private_folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.fault("S5")
@pytest.mark.slow
def test_a_batch_that_is_told_to_stop_leaves_as_from_an_error(settings, tmp_path, temporary, monkeypatch):
    denoise, begun = worker.Renderer.denoise, []

    def told(self, *given):
        begun.append(1)
        if len(begun) == 2:
            # The first is being written beside it.
            os.kill(os.getpid(), signal.SIGTERM)
        return denoise(self, *given)

    asked = changed(settings, num_inference_steps=1, cfg_scale=1.0)
    with process_state_kept(), monkeypatch.context() as patch:
        stop_when_told()
        patch.setattr(worker.Renderer, "denoise", told)
        with pytest.raises(SystemExit) as end:
            run(asked)
    assert end.value.code == TOLD_TO_STOP == 143
    records = tmp_path / "out" / ".jobs"
    assert list(temporary.iterdir()) == [] and not list((records / "claims").iterdir())
    # The one that was finished is done; the one that was not has no try to its name.
    (done,) = (path.stem for path in (records / "done").iterdir())
    assert [path.name for path in (records / "attempts").iterdir() if any(path.iterdir())] == [done]
    assert run(asked) == 0 and len(rows(tmp_path / "out")) == 4


@pytest.mark.starts_process
@pytest.mark.fault("S5")
def test_what_a_killed_process_left_is_swept_by_the_next_and_others_are_not(temporary):
    code = "from faceid.processes import process_mark; print(process_mark())"
    dead = run_command([sys.executable, "-c", code]).stdout.strip()
    # A living process's, another machine's, somebody's own of such a name, and a link to a folder that is not ours.
    kept = [f"{PREFIX}{process_mark()}_x", f"{PREFIX}00000000-1-2_x", f"{PREFIX}mine", "other"]
    for name in (*kept, f"{PREFIX}{dead}_a_b"):
        (temporary / name).mkdir()
        (temporary / name / "photo.jpg").touch()
    (temporary / f"{PREFIX}{dead}_link").symlink_to(temporary / "other")
    with private_folder() as own:
        assert own.stat().st_mode & 0o777 == 0o700
        (own / "photo.jpg").touch()
        left = {path.name for path in temporary.iterdir()} - {own.name}
    assert left == {*kept, f"{PREFIX}{dead}_link"} and not own.exists()
    assert (temporary / "other" / "photo.jpg").is_file()
