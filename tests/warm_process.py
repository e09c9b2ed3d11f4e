"""Commands as processes forked from tests/warm_server.py, with the part of subprocess.Popen that tests use.

`python -IS tests/warm_process.py ADDRESS python train.py ...` is one of them for bash (`programs_for_bash`).
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SERVER = Path(__file__).with_name("warm_server.py")
# Read while libraries are imported: a command that wants another value is started cold.
READ_AT_IMPORT = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "DS_ACCELERATOR", "HF_HUB_OFFLINE", "HF_HOME", "TORCH_EXTENSIONS_DIR"),
    *("PYTHONPATH", "PYTHONHASHSEED", "PYTHONWARNINGS", "LD_PRELOAD", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
)
# Where the server listens; set in what it forked as well: accelerate's launcher starts two trainings.
address = [""]
# What it read while it imported: a test may change os.environ after its start.
server_environment: dict[str, str] = {}
# CPU and wall seconds of its start.
server_cost = [0.0, 0.0]
# Read once: a test that names another place for itself may be the first to start a process.
PLACE = tempfile.gettempdir()


class WarmProcess:
    """A running command. It has its own argv, folder, environment, files, exit code and process id.

    Arguments are those of subprocess.Popen, and so are the attributes.
    """

    def __init__(
        self,
        args: Sequence[str],
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = False,
        start_new_session: bool = False,
    ) -> None:
        self.args, self.returncode = args, None
        # As subprocess says it, for the guard that knows which tests start a process.
        sys.audit("subprocess.Popen", args[0], args, cwd, env)
        environment = dict(os.environ if env is None else env)
        words = python_words(args)
        assert words is not None, f"no Python command: {args}"
        mine = [_mine(place, number) for number, place in enumerate((stdin, stdout, stderr))]
        if stderr == subprocess.STDOUT:
            mine[2] = (mine[1][0], None)
        request = {
            "argv": [os.fspath(word) for word in words if word != "-u"],
            "unbuffered": "-u" in words[:1],
            "folder": os.fspath(cwd or os.getcwd()),
            "environment": environment,
            "umask": _umask(),
            "session": start_new_session,
            # Where a shell has sent pytest into the background.
            "ignores_sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        }
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.connect(address[0] or start_server())
        socket.send_fds(self._server, [json.dumps(request).encode()], [file for file, _ in mine])
        self.pid = int(self._server.recv(64))
        for place, (file, _) in zip((stdin, stdout, stderr), mine, strict=True):
            if place in (subprocess.PIPE, subprocess.DEVNULL):
                os.close(file)
        self.stdin, self.stdout, self.stderr = (
            None if pipe is None else os.fdopen(pipe, ("r" if number else "w") + ("" if text else "b"))
            for number, (_, pipe) in enumerate(mine)
        )

    def poll(self) -> int | None:
        """The exit code of a process that has ended, else None."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises: subprocess.TimeoutExpired."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """What it writes until it ends. Raises: subprocess.TimeoutExpired."""
        if self.stdin:
            self.stdin.close()
        said: dict[str, Any] = {"stdout": None, "stderr": None}
        readers = []
        for name in said:
            if pipe := getattr(self, name):
                reader = threading.Thread(
                    target=lambda name=name, pipe=pipe: said.update({name: pipe.read()}), daemon=True
                )
                reader.start()
                readers.append(reader)
        deadline = None if timeout is None else time.monotonic() + timeout
        for reader in readers:
            reader.join(None if deadline is None else max(deadline - time.monotonic(), 0))
        self.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
        for reader in readers:
            reader.join()
        return said["stdout"], said["stderr"]

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                answer = self._server.recv(256)
            except (BlockingIOError, TimeoutError):
                return None
            self._server.close()
            self.returncode = os.waitstatus_to_exitcode(int(answer))
        return self.returncode


def spent_s() -> float:
    """CPU seconds of all that this process's server forked and that has ended, for tests/durations.py."""
    if not address[0]:
        return 0.0
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address[0])
        server.send(b"{}")
        return float(server.recv(64))


def can_be_warm(args: Sequence[Any], env: Mapping[str, str] | None = None) -> bool:
    """Whether a fork can stand for this command: Python's, without its own flags, with the server's environment."""
    asked, held = (os.environ if env is None else env), (server_environment or os.environ)
    return python_words(args) is not None and all(asked.get(name) == held.get(name) for name in READ_AT_IMPORT)


def python_words(args: Sequence[Any]) -> list[Any] | None:
    """What Python is given: a script, `-m module` or `-c text`, perhaps after `-u`; None for another command."""
    first, *words = args
    if Path(first) == Path(sys.executable).with_name("accelerate"):
        return [str(first), *words]
    ours = Path(first) in (Path(sys.executable), Path(sys.executable).with_name("python"))
    plain = words[1:] if words[:1] == ["-u"] else words
    return words if ours and plain and (plain[0] in ("-m", "-c") or str(plain[0]).endswith(".py")) else None


def start_process(args: Sequence[str], **places: Any) -> WarmProcess | subprocess.Popen:
    """Start a command: warm where it can be, else as subprocess.Popen does."""
    warm = can_be_warm(args, places.get("env"))
    return WarmProcess(args, **places) if warm else subprocess.Popen(args, **places)


def start_server() -> str:
    """Start this process's server; it ends with this process. Its address."""
    began = time.monotonic()
    folder = tempfile.TemporaryDirectory(prefix="warm_", dir=PLACE)
    path = str(Path(folder.name) / "socket")
    command = [sys.executable, str(SERVER), path]
    pipe = subprocess.PIPE
    environment = dict(os.environ)
    server = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)
    assert server.stdout is not None and server.stdin is not None
    ready = server.stdout.readline()
    assert ready, "the server of warm processes did not start"
    address[0], server_cost[:] = path, [float(ready), time.monotonic() - began]
    server_environment.update(environment)

    def end() -> None:
        server.stdin.close()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return path


def programs_for_bash(folder: Path) -> Path:
    """`python` and `accelerate` for a script's PATH, each a small process that waits for a warm one. The folder."""
    folder.mkdir()
    server = address[0] or start_server()
    for name in ("python", "accelerate"):
        program = shlex.join([sys.executable, "-IS", __file__, server, str(Path(sys.executable).with_name(name))])
        (folder / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def _mine(place: int | IO[Any] | None, number: int) -> tuple[int, int | None]:
    """(the command's end, ours) of one standard file."""
    if place == subprocess.PIPE:
        reading, writing = os.pipe()
        return (reading, writing) if number == 0 else (writing, reading)
    if place == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_RDWR), None
    if place is None or place == subprocess.STDOUT:
        return number, None
    return (place if isinstance(place, int) else place.fileno()), None


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


if __name__ == "__main__":
    address[0] = sys.argv[1]
    ended = WarmProcess(sys.argv[2:]).wait()
    if ended < 0:
        os.kill(os.getpid(), -ended)
    sys.exit(ended)
