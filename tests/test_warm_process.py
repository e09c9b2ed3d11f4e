"""A process forked from the warm server is the command that Python would run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import process_guard
import pytest
from launching import BIN, run_command, start
from warm_process import WarmProcess, can_be_warm, programs_for_bash

PROBE = """
import atexit, json, os, signal, sys, threading
atexit.register(lambda: print("at exit"))
told = dict(argv=sys.argv, name=__name__, file=__file__, folder=os.getcwd(), first_path=sys.path[0])
told |= dict(environment=sorted(os.environ.items()), umask=os.umask(0), threads=threading.active_count())
told |= dict(terminals=[file.isatty() for file in (sys.stdin, sys.stdout, sys.stderr)])
told |= dict(leads_a_session=os.getsid(0) == os.getpid())
told |= dict(handlers=[str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)])
told |= dict(files=sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) < 3))
print(json.dumps(told))
print("a line", file=sys.stderr)
sys.exit(7)
"""
ENDS = {
    "returns": ("pass", 0),
    "a code": ("import sys; sys.exit(75)", 75),
    "a word": ("import sys; sys.exit('no')", 1),
    "a traceback": ("def f(): raise ValueError('of mine')\nf()", 1),
    "SIGKILL": ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
    "SIGTERM": ("import os, time; os.kill(os.getpid(), 15); time.sleep(9)", -signal.SIGTERM),
    "a thread": (
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('last'))).start()",
        0,
    ),
}


@pytest.mark.starts_process
def test_it_finds_itself_as_python_would_start_it(tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    environment = {**os.environ, "FACEID_PROBE": "a b\n"}
    words = [sys.executable, "probe.py", "a flag", "", "--x=1"]
    warm, cold = (
        run_command(words, 7, cold=cold, cwd=tmp_path, env=environment, start_new_session=True)
        for cold in (False, True)
    )
    said = [json.loads(done.stdout.splitlines()[0]) for done in (warm, cold)]
    assert said[0] == said[1] and said[0]["argv"] == ["probe.py", "a flag", "", "--x=1"]
    assert warm.stdout.splitlines()[1:] == cold.stdout.splitlines()[1:] == ["at exit"]
    assert warm.stderr == cold.stderr == "a line\n"


@pytest.mark.starts_process
@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_python_would(end):
    code, expected = ENDS[end]
    warm, cold = (run_command([sys.executable, "-c", code], expected, cold=cold) for cold in (False, True))
    assert warm.stdout == cold.stdout and warm.stderr.splitlines()[-1:] == cold.stderr.splitlines()[-1:]


@pytest.mark.starts_process
def test_it_is_a_process_that_a_signal_reaches():
    code = "import time; print('here', flush=True); time.sleep(60)"
    process = start([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert isinstance(process, WarmProcess)
    assert process.stdout.readline() == "here\n" and process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == process.poll() == -signal.SIGKILL


@pytest.mark.starts_process
def test_accelerates_launcher_starts_warm_ones(tmp_path):
    (tmp_path / "rank.py").write_text(
        "import os, sys; print(os.environ['RANK'], 'deepspeed' in sys.modules, flush=True)"
    )
    launcher = [BIN / "accelerate", "launch", "--config_file", "launch/accelerate/cpu.yaml", "--main_process_port", "0"]
    done = run_command([*launcher, tmp_path / "rank.py"])
    assert sorted(done.stdout.split("\n")[:2]) == ["0 True", "1 True"]


@pytest.mark.starts_process
def test_bash_finds_them_in_its_path(tmp_path):
    programs = programs_for_bash(tmp_path / "programs")
    script = (
        "python -c 'import sys; print(\"torch\" in sys.modules, input())' <<<words; python -c 'raise SystemExit(3)'"
    )
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (3, "True words\n", "")


@pytest.mark.starts_process
def test_what_libraries_read_at_their_import_is_not_forked(monkeypatch):
    command = [sys.executable, "train.py"]
    run_command([sys.executable, "-c", ""])
    assert can_be_warm(command, {**os.environ, "RANK": "1"})
    assert not can_be_warm(command, {**os.environ, "OMP_NUM_THREADS": "7"})
    assert not can_be_warm([sys.executable, "-X", "importtime", "train.py"])
    assert not can_be_warm(["bash", "launch/demo.sh"])
    # Set here after the server's start: it does not know this path.
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert not can_be_warm(command)


def test_a_test_that_does_not_say_so_may_start_no_process(monkeypatch):
    for place, name in process_guard.STARTS:
        monkeypatch.setattr(place, name, process_guard.guarded(getattr(place, name)))
    for begin in (lambda: subprocess.run(["true"]), os.fork, lambda: start([sys.executable, "-c", ""])):
        with pytest.raises(pytest.fail.Exception, match="starts a process"):
            begin()
    assert process_guard.running[0].name == "test_a_test_that_does_not_say_so_may_start_no_process"
