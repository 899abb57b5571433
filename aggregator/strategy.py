"""One task, one bounded sum, one release: the strategy that runs on any Flower `Grid`.

A strategy by role, not by inheritance: Flower's `Strategy.start` collects every reply before it
hands them over, and its five abstract methods speak of arrays and metrics that do not exist here.

Rules a reader can check line by line:

1. The ledger reserves the release first. Where the budget is spent, nobody is asked anything.
2. Each node is invited once: at the start, or when it checks in while the task recruits. Only a
   node whose acceptance was admitted gets the order.
3. Each reply is judged and folded as it comes, then dropped: memory is O(model), plus a few bytes a
   node, plus one chunk of replies of at most ``chunk_bytes``.
4. Consent is looked up right before the order is sent, and again right before the vector is added.
5. A reply counts only for a message that is waiting for one, and only from the node that was asked;
   anything else is ignored (and numbered in ``TaskResult.ignored``).
6. Below the quorum, or on any error, the reservation is voided and nothing is published.
7. The ledger commits before the noise is drawn, hence before anyone can see the sum. A commit that
   fails, or a crash after it, leaves the cost standing: over-counted, never under-counted.

Every node has weight one, and the denominator is the report goal, fixed before anyone answered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from aggregator.admission import Consents, MayTakePart
from aggregator.collection import Collection, CollectionPlan, Progress, Stage
from client_sdk.wire import Order, Refusal, Signer
from privacy.bounded_sum import BoundedSum
from privacy.events import MechanismName, ReleaseEvent
from privacy.local import LocalGaussian
from privacy.mechanisms import mechanism_for
from privacy.noise import GaussianNoise

__all__ = [
    "BoundedSumStrategy",
    "Collected",
    "Progress",
    "ReleaseLedger",
    "Stage",
    "TaskPlan",
    "TaskStrategy",
    "book_and_release",
]


class ReleaseLedger(Protocol):
    """What the strategy needs of the ledger."""

    def reserve(self, event: ReleaseEvent) -> str:
        """Set the cost of a release aside, or raise `BudgetExhaustedError`."""
        ...

    def commit(self, reservation: str, accepted: int) -> None:
        """Record that the release happened."""
        ...

    def void(self, reservation: str, reason: str) -> None:
        """Give the cost back: nothing was released."""
        ...


@dataclass(frozen=True, kw_only=True)
class TaskPlan(CollectionPlan):
    """Everything that is fixed before the first node is asked, for a task of one release.

    Attributes:
        event: The release as the ledger reserves it.
        noise: A noise source of the kind that the event names; None for a release without noise.
    """

    event: ReleaseEvent
    noise: GaussianNoise | None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("task_id", "kind", "population", "dimension", "clip_norm"):
            asked, reserved = getattr(self.order, name), getattr(self.event, name)
            if asked != reserved:
                raise ValueError(f"{name} is {asked!r} in the order but {reserved!r} in the event")

    def new_sum(self) -> BoundedSum:
        """Make the sum that the event's mechanism needs.

        Of messages with local noise, which are clipped to the norm of an honest one; or of one
        entry a person for discrete Laplace, whose sensitivity is in L1.
        """
        event = self.event
        if event.mechanism is MechanismName.LOCAL_GAUSSIAN:
            local = LocalGaussian(
                clip_norm=event.clip_norm, noise_multiplier=event.noise_multiplier
            )
            bound = local.message_norm(dimension=event.dimension)
            return BoundedSum(dimension=event.dimension, clip_norm=bound)
        return BoundedSum(
            dimension=event.dimension,
            clip_norm=event.clip_norm,
            one_entry=event.mechanism is MechanismName.DISCRETE_LAPLACE,
        )


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What one task gave.

    Attributes:
        order: What was asked.
        event: What was released, as the ledger recorded it.
        noisy_sum: float64[dimension], the sum of clipped contributions plus noise.
        invited: Nodes that were asked.
        accepted: Contributions in the sum.
        refusals: The other nodes, by reason; each node is counted once.
        ignored: Replies that nobody waited for: duplicates, unknown nodes, another's message.
        seconds: How long it took.
    """

    order: Order
    event: ReleaseEvent
    noisy_sum: NDArray[np.float64]
    invited: int
    accepted: int
    refusals: Counter[Refusal]
    ignored: int
    seconds: float

    @property
    def report_goal(self) -> int:
        """The fixed denominator, in people, that turns the sum into a mean."""
        return self.event.report_goal


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The sum of one task before its noise: not for publication.

    Attributes:
        order: What was asked.
        total: The sum, to be released once.
        contributors: Public keys of the devices in it.
        invited: Nodes that were asked.
        refusals: The other nodes, by reason; each node is counted once.
        ignored: Replies that nobody waited for.
        seconds: How long it took.
    """

    order: Order
    total: BoundedSum
    contributors: frozenset[str]
    invited: int
    refusals: Counter[Refusal]
    ignored: int
    seconds: float

    @property
    def accepted(self) -> int:
        """Contributions in the sum."""
        return self.total.count


class TaskStrategy(Protocol):
    """What a campaign needs of whatever asks people; `BoundedSumStrategy` asks real devices."""

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Run one task to its release; see `BoundedSumStrategy.start`."""
        ...

    def collect(
        self,
        grid: Grid,
        plan: CollectionPlan,
        *,
        node_ids: Sequence[int] | None = None,
        may_take_part: MayTakePart | None = None,
    ) -> Collected:
        """Ask, judge and add up, and release nothing; see `BoundedSumStrategy.collect`."""
        ...


def book_and_release(
    plan: TaskPlan, *, ledger: ReleaseLedger, collect: Callable[[], Collected]
) -> TaskResult:
    """Reserve, collect, commit, and only then draw noise and hand out: rules 1, 6 and 7.

    Args:
        plan: What is asked, and how it is released.
        ledger: Where it is booked.
        collect: Asks and adds up; whatever it raises voids the reservation.

    Raises:
        BudgetExhaustedError: the ledger refused; nobody was asked.
    """
    mechanism = mechanism_for(plan.event, noise=plan.noise)
    reservation = ledger.reserve(plan.event)
    try:
        collected = collect()
    except BaseException as error:
        ledger.void(reservation, type(error).__name__)
        raise
    ledger.commit(reservation, collected.accepted)
    return TaskResult(
        order=plan.order,
        event=plan.event,
        noisy_sum=collected.total.release(mechanism),
        invited=collected.invited,
        accepted=collected.accepted,
        refusals=collected.refusals,
        ignored=collected.ignored,
        seconds=collected.seconds,
    )


@dataclass(frozen=True, kw_only=True)
class BoundedSumStrategy:
    """Runs bounded-sum tasks over a Flower grid, one at a time.

    Attributes:
        signer: The aggregator's key, which devices have pinned.
        ledger: Reserves, commits and voids releases.
        consents: The registry of receipts.
        directory: Node id to the public key of the device enrolled for it.
        clock: Seconds since 1970 (UTC).
        sleep: Waits so many seconds between two empty pulls.
        poll_interval_s: How long to wait after a pull that brought nothing.
        chunk_bytes: Upper bound on the replies held at a time.
        earlier_tasks: Ids of tasks that this aggregator ran before.
        on_progress: Called with the stage, how many nodes reached it, and how many could.
    """

    signer: Signer
    ledger: ReleaseLedger
    consents: Consents
    directory: Mapping[int, str]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    poll_interval_s: float = 0.25
    chunk_bytes: int = 8 * 1024 * 1024
    earlier_tasks: Container[str] = frozenset()
    on_progress: Progress | None = None

    def start(
        self, grid: Grid, plan: TaskPlan, *, node_ids: Sequence[int] | None = None
    ) -> TaskResult:
        """Run one task to its release.

        Args:
            grid: In-process or a real SuperLink's.
            plan: What is asked, and how it is released.
            node_ids: The cohort; by default every node that the grid knows.

        Returns:
            The noisy sum, after the ledger has committed it.

        Raises:
            BudgetExhaustedError: the ledger refused; nobody was asked.
            QuorumNotReachedError: too few contributions; nothing was published.
            ValueError: the task closes in the past.
        """
        self._check_open(plan)
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
        """Ask, judge and add up, and release nothing: a round of a run that is booked as a whole.

        Args:
            grid: In-process or a real SuperLink's.
            plan: What is asked.
            node_ids: The cohort; by default every node that the grid knows.
            may_take_part: Whether a device (by its public key) may be in this round of its run.

        Raises:
            QuorumNotReachedError: too few contributions.
            ValueError: the task closes in the past.
        """
        started_s = self.clock()
        self._check_open(plan)
        collection = Collection(asker=self, plan=plan, grid=grid, may_take_part=may_take_part)
        collection.run(node_ids)
        collection.require_quorum()
        return Collected(
            order=plan.order,
            total=collection.total,
            contributors=collection.admission.contributors,
            invited=collection.invited,
            refusals=collection.admission.refusals,
            ignored=collection.ignored,
            seconds=self.clock() - started_s,
        )

    def _check_open(self, plan: CollectionPlan) -> None:
        if plan.order.closes_at_s <= self.clock():
            raise ValueError("the order closes in the past; make a new one")
