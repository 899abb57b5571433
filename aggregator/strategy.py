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

import math
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest
from typing import Final, Protocol, TypeVar

import numpy as np
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from aggregator.admission import Admission, Consents, frame_limit_bytes
from aggregator.envelope import content_of, frame_of, is_from, says_unavailable
from aggregator.errors import QuorumNotReachedError
from client_sdk.wire import Order, Refusal, Signer
from privacy.bounded_sum import BoundedSum
from privacy.errors import ContributionRejectedError
from privacy.events import ReleaseEvent
from privacy.mechanisms import mechanism_for
from privacy.noise import GaussianNoise

_MAX_CHUNK: Final = 64

_T = TypeVar("_T")


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


class Stage(StrEnum):
    """Where the nodes of a task stand, for whoever watches."""

    INVITED = "invited"
    ACCEPTED = "accepted"
    ADDED = "added"


Progress = Callable[[Stage, int, int], None]


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """Everything that is fixed before the first node is asked.

    Attributes:
        order: What is asked, with its payload.
        event: The release as the ledger reserves it.
        noise: A noise source of the kind that the event names; None for a release without noise.
        quorum: Fewest contributions with which the sum may be released; at least 1.
        acceptance_timeout_s: How long a node may take to accept; by default until the task closes.
        recruiting_s: For how long nodes that check in are invited too. By default only at the
            start: a node that is offline then counts as no answer.
    """

    order: Order
    event: ReleaseEvent
    noise: GaussianNoise | None
    quorum: int
    acceptance_timeout_s: float = math.inf
    recruiting_s: float = 0.0

    def __post_init__(self) -> None:
        if self.quorum < 1:
            raise ValueError(f"quorum must be at least 1; got {self.quorum}")
        for name in ("task_id", "kind", "population", "dimension", "clip_norm"):
            asked, reserved = getattr(self.order, name), getattr(self.event, name)
            if asked != reserved:
                raise ValueError(f"{name} is {asked!r} in the order but {reserved!r} in the event")


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
        started_s = self.clock()
        if plan.order.closes_at_s <= started_s:
            raise ValueError("the order closes in the past; make a new one")
        mechanism = mechanism_for(plan.event, noise=plan.noise)
        reservation = self.ledger.reserve(plan.event)
        try:
            collection = _Collection(strategy=self, plan=plan, grid=grid)
            collection.run(node_ids)
            collection.require_quorum()
        except BaseException as error:
            self.ledger.void(reservation, type(error).__name__)
            raise
        self.ledger.commit(reservation, collection.total.count)
        noisy_sum = collection.total.release(mechanism)
        return TaskResult(
            order=plan.order,
            event=plan.event,
            noisy_sum=noisy_sum,
            invited=collection.invited,
            accepted=collection.total.count,
            refusals=collection.admission.refusals,
            ignored=collection.ignored,
            seconds=self.clock() - started_s,
        )


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A message that waits for its reply."""

    node_id: int
    is_invitation: bool
    until_s: float


@dataclass(kw_only=True)
class _Collection:
    """The state of one task while its replies come in."""

    strategy: BoundedSumStrategy
    plan: TaskPlan
    grid: Grid
    invited: int = 0
    accepted: int = 0
    ignored: int = 0
    total: BoundedSum = field(init=False)
    admission: Admission = field(init=False)
    _awaited: dict[str, _Awaited] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        order, strategy = self.plan.order, self.strategy
        self.total = BoundedSum(dimension=order.dimension, clip_norm=order.clip_norm)
        self.admission = Admission(
            order=order,
            directory=strategy.directory,
            consents=strategy.consents,
            clock=strategy.clock,
            earlier_tasks=strategy.earlier_tasks,
        )
        self._chunk = max(1, min(_MAX_CHUNK, strategy.chunk_bytes // frame_limit_bytes(order)))
        self._invitation = content_of(order.to_invitation_bytes(strategy.signer))
        self._order = content_of(order.to_bytes(strategy.signer))

    def run(self, cohort: Sequence[int] | None) -> None:
        """Invite, collect until everyone answered or the task closes, count the silent."""
        recruits_until_s = self.strategy.clock() + self.plan.recruiting_s
        if self.plan.recruiting_s <= 0.0:
            self._invite(self.grid.get_node_ids() if cohort is None else cohort)
        while self._time_left_s() > 0.0:
            complete = cohort is not None and self._seen.issuperset(cohort)
            recruits = self.strategy.clock() < recruits_until_s and not complete
            if recruits:
                self._invite_online(cohort)
            if not self._awaited and not recruits:
                break
            self._give_up(until_s=self.strategy.clock())
            if not self._sweep():
                self.strategy.sleep(min(self.strategy.poll_interval_s, self._time_left_s()))
        self._give_up(until_s=math.inf)

    def require_quorum(self) -> None:
        """Raise `QuorumNotReachedError` where too few contributions came."""
        if self.total.count >= self.plan.quorum:
            return
        refusals = {reason.value: count for reason, count in self.admission.refusals.items()}
        raise QuorumNotReachedError(
            accepted=self.total.count, quorum=self.plan.quorum, refusals=refusals
        )

    def _time_left_s(self) -> float:
        return max(0.0, self.plan.order.closes_at_s - self.strategy.clock())

    def _invite_online(self, cohort: Sequence[int] | None) -> None:
        online = dict.fromkeys(self.grid.get_node_ids())
        self._invite(online if cohort is None else [each for each in cohort if each in online])

    def _invite(self, node_ids: Iterable[int]) -> None:
        """Invite those of these nodes that were not invited yet."""
        new = [each for each in dict.fromkeys(node_ids) if each not in self._seen]
        self._seen.update(new)
        known = [each for each in new if self.admission.check_node(each).admitted]
        self.invited += len(known)
        for part in _batched(known, _MAX_CHUNK):
            self._push(part, self._invitation, is_invitation=True)
        if known:
            self._report(Stage.INVITED, self.invited, self.invited)

    def _push(self, node_ids: Sequence[int], content: RecordDict, *, is_invitation: bool) -> None:
        until_s = math.inf
        if is_invitation:
            until_s = self.strategy.clock() + self.plan.acceptance_timeout_s
        messages = [
            Message(
                content,
                dst_node_id=node_id,
                message_type=MessageType.QUERY,
                ttl=max(1.0, self._time_left_s()),
                group_id=self.plan.order.task_id,
            )
            for node_id in node_ids
        ]
        message_ids = list(self.grid.push_messages(messages))
        # A grid that could not push gives no id, or None in its place: that node never heard of it.
        for node_id, message_id in zip_longest(node_ids, message_ids[: len(node_ids)]):
            if message_id:
                self._awaited[message_id] = _Awaited(node_id, is_invitation, until_s)
            else:
                self.admission.refuse(node_id, Refusal.NO_ANSWER)

    def _sweep(self) -> bool:
        """Pull every awaited reply once, a chunk at a time; say whether anything came."""
        before, added = (len(self._awaited), self.accepted), self.total.count
        for message_ids in _batched(list(self._awaited), self._chunk):
            if self._time_left_s() <= 0.0:
                break
            willing: list[int] = []
            for reply in self.grid.pull_messages(message_ids):
                self._take(reply, willing)
            if willing:
                self.accepted += len(willing)
                self._push(willing, self._order, is_invitation=False)
                self._report(Stage.ACCEPTED, self.accepted, self.invited)
            if self.total.count > added:
                added = self.total.count
                self._report(Stage.ADDED, added, self.accepted)
        return before != (len(self._awaited), self.accepted)

    def _take(self, reply: Message, willing: list[int]) -> None:
        """Judge one reply; fold a contribution, or note a node that wants the order."""
        message_id = reply.metadata.reply_to_message_id
        awaited = self._awaited.get(message_id)
        if awaited is None or not is_from(reply, awaited.node_id):
            self.ignored += 1
            return
        del self._awaited[message_id]
        node_id = awaited.node_id
        if reply.has_error():
            silent = says_unavailable(reply)
            self.admission.refuse(node_id, Refusal.NO_ANSWER if silent else Refusal.DEVICE_ERROR)
            return
        frame = frame_of(reply)
        if frame is None:
            self.admission.refuse(node_id, Refusal.MALFORMED)
        elif awaited.is_invitation:
            if self.admission.check_acceptance(node_id, frame).admitted:
                willing.append(node_id)
        else:
            self._fold(node_id, frame)

    def _fold(self, node_id: int, frame: bytes) -> None:
        verdict = self.admission.check_contribution(node_id, frame)
        if verdict.vector is None:
            return
        try:
            self.total.add(verdict.vector)
        except ContributionRejectedError as error:
            self.admission.refuse(node_id, error.reason)

    def _give_up(self, *, until_s: float) -> None:
        """Count the nodes whose time is up."""
        over = [key for key, awaited in self._awaited.items() if awaited.until_s <= until_s]
        for message_id in over:
            self.admission.refuse(self._awaited.pop(message_id).node_id, Refusal.NO_ANSWER)

    def _report(self, stage: Stage, done: int, total: int) -> None:
        if self.strategy.on_progress is not None:
            self.strategy.on_progress(stage, done, total)


def _batched(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
