"""Who adds up: one or many workers, each a shard of the people, merged as integers.

Rules a reader can check line by line:

1. A shard's sum is int64 steps on the aggregator's lattice, so that the merged sum has the same
   bits for any number of workers, any size of block, and any order in which shards come back.
2. A shard is worked off in blocks: memory is that of one block for each worker.
3. A pool holds no state of a simulation: who takes part and what is booked is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order
from simulations.engines.crowd import WILLING, code_of
from simulations.engines.encoders import (
    AS_FAST,
    REFUSAL_OF,
    KernelOptions,
    OrderRefusedError,
    encoder_for,
)
from simulations.engines.holdings import Holdings
from simulations.kernel.binding import Status, fit_entry

BLOCK: Final = 4_096


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardSum:
    """What some people contribute to a task.

    Attributes:
        steps: int64[dimension], the sum in lattice steps.
        outcome: int8[m], `WILLING` where the contribution is in the sum, else a reason's code.
    """

    steps: NDArray[np.int64]
    outcome: NDArray[np.int8]


class Pool(Protocol):
    """Adds up what people contribute, wherever that is computed."""

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up the contributions of these people, in their order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Threads:
    """A pool of threads of this process; the kernel lets them run side by side.

    Attributes:
        workers: How many; the result does not depend on it.
        block: People that one thread lays out at a time.
        options: How the kernel computes.

    Raises:
        ValueError: less than one worker, or an empty block.
    """

    workers: int = 1
    block: int = BLOCK
    options: KernelOptions = AS_FAST

    def __post_init__(self) -> None:
        if self.workers < 1 or self.block < 1:
            raise ValueError(f"workers and block must be at least 1; got {self}")

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up the contributions of these people, in their order."""
        shards = np.array_split(people, self.workers)

        def work(shard: NDArray[np.int64]) -> ShardSum:
            return add_up_shard(order, holdings, shard, block=self.block, options=self.options)

        if self.workers == 1:
            return work(people)
        with ThreadPoolExecutor(self.workers) as threads:
            return merged(list(threads.map(work, shards)))


ONE_THREAD: Final = Threads()


def merged(shards: Sequence[ShardSum]) -> ShardSum:
    """Put shards together, in the order of their people; they may be read-only, and stay as is."""
    steps = shards[0].steps
    if len(shards) > 1:
        steps = steps.copy()
        for shard in shards[1:]:
            steps += shard.steps
    return ShardSum(steps=steps, outcome=np.concatenate([each.outcome for each in shards]))


def add_up_shard(
    order: Order,
    holdings: Holdings,
    people: NDArray[np.int64],
    *,
    block: int,
    options: KernelOptions,
) -> ShardSum:
    """Add up one shard, block by block: what a worker does.

    Args:
        order: What is asked.
        holdings: What devices hold.
        people: int64[m], by number.
        block: People laid out at a time.
        options: How the kernel computes.
    """
    outcome = np.full(len(people), WILLING, np.int8)
    try:
        encode = encoder_for(order, holdings, options)
    except OrderRefusedError as refused:
        outcome[:] = code_of(refused.reason)
        return ShardSum(steps=np.zeros(order.dimension, np.int64), outcome=outcome)
    steps, balance = np.zeros(order.dimension - order.clipping.extra_entries, np.int64), 0
    for start in range(0, len(people), block):
        done = encode(people[start : start + block], steps)
        said = outcome[start : start + block]
        for status, reason in REFUSAL_OF.items():
            said[done.status == status] = code_of(reason)
        sent = done.norms[done.status == Status.DONE]
        balance += 2 * int(np.count_nonzero(sent <= order.clip_norm)) - len(sent)
    if order.clipping.extra_entries:
        steps = np.append(steps, np.int64(balance * fit_entry(order.clipping.count_share)))
    return ShardSum(steps=steps, outcome=outcome)
