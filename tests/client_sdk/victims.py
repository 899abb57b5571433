"""Processes to kill: a server that forks one for each order, and the one who kills them.

A server is a script that calls `serve`. For each line of JSON on its input it forks a child, which
works until somebody kills it, and says on the output, one line of JSON each:

- ``{"pid": …}`` from the server;
- whatever the child says while it works; ``{"error": …}`` if it fails, which it must not;
- ``{"end": true}`` from the server, when the child is gone.

Forking costs milliseconds where a new process costs a second of imports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Self

from client_sdk.signals.sealing import KEY_BYTES, Sealer


def say(value: dict[str, Any]) -> None:
    """Write one line at once."""
    os.write(1, (json.dumps(value) + "\n").encode())


def serve(work: Callable[[dict[str, Any]], None]) -> None:
    """Fork a child for each order, to ``work`` on it."""
    # Loads what is loaded on use, once for all children.
    Sealer(bytes(KEY_BYTES)).seal(b"", b"")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                work(json.loads(line))
            except Exception as error:  # noqa: BLE001 - whoever kills must hear of it
                say({"error": repr(error)})
            # Until killed, so that its number stays its own.
            while True:
                signal.pause()
        say({"pid": child})
        os.waitpid(child, 0)
        say({"end": True})


class Victims:
    """The server that makes processes to kill; it has imported everything once."""

    def __init__(self, to_server: IO[str], from_server: IO[str]) -> None:
        self._to_server = to_server
        self._from_server = from_server

    @classmethod
    @contextmanager
    def of(cls, script: str) -> Iterator[Self]:
        """Run a server as long as the block lasts."""
        with subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            yield cls(server.stdin, server.stdout)
            server.stdin.close()

    def kill_one(self, order: dict[str, Any], after_s: float) -> list[dict[str, Any]]:
        """Let one work for a while, kill it, and give what it said."""
        self._to_server.write(json.dumps(order) + "\n")
        self._to_server.flush()
        pid = None
        # The child may speak before the server says who it is.
        said: list[dict[str, Any]] = []
        while pid is None:
            line = self._said()
            pid = line.get("pid")
            said += [line] if pid is None else []
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
        while (line := self._said()) != {"end": True}:
            said.append(line)
        return said

    def time_one(self, order: dict[str, Any], last: Callable[[dict[str, Any]], bool]) -> float:
        """Let one work until it says the last thing, kill it, and give the seconds it took.

        So kills can be drawn from the time that it takes on this machine, busy as it is. Take the
        second one's: the first waits for what the machine has to load.
        """
        started = time.perf_counter()
        self._to_server.write(json.dumps(order) + "\n")
        self._to_server.flush()
        pid, over = None, False
        while pid is None or not over:
            line = self._said()
            assert "error" not in line, line
            pid = line.get("pid", pid)
            over = over or last(line)
        taken_s = time.perf_counter() - started
        os.kill(pid, signal.SIGKILL)
        while self._said() != {"end": True}:
            pass
        return taken_s

    def _said(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self._from_server.readline())
        return line
