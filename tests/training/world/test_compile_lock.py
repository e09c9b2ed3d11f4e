"""A compile that was killed stops no later start, and one that is alive is waited for."""

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from calling import call
from launching import QUIET, SMALL_ADAPTER, start

from faceid.errors import ConfigError
from faceid.training import training_run
from faceid.training.world.compile_lock import EXTENSIONS, FOLDER_KEY, choose_extensions_folder, clear_stale_locks


@pytest.fixture
def lock(tmp_path):
    """As a compile of ten minutes ago left it."""
    path = tmp_path / "deepspeed_shm_comm" / "lock"
    path.parent.mkdir()
    path.touch()
    age(path.parent, 600)
    return path


@pytest.fixture
def said(caplog):
    logging.getLogger("faceid").propagate = True
    caplog.set_level(logging.INFO, logger="faceid")
    return caplog


def age(folder, seconds):
    for path in [*folder.iterdir(), folder]:
        os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.fault("W6")
def test_a_lock_that_nobody_holds_is_removed_and_said(lock, said):
    began = time.monotonic()
    clear_stale_locks(lock.parent.parent, may_remove=True)
    assert not lock.exists() and time.monotonic() - began < 5
    assert f"{lock}: left by a compile that was killed; removed" in said.text


@pytest.mark.starts_process
@pytest.mark.fault("W6")
def test_one_that_a_process_has_open_is_waited_for(lock, said):
    """As torch's FileBaton holds it, however old it is."""
    held = start(
        [
            sys.executable,
            "-c",
            f"import os, time; os.open({str(lock)!r}, os.O_RDONLY); print(1, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None and held.stdout.readline()
    waiting = threading.Thread(target=clear_stale_locks, args=(lock.parent.parent, True, 0.1))
    waiting.start()
    waiting.join(1.5)
    assert waiting.is_alive() and lock.exists() and f"process {held.pid} compiles; waiting" in said.text
    held.kill()
    held.wait()
    waiting.join(10)
    assert not waiting.is_alive() and not lock.exists()


@pytest.mark.fault("W6")
def test_one_beside_which_something_was_just_written_may_be_another_machines(lock, said):
    """Whose processes cannot be seen from here."""
    (lock.parent / "shm.o").touch()
    began = time.monotonic()
    clear_stale_locks(lock.parent.parent, may_remove=True, stale_s=1.0)
    assert not lock.exists() and 0.5 < time.monotonic() - began < 20
    assert "nobody on this machine compiles; another one may; waiting a while" in said.text


@pytest.mark.fault("W6")
def test_one_process_of_a_machine_removes_it_and_the_others_wait(lock):
    others = threading.Thread(target=clear_stale_locks, args=(lock.parent.parent, False))
    others.start()
    others.join(1.0)
    assert others.is_alive() and lock.exists()
    clear_stale_locks(lock.parent.parent, may_remove=True)
    others.join(10)
    assert not others.is_alive()


@pytest.mark.fault("L1")
@pytest.mark.parametrize("place", ["myproject/lock", "py311_cpu/utils/lock", "lock", "deepspeed_shm_comm/kept/lock"])
def test_a_file_of_that_name_elsewhere_is_left_and_not_waited_for(tmp_path, place):
    """The folder of torch's extensions is shared by all projects of a user."""
    mine = tmp_path / place
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.touch()
    age(mine.parent, 600)
    clear_stale_locks(tmp_path, may_remove=True)
    clear_stale_locks(tmp_path, may_remove=False)
    assert mine.is_file()


@pytest.mark.fault("L1")
def test_what_is_no_lock_of_torchs_is_left_and_refused_before_torch_waits(lock):
    lock.write_text("mine")
    age(lock.parent, 600)
    with pytest.raises(ConfigError, match=r"lock: torch waits for it for ever.*move it away"):
        clear_stale_locks(lock.parent.parent, may_remove=True)
    assert lock.read_text() == "mine"


def test_deepspeed_calls_what_it_compiles_by_these_names():
    from deepspeed.ops.op_builder.cpu import CCLCommBuilder, ShareMemCommBuilder

    assert EXTENSIONS == (ShareMemCommBuilder.NAME, CCLCommBuilder.NAME)


def test_without_a_lock_nothing_is_waited_for(tmp_path):
    clear_stale_locks(tmp_path / "absent", may_remove=True)
    (tmp_path / "built").mkdir()
    clear_stale_locks(tmp_path, may_remove=False)


@pytest.mark.fault("W6")
def test_where_nobody_says_otherwise_the_folder_is_the_environments_own():
    environment = {}
    found = choose_extensions_folder(environment)
    assert found == Path(sys.prefix) / "torch_extensions" and environment[FOLDER_KEY] == str(found)
    given = {FOLDER_KEY: "/elsewhere"}
    assert choose_extensions_folder(given) == Path("/elsewhere") and given[FOLDER_KEY] == "/elsewhere"


def test_what_was_compiled_is_not_compiled_again_by_another_ninja():
    """A system's own, of another version, takes all that the environment's made for out of date."""
    environment = {"PATH": "/usr/bin:/bin"}
    for _ in range(2):
        choose_extensions_folder(environment)
        assert environment["PATH"] == f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin"
    assert Path(shutil.which("ninja", path=environment["PATH"])).parent == Path(sys.prefix) / "bin"


@pytest.mark.fault("W6")
def test_a_run_looks_before_it_joins_and_is_watched_by_then(lock, toy_inputs, tmp_path, monkeypatch):
    seen = []

    def join(*arguments):
        watched = [thread for thread in threading.enumerate() if thread.name == "watchdog"]
        seen.append((lock.exists(), len(watched)))
        raise ConfigError("far enough")

    monkeypatch.setattr(training_run, "join_world", join)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv(FOLDER_KEY, str(lock.parent.parent))
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    ended = call("train.py", *SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, "--output_dir", tmp_path / "run")
    assert ended.error == "far enough" and seen == [(False, 1)]
