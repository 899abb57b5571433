"""A round's parts, told apart: people's updates, and the moment before noise is drawn."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order
from privacy.events import ReleaseEvent
from simulations.engines.crowd import WILLING
from simulations.engines.encoders import AS_FAST, encoder_for
from simulations.engines.holdings import Holdings
from simulations.engines.pool import BLOCK, ShardSum
from simulations.kernel.binding import Status


class SplitPool:
    """Adds up as `simulations.engines.pool.Threads` does with one worker, and times people alone.

    Attributes:
        people_s: What the last cohort's updates took, without reading the order's table.
    """

    def __init__(self) -> None:
        self.people_s = 0.0

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up the contributions of these people, in their order."""
        encode = encoder_for(order, holdings, AS_FAST)
        steps = np.zeros(order.dimension, np.int64)
        started = time.perf_counter()
        for start in range(0, len(people), BLOCK):
            done = encode(people[start : start + BLOCK], steps)
            if np.any(done.status != Status.DONE):
                raise SystemExit("a synthetic person has nothing to send")
        self.people_s = time.perf_counter() - started
        return ShardSum(steps=steps, outcome=np.full(len(people), WILLING, np.int8))


class NotingLedger:
    """Books nothing, and notes when a release is committed: then the noise is drawn."""

    def __init__(self) -> None:
        self.committed = 0.0

    def reserve(self, event: ReleaseEvent) -> str:
        """Let everything pass."""
        return event.task_id

    def commit(self, reservation: str, accepted: int) -> None:
        """Note the time."""
        del reservation, accepted
        self.committed = time.perf_counter()

    def void(self, reservation: str, reason: str) -> None:
        """Forget it."""
