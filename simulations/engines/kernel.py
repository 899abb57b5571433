"""The engine `kernel`: many people's contributions in one compiled pass, and no device.

Rules a reader can check line by line:

1. It runs a task in the order of `aggregator.strategy`: the ledger reserves; who takes part is
   found (`simulations.engines.crowd`); their contributions are added up; below the quorum, or on
   any error, the reservation is voided; the ledger commits before the noise is drawn; the noise
   comes from the same mechanism.
2. What is added for a person is what their device would send, to 1e-5 (`simulations.kernel`).
3. ``workers`` threads each take a part of the people, in blocks, and add integers: the same bits
   for any number of workers and any size of block.
4. The aggregator's own count of participations is asked about each person, unless these people were
   there from the run's first round: then what they remember already holds all that it could know.
5. A task, mechanism or clipping that has no kernel is `UnsupportedByKernelError`, before anything
   is reserved: it runs on devices.

Nothing is signed and no consent is recorded: this is a simulation, never a way to ask real people.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from aggregator.admission import MayTakePart
from aggregator.collection import CollectionPlan, Progress, Stage
from aggregator.errors import QuorumNotReachedError
from aggregator.strategy import (
    Collected,
    ReleaseLedger,
    TaskPlan,
    TaskResult,
    book_and_release,
)
from client_sdk.wire import Order, Refusal, TaskKind
from client_sdk.wire.table import RankerSettings
from privacy.events import MechanismName
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import REASONS, WILLING, Crowd, code_of
from simulations.kernel.binding import (
    Contributions,
    ItemTraining,
    Status,
    count_items,
    fit_entry,
    item_statistics,
    train_items,
)

_BLOCK: Final = 4_096
_SUPPORTED: Final = (TaskKind.ITEM_COUNTS, TaskKind.ITEM_STATISTICS, TaskKind.ITEM_TRAINING)
_NOT_PLAIN: Final = (MechanismName.LOCAL_GAUSSIAN, MechanismName.DISCRETE_LAPLACE)
_BINARY: Final = RankerSettings(weighting="binary", half_life_days=float("inf"))

Encode = Callable[[HistoryColumns, NDArray[np.int64]], Contributions]


class UnsupportedByKernelError(ValueError):
    """There is no kernel for this; nothing was reserved, and the engine `devices` can do it."""


class _OrderRefusedError(Exception):
    """No device can obey the order's payload; never leaves this module."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class KernelStrategy:
    """Runs tasks over a simulated crowd; an `aggregator.strategy.TaskStrategy`.

    Attributes:
        ledger: Reserves, commits and voids releases.
        crowd: The people.
        workers: Threads; the result does not depend on it.
        block: People that one thread lays out at a time; bounds memory.
        by_rows: Item training by the general kernel, row by row; slower, the same to rounding.
        clock: Seconds since 1970 (UTC).
        on_progress: Told how far a task is.
    """

    ledger: ReleaseLedger
    crowd: Crowd
    workers: int = 1
    block: int = _BLOCK
    by_rows: bool = False
    clock: Callable[[], float] = time.time
    on_progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.workers < 1 or self.block < 1:
            raise ValueError(f"workers and block must be at least 1; got {self}")

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Run one task to its release.

        Args:
            grid: Not used: nobody is called.
            plan: What is asked, and how it is released.
            node_ids: The cohort, each a person's number plus one; by default everyone.

        Raises:
            BudgetExhaustedError: the ledger refused; nobody was asked.
            QuorumNotReachedError: too few contributions; nothing was published.
            UnsupportedByKernelError: nothing was reserved.
            ValueError: the task closes in the past.
        """
        self._check(plan)
        if plan.event.mechanism in _NOT_PLAIN:
            raise UnsupportedByKernelError(
                f"{plan.event.mechanism.value} has no kernel; run it on the engine devices"
            )
        return book_and_release(
            plan, ledger=self.ledger, collect=lambda: self.collect(grid, plan, node_ids=node_ids)
        )

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Find who takes part, add up what they send, and release nothing.

        Args:
            grid: Not used.
            plan: What is asked.
            node_ids: The cohort; by default everyone.
            may_take_part: Whether a device (by its public key) may be in this round of its run.

        Raises:
            QuorumNotReachedError: too few contributions.
            UnsupportedByKernelError: nobody was asked.
            ValueError: the task closes in the past.
        """
        del grid
        self._check(plan)
        started_s, order = self.clock(), plan.order
        people, unknown = self._people(node_ids)
        self._report(Stage.INVITED, len(people), len(people))
        found = self.crowd.invite(order, people)
        if may_take_part is not None and not self.crowd.remembers_all_of(order):
            for at in np.flatnonzero(found == WILLING):
                if not may_take_part(self.crowd.name_of(int(people[at]))):
                    found[at] = code_of(Refusal.PARTICIPATION_EXCEEDED)
        willing = np.flatnonzero(found == WILLING)
        self._report(Stage.ACCEPTED, len(willing), len(people))
        leaving = self.crowd.withdraw(order, people[willing])
        found[willing[leaving]] = code_of(Refusal.CONSENT_WITHDRAWN)
        total, asked = plan.new_sum(), np.flatnonzero(found == WILLING)
        steps, found[asked] = self._add_up(order, people[asked])
        contributors = people[found == WILLING]
        total.add_partial(steps, count=len(contributors))
        self.crowd.remember(order, contributors)
        self._report(Stage.ADDED, len(contributors), len(willing))
        refusals = _counted(found)
        if unknown:
            refusals[Refusal.UNKNOWN_DEVICE] += unknown
        if total.count < plan.quorum:
            raise QuorumNotReachedError(
                accepted=total.count,
                quorum=plan.quorum,
                refusals={reason.value: count for reason, count in refusals.items()},
            )
        return Collected(
            order=order,
            total=total,
            contributors=frozenset(self.crowd.name_of(int(each)) for each in contributors),
            invited=len(people),
            refusals=refusals,
            ignored=0,
            seconds=self.clock() - started_s,
        )

    def _check(self, plan: CollectionPlan) -> None:
        order = plan.order
        if order.kind not in _SUPPORTED:
            raise UnsupportedByKernelError(
                f"{order.kind.value} has no kernel; run it on the engine devices"
            )
        counts_elsewhere = order.clipping.count_share and order.kind is not TaskKind.ITEM_TRAINING
        if order.clipping.layers or counts_elsewhere:
            raise UnsupportedByKernelError(
                "this clipping has no kernel; run it on the engine devices"
            )
        if order.closes_at_s <= self.clock():
            raise ValueError("the order closes in the past; make a new one")

    def _people(self, node_ids: Sequence[int] | None) -> tuple[NDArray[np.int64], int]:
        """Give the people behind the node ids, each once, and how many ids are nobody's."""
        if node_ids is None:
            return np.arange(self.crowd.people, dtype=np.int64), 0
        asked = np.fromiter(dict.fromkeys(node_ids), np.int64) - 1
        known = (asked >= 0) & (asked < self.crowd.people)
        return asked[known], int(np.count_nonzero(~known))

    def _add_up(
        self, order: Order, people: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Add up what people send: int64[dimension], and int8[m], who sent nothing and why."""
        outcome = np.full(len(people), WILLING, np.int8)
        try:
            encode = self._encoder(order)
        except _OrderRefusedError as refused:
            outcome[:] = code_of(refused.reason)
            return np.zeros(order.dimension, np.int64), outcome
        update = order.dimension - order.clipping.extra_entries
        shards = np.array_split(np.arange(len(people)), self.workers)

        def work(shard: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
            steps, balance = np.zeros(update, np.int64), 0
            for start in range(0, len(shard), self.block):
                at = shard[start : start + self.block]
                done = encode(self.crowd.histories.of(people[at]), steps)
                outcome[at[done.status == Status.NOTHING_TO_SEND]] = code_of(
                    Refusal.TOO_LITTLE_DATA
                )
                outcome[at[done.status == Status.NOT_FINITE]] = code_of(Refusal.OUTBOUND_GUARD)
                sent = done.norms[done.status == Status.DONE]
                fitted = int(np.count_nonzero(sent <= order.clip_norm))
                balance += 2 * fitted - len(sent)
            return steps, balance

        if self.workers == 1:
            parts = [work(shards[0])]
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                parts = list(pool.map(work, shards))
        total = parts[0][0]
        for steps, _ in parts[1:]:
            total += steps
        if order.clipping.extra_entries:
            balance = sum(part for _, part in parts)
            total = np.append(total, np.int64(balance * fit_entry(order.clipping.count_share)))
        return total, outcome

    def _encoder(self, order: Order) -> Encode:
        """Give what adds a block of people's contributions to a sum."""
        if order.kind is TaskKind.ITEM_COUNTS:
            return self._counts(order)
        if order.kind is TaskKind.ITEM_STATISTICS:
            return self._statistics(order)
        return self._training(order)

    def _counts(self, order: Order) -> Encode:
        if order.payload:
            raise _OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)

        def encode(block: HistoryColumns, into: NDArray[np.int64]) -> Contributions:
            rows = block.weigh(_BINARY)
            everyone = np.arange(block.people)
            return count_items(
                rows, everyone, n_items=order.dimension, clip_norm=order.clip_norm, into=into
            )

        return encode

    def _statistics(self, order: Order) -> Encode:
        top_items = int(order.parameters["top_items"])
        if len(order.payload) != 4 * top_items:
            raise _OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
        top = np.frombuffer(order.payload, "<i4").astype(np.int32)
        rising = bool(np.all(top[1:] > top[:-1]))
        if not rising or top[0] < 0 or int(top[-1]) >= self.crowd.release.n_items:
            raise _OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
        settings = self.crowd.release.settings or RankerSettings()

        def encode(block: HistoryColumns, into: NDArray[np.int64]) -> Contributions:
            rows = block.weigh(settings, within=top)
            everyone = np.arange(block.people)
            return item_statistics(
                rows, everyone, top_items=top_items, clip_norm=order.clip_norm, into=into
            )

        return encode

    def _training(self, order: Order) -> Encode:
        release, asked = self.crowd.release, order.parameters
        settings = release.settings
        if settings is None or release.rank is None:
            raise _OrderRefusedError(Refusal.UNKNOWN_TASK)
        rank, negatives = int(asked["rank"]), int(asked["negatives"])
        if len(order.payload) != 4 * release.n_items * rank or rank != release.rank:
            raise _OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
        factors = np.frombuffer(order.payload, "<f4").astype(np.float32)
        if not np.isfinite(factors).all():
            raise _OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
        room = release.batch // (1 + negatives)
        if room < 1:
            raise _OrderRefusedError(Refusal.DEVICE_ERROR)

        def encode(block: HistoryColumns, into: NDArray[np.int64]) -> Contributions:
            offsets, positives = block.latest(room=room)
            task = ItemTraining(
                factors=factors.reshape(release.n_items, rank),
                positive_offsets=offsets,
                positives=positives,
                seed=int(asked["seed"]),
                steps=int(asked["steps"]),
                learning_rate=float(asked["learning_rate"]),
                negatives=negatives,
                ridge=float(asked["ridge"]),
                by_rows=self.by_rows,
            )
            return train_items(
                block.weigh(settings),
                task,
                np.arange(block.people),
                clip_norm=order.clip_norm,
                count_share=order.clipping.count_share,
                into=into,
            )

        return encode

    def _report(self, stage: Stage, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(stage, done, total)


def _counted(found: NDArray[np.int8]) -> Counter[Refusal]:
    codes, counts = np.unique(found[found != WILLING], return_counts=True)
    return Counter({REASONS[code]: int(count) for code, count in zip(codes, counts, strict=True)})
