"""Simulated time: a while passes between two tasks, so that the hour of the day matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flwr.serverapp import Grid

from aggregator.admission import MayTakePart
from aggregator.collection import CollectionPlan
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy


@dataclass(frozen=True, kw_only=True)
class PacedStrategy:
    """Passes tasks on to an engine, and lets time pass after each; a `TaskStrategy`.

    Attributes:
        inner: The engine.
        wait: Moves the clock of everyone on to the next task; also where a task failed.
    """

    inner: TaskStrategy
    wait: Callable[[], None]

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Run one task to its release."""
        try:
            return self.inner.start(grid, plan, node_ids=node_ids)
        finally:
            self.wait()

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Run one round of a run."""
        try:
            return self.inner.collect(grid, plan, node_ids=node_ids, may_take_part=may_take_part)
        finally:
            self.wait()
