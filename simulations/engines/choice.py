"""Which engine an experiment runs on, and why: decided before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from client_sdk.ports import Clock
from client_sdk.testing import FixedClock
from simulations.engines.engine import Engine, RunningClock, Setup
from simulations.kernel.compiled import KernelUnavailableError, load
from simulations.settings import EngineName, SettingsError

OpenEngine = Callable[[EngineName, Setup], AbstractContextManager[Engine]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine, and the reason for it in a sentence."""

    name: EngineName
    why: str

    @classmethod
    def for_demo(cls) -> Choice:
        """Real devices, always: the demo is the proof."""
        return cls(name="devices", why="")


def choose_engine(
    asked: EngineName | None,
    *,
    people: int,
    have_events: bool = True,
    compiled: Callable[[], object] = load,
) -> Choice:
    """Choose: what was asked for, else the kernel where this machine can compile it.

    Args:
        asked: What the settings say; None leaves the choice.
        people: How many there are.
        have_events: Whether there are events to fill real devices with.
        compiled: Loads the kernel; raises where there is none.

    Raises:
        SettingsError: what was asked for cannot run here; the message says what can.
    """
    if asked == "superlink":
        from simulations.engines.superlink import check_size

        check_size(people)
    if asked == "devices" or asked == "superlink":  # noqa: PLR1714 -- mypy narrows no set
        return Choice(name=asked, why="as asked")
    try:
        compiled()
    except KernelUnavailableError as error:
        if asked == "kernel" or not have_events:
            raise SettingsError(str(error)) from error
        return Choice(name="devices", why=f"there is no compiled kernel here: {error}")
    if asked == "kernel":
        return Choice(name="kernel", why="as asked")
    return Choice(
        name="kernel",
        why="the task has a kernel, and this machine compiled it; no device was made",
    )


def clock_for(name: EngineName, *, now_s: float) -> Clock:
    """Give the time of an experiment: it stands still, unless a network needs it to pass."""
    return RunningClock(now_s) if name == "superlink" else FixedClock(now_s)


def open_engine(name: EngineName, setup: Setup) -> AbstractContextManager[Engine]:
    """Make an engine; what it does not need is not imported.

    Raises:
        SettingsError: the people there are cannot be asked in this way.
    """
    if name == "kernel":
        from simulations.engines.rows import open_rows

        return open_rows(setup)
    if name == "devices":
        from simulations.engines.devices import open_devices

        return open_devices(setup)
    from simulations.engines.superlink import open_superlink

    return open_superlink(setup)
