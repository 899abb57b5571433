"""The engine `kernel`: many people's contributions in one compiled pass, and no device.

Rules a reader can check line by line:

1. It runs a task in the order of `aggregator.strategy`: the ledger reserves; who takes part is
   found (`simulations.engines.crowd`); their contributions are added up; below the quorum, or on
   any error, the reservation is voided; the ledger commits before the noise is drawn; the noise
   comes from the same mechanism.
2. What is added for a person is what their device would send, to 1e-5 (`simulations.kernel`).
3. Workers each take a part of the people and add integers (`simulations.engines.pool`): the same
   bits for any number of them.
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
from client_sdk.wire import Refusal
from privacy.events import MechanismName
from simulations.engines.crowd import REASONS, WILLING, Crowd, code_of
from simulations.engines.encoders import UnsupportedByKernelError, check_supported
from simulations.engines.pool import ONE_THREAD, Pool

_NOT_PLAIN: Final = (MechanismName.LOCAL_GAUSSIAN, MechanismName.DISCRETE_LAPLACE)


@dataclass(frozen=True, kw_only=True)
class KernelStrategy:
    """Runs tasks over a simulated crowd; an `aggregator.strategy.TaskStrategy`.

    Attributes:
        ledger: Reserves, commits and voids releases.
        crowd: The people.
        pool: Who adds up; the result does not depend on it.
        clock: Seconds since 1970 (UTC).
        on_progress: Told how far a task is.
    """

    ledger: ReleaseLedger
    crowd: Crowd
    pool: Pool = ONE_THREAD
    clock: Callable[[], float] = time.time
    on_progress: Progress | None = None

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
        found[willing] = self.crowd.hand_out(order, people[willing])
        total, asked = plan.new_sum(), np.flatnonzero(found == WILLING)
        added = self.pool.add_up(order, self.crowd.holdings, people[asked])
        found[asked] = added.outcome
        contributors = people[found == WILLING]
        total.add_partial(added.steps, count=len(contributors))
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
        check_supported(plan.order)
        if plan.order.closes_at_s <= self.clock():
            raise ValueError("the order closes in the past; make a new one")

    def _people(self, node_ids: Sequence[int] | None) -> tuple[NDArray[np.int64], int]:
        """Give the people behind the node ids, each once, and how many ids are nobody's."""
        if node_ids is None:
            return np.arange(self.crowd.people, dtype=np.int64), 0
        asked = np.fromiter(dict.fromkeys(node_ids), np.int64) - 1
        known = (asked >= 0) & (asked < self.crowd.people)
        return asked[known], int(np.count_nonzero(~known))

    def _report(self, stage: Stage, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(stage, done, total)


def _counted(found: NDArray[np.int8]) -> Counter[Refusal]:
    codes, counts = np.unique(found[found != WILLING], return_counts=True)
    return Counter({REASONS[code]: int(count) for code, count in zip(codes, counts, strict=True)})
