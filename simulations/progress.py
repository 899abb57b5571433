"""How far a long run is: one updating line on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

_REFRESH_S: Final = 0.1
_WIDTH: Final = 78
_CLEAR: Final = "\r" + " " * _WIDTH + "\r"


class Progress:
    """Tells a person what is being done.

    Args:
        stream: Where to write; stderr in the command.
        live: Whether the stream is a terminal that can update a line; asked of it when None.
        clock: Seconds that never go back.
        quiet: Write nothing at all.

    Example:
        >>> import sys
        >>> progress = Progress(sys.stdout, live=False, clock=lambda: 0.0)
        >>> progress.stage("asking 798 devices", total=798)
        asking 798 devices
        >>> progress.step(798)
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
    ) -> None:
        self._stream = stream
        self._live = stream.isatty() if live is None else live
        self._clock = clock
        self._quiet = quiet
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._began_s = 0.0
        self._shown_s = float("-inf")

    def stage(self, name: str, *, total: int | None = None) -> None:
        """Begin the next stage; the one before is finished.

        Args:
            name: What is done now, in plain words.
            total: How many steps it takes, where that is known.
        """
        self._finish()
        self._name, self._total, self._done = name, total, 0
        self._began_s, self._shown_s = self._clock(), float("-inf")
        if self._live:
            self._show()
        else:
            self._write(name + "\n")

    def step(self, count: int = 1) -> None:
        """Say that some steps of the stage are done."""
        self._done += count
        if self._live and self._clock() - self._shown_s >= _REFRESH_S:
            self._show()

    def close(self) -> None:
        """Finish the last stage and leave the line clean for what comes next."""
        self._finish()
        self._name = ""

    def _finish(self) -> None:
        """On a terminal, replace the updating line by one that stays."""
        if self._live and self._name:
            took_s = self._clock() - self._began_s
            self._write(f"{_CLEAR}{self._name[: _WIDTH - 12]}  {took_s:.1f} s\n")

    def _show(self) -> None:
        """Draw the line with per cent and the time left."""
        self._shown_s = self._clock()
        tail = ""
        if self._total:
            share = min(1.0, self._done / self._total)
            tail = f"  {share:4.0%}"
            if 0 < share < 1:
                left_s = (self._shown_s - self._began_s) * (1 - share) / share
                tail += f"  {_duration(left_s)} left"
        self._write(f"{_CLEAR}{self._name[: _WIDTH - len(tail)]}{tail}")

    def _write(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(text)
            self._stream.flush()


def _duration(seconds: float) -> str:
    """Give a time in the unit that suits it."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
