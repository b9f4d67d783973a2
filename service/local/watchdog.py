"""Starts one server and stops it when its owner is gone, however the owner went; the only way to leave no orphan.

Run by its path, with the standard library alone. It reads a pipe from the owner: one line says in JSON what to run (not
an argument, for other users see those), and its end, another parent, or SIGTERM says stop the server, then end. Its own
session keeps a terminal's Ctrl-C away from the server, so that the owner can drain first.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 1.0


def main() -> int:
    """Run the ordered server to its end and return its exit code; a signal's number is added to 128."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    for unheeded in (signal.SIGINT, signal.SIGHUP):  # a handler, for the server would inherit SIG_IGN
        signal.signal(unheeded, lambda _number, _frame: None)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked_to_stop.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    with Path(order["log"]).open("ab") as log:
        server = subprocess.Popen(  # noqa: S603 - starting the server is this file's purpose
            order["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=order["cwd"],
            env=order["env"],
            user=order["uid"],
            group=order["gid"],
            extra_groups=None if order["uid"] is None else [],
            preexec_fn=_dying_with(os.getpid(), order["death_signal"]),  # noqa: PLW1509 - there are no threads here
        )
    print(server.pid, flush=True)  # noqa: T201 - the owner reads it
    inputs = [sys.stdin.fileno(), woken]
    while server.poll() is None:
        if asked_to_stop or os.getppid() != order["owner"]:
            return _stopped(server, order["stop_signal"], order["grace_seconds"])
        readable, _, _ = select.select(inputs, [], [], _LOOK_SECONDS)
        if sys.stdin.fileno() in readable:  # nothing is ever written there: this is its end
            return _stopped(server, order["stop_signal"], order["grace_seconds"])
        if woken in readable:
            os.read(woken, 512)
    return _exit_code(server.returncode)


def _stopped(server: "subprocess.Popen[bytes]", stop_signal: int, grace_seconds: float) -> int:
    server.send_signal(stop_signal)
    try:
        server.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    return _exit_code(server.returncode)


def _exit_code(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode


def _dying_with(watchdog: int, death_signal: int) -> Callable[[], None]:
    """Return what the server does between fork and exec, so that even a killed watchdog takes it along (Linux)."""
    prctl = None
    with contextlib.suppress(AttributeError, OSError):
        prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != watchdog:
                os._exit(1)

    return before_exec


if __name__ == "__main__":
    sys.exit(main())
