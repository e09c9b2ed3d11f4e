"""A process that has imported what commands import, and forks them: real processes, without ten seconds of imports.

`python tests/warm_server.py SOCKET`, started by warm_process.py. A request holds argv, folder, environment and the
three standard files of a command. The child becomes that command and leaves as any Python does: by its own exit code,
traceback or signal. The server imports only. It never starts a thread, loads a model or computes, so it can be forked.
Its standard input is held by pytest: the server ends when pytest does.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
import types
from pathlib import Path
from typing import Any, NoReturn

import warm_process

# What the package imports only when it works, and accelerate's launcher, which starts two trainings.
LIBRARIES = (
    "deepspeed",
    "diffusers",
    "peft",
    "torch.utils.tensorboard",
    "accelerate.commands.accelerate_cli",
    "torch.distributed.run",
)
LARGEST_REQUEST = 1 << 20


def serve(path: str) -> dict[str, Any]:
    """Fork for every request until standard input ends. Returns in the children alone: what to become."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(sys.stdin.fileno(), selectors.EVENT_READ)
    # That it is ready, and the CPU seconds of its imports.
    print(time.process_time(), flush=True)
    running: dict[int, tuple[int, socket.socket]] = {}
    spent_s = 0.0
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                caller, _ = listener.accept()
                if (request := _fork(caller, running, spent_s)) is not None:
                    waiting.close()
                    listener.close()
                    return request
                for pidfd in running.keys() - waiting.get_map().keys():
                    waiting.register(pidfd, selectors.EVENT_READ)
            elif key.fd in running:
                waiting.unregister(key.fd)
                spent_s = _tell_end(key.fd, *running.pop(key.fd), spent_s)
            else:
                sys.exit(0)


def _fork(
    caller: socket.socket, running: dict[int, tuple[int, socket.socket]], spent_s: float
) -> dict[str, Any] | None:
    """One request: in the child what to become, in the server None. An empty one asks what was spent."""
    message, files, _, _ = socket.recv_fds(caller, LARGEST_REQUEST, 3)
    request = json.loads(message)
    if not request:
        caller.send(str(spent_s).encode())
        caller.close()
        return None
    pid = os.fork()
    if pid == 0:
        for number, file in enumerate(files):
            os.dup2(file, number)
        # The file that came may have stood on a standard number itself.
        for file in set(files) - {0, 1, 2}:
            os.close(file)
        caller.close()
        for pidfd, (_, other) in running.items():
            os.close(pidfd)
            other.close()
        return request
    for file in files:
        os.close(file)
    running[os.pidfd_open(pid)] = pid, caller
    caller.send(str(pid).encode())
    return None


def _tell_end(pidfd: int, pid: int, caller: socket.socket, spent_s: float) -> float:
    """Say how a process ended. The CPU seconds of all that have."""
    _, status, used = os.wait4(pid, 0)
    os.close(pidfd)
    # Who asked for it may have ended first, as a killed launcher does.
    with contextlib.suppress(OSError):
        caller.send(str(status).encode())
    caller.close()
    return spent_s + used.ru_utime + used.ru_stime


def leave(request: dict[str, Any]) -> NoReturn:
    """Run a command and end as Python does, but for freeing all modules, which takes half a second of CPU."""
    code: object = None
    try:
        become(request)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - told as python tells it
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0) & 0xFF)  # type: ignore[call-overload]


def become(request: dict[str, Any]) -> None:
    """Run the command of a request in this process, as `python` would. Raises: what the command raises."""
    signal.signal(signal.SIGINT, signal.SIG_IGN if request["ignores_sigint"] else signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if request["session"]:
        os.setsid()
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    unbuffered = request["unbuffered"] or bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(write_through=unbuffered)  # type: ignore[union-attr]
    # Forked twins would draw the same names; `random` sees to that itself.
    sys.modules["numpy"].random.seed()
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    warm_process.address[0] = sys.argv[1]
    subprocess_handler.Popen = warm_process.start_process  # type: ignore[misc, assignment]
    kind, *words = request["argv"]
    sys.argv = [kind, *words]
    if kind == "-m":
        sys.argv = words
        sys.path[0] = os.getcwd()
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if kind == "-c":
        sys.argv = ["-c", *words[1:]]
        sys.path[0] = ""
        exec(compile(words[0], "<string>", "exec"), main.__dict__)
        return
    main.__file__ = os.path.abspath(kind)
    sys.path[0] = str(Path(kind).resolve().parent)
    exec(compile(Path(kind).read_bytes(), kind, "exec"), main.__dict__)


def prepare() -> None:
    """Import everything, and see that nothing else was begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    package = importlib.import_module("faceid")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, "faceid.")]
    for name in (*modules, *LIBRARIES):
        importlib.import_module(name)
    # Half a second of regular expressions, the same in every process that loads an encoder.
    conversions = importlib.import_module("transformers.conversion_mapping")
    conversions.get_checkpoint_conversion_mapping("clip")
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads after the imports: this cannot be forked"
    gc.collect()
    # What is never freed need not be copied for its reference counts.
    gc.freeze()


if __name__ == "__main__":
    prepare()
    leave(serve(sys.argv[1]))
