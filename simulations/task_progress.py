"""Shows how far a federated task is: a stage that ends when everyone has answered."""

from __future__ import annotations

from collections.abc import Callable

from aggregator.strategy import Stage
from simulations.progress import Progress


class TaskProgress:
    """What a strategy reports, as stages and steps for a person to watch.

    Args:
        progress: Where it is shown.
        words: Names a stage, from the task's number (from 1) and how many devices are invited.
    """

    def __init__(self, progress: Progress, words: Callable[[int, int], str]) -> None:
        self._progress = progress
        self._words = words
        self._task = 0
        self._shown = 0

    def __call__(self, stage: Stage, done: int, total: int) -> None:
        """Take one report of the strategy."""
        if stage is Stage.INVITED:
            self._task += 1
            self._shown = 0
            self._progress.stage(self._words(self._task, total), total=total)
        elif stage is Stage.ADDED and done > self._shown:
            self._progress.step(done - self._shown)
            self._shown = done
