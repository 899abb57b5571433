"""Progress is a line a stage in a log, and one live line on a terminal."""

from __future__ import annotations

import io

from simulations.progress import Progress


class Clock:
    """Seconds that the test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        """Give the test's time."""
        return self.now_s


def last_line(stream: io.StringIO) -> str:
    """Give what a person sees on the live line."""
    return stream.getvalue().rsplit("\r", 1)[-1]


def test_progress_in_a_log_writes_a_line_a_stage() -> None:
    """No control characters, nothing for steps."""
    stream = io.StringIO()
    progress = Progress(stream)
    progress.stage("reading")
    progress.stage("asking", total=10)
    progress.step(10)
    progress.close()
    assert stream.getvalue() == "reading\nasking\n"


def test_progress_on_a_terminal_shows_per_cent_and_time_left() -> None:
    """After a quarter in five seconds, fifteen are left."""
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, live=True, clock=clock)
    progress.stage("asking", total=100)
    assert last_line(stream) == "asking    0%"
    clock.now_s = 5.0
    progress.step(25)
    assert last_line(stream) == "asking   25%  15 s left"
    progress.close()
    assert last_line(stream) == "asking  5.0 s\n"


def test_progress_long_work_gives_minutes() -> None:
    """Hours of seconds are hard to read."""
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, live=True, clock=clock)
    progress.stage("asking", total=10)
    clock.now_s = 61.0
    progress.step()
    assert last_line(stream).endswith("9 min 09 s left")


def test_progress_many_steps_do_not_flood_the_terminal() -> None:
    """Ten lines a second are enough."""
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, live=True, clock=clock)
    progress.stage("asking", total=1000)
    before = len(stream.getvalue())
    for _ in range(999):
        progress.step()
    assert len(stream.getvalue()) == before


def test_progress_more_steps_than_expected_stay_at_hundred() -> None:
    """A wrong guess of the total is no error."""
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, live=True, clock=clock)
    progress.stage("asking", total=1)
    clock.now_s = 1.0
    progress.step(5)
    assert last_line(stream) == "asking  100%"


def test_progress_quiet_writes_nothing() -> None:
    """``--quiet`` means it."""
    stream = io.StringIO()
    progress = Progress(stream, live=True, quiet=True)
    progress.stage("asking", total=1)
    progress.step()
    progress.close()
    progress.close()
    assert stream.getvalue() == ""
