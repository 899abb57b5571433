"""The state of one task while its replies come in: who was asked, who answered, what is added.

It invites, waits, judges and folds; what is done with the sum is the strategy's
(`aggregator.strategy`), whose rules 2 to 5 are kept here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest
from typing import Final, Protocol, TypeVar

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from aggregator.admission import Admission, Consents, MayTakePart, frame_limit_bytes
from aggregator.envelope import content_of, frame_of, is_from, says_unavailable
from aggregator.errors import QuorumNotReachedError
from client_sdk.wire import Order, Refusal, Signer
from privacy.bounded_sum import BoundedSum
from privacy.errors import ContributionRejectedError

_MAX_CHUNK: Final = 64

_T = TypeVar("_T")


class Stage(StrEnum):
    """Where the nodes of a task stand, for whoever watches."""

    INVITED = "invited"
    ACCEPTED = "accepted"
    ADDED = "added"


Progress = Callable[[Stage, int, int], None]


@dataclass(frozen=True, kw_only=True)
class CollectionPlan:
    """Everything about asking that is fixed before the first node is asked.

    Attributes:
        order: What is asked, with its payload.
        quorum: Fewest contributions with which the sum may be released; at least 1.
        acceptance_timeout_s: How long a node may take to accept; by default until the task closes.
        recruiting_s: For how long nodes that check in are invited too. By default only at the
            start: a node that is offline then counts as no answer.
    """

    order: Order
    quorum: int
    acceptance_timeout_s: float = math.inf
    recruiting_s: float = 0.0

    def __post_init__(self) -> None:
        if self.quorum < 1:
            raise ValueError(f"quorum must be at least 1; got {self.quorum}")

    def new_sum(self) -> BoundedSum:
        """Make the sum that contributions are clipped for."""
        return BoundedSum(dimension=self.order.dimension, clip_norm=self.order.clip_norm)


class Asker(Protocol):
    """What a collection needs of the strategy; see `aggregator.strategy.BoundedSumStrategy`."""

    @property
    def signer(self) -> Signer: ...  # noqa: D102
    @property
    def consents(self) -> Consents: ...  # noqa: D102
    @property
    def directory(self) -> Mapping[int, str]: ...  # noqa: D102
    @property
    def clock(self) -> Callable[[], float]: ...  # noqa: D102
    @property
    def sleep(self) -> Callable[[float], None]: ...  # noqa: D102
    @property
    def poll_interval_s(self) -> float: ...  # noqa: D102
    @property
    def chunk_bytes(self) -> int: ...  # noqa: D102
    @property
    def earlier_tasks(self) -> Container[str]: ...  # noqa: D102
    @property
    def on_progress(self) -> Progress | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A message that waits for its reply."""

    node_id: int
    is_invitation: bool
    until_s: float


@dataclass(kw_only=True)
class Collection:
    """The state of one task while its replies come in."""

    asker: Asker
    plan: CollectionPlan
    grid: Grid
    may_take_part: MayTakePart | None = None
    invited: int = 0
    accepted: int = 0
    ignored: int = 0
    total: BoundedSum = field(init=False)
    admission: Admission = field(init=False)
    _awaited: dict[str, _Awaited] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        order, asker = self.plan.order, self.asker
        self.total = self.plan.new_sum()
        self.admission = Admission(
            order=order,
            directory=asker.directory,
            consents=asker.consents,
            clock=asker.clock,
            earlier_tasks=asker.earlier_tasks,
            may_take_part=self.may_take_part,
        )
        self._chunk = max(1, min(_MAX_CHUNK, asker.chunk_bytes // frame_limit_bytes(order)))
        self._invitation = content_of(order.to_invitation_bytes(asker.signer))
        self._order = content_of(order.to_bytes(asker.signer))

    def run(self, cohort: Sequence[int] | None) -> None:
        """Invite, collect until everyone answered or the task closes, count the silent."""
        recruits_until_s = self.asker.clock() + self.plan.recruiting_s
        if self.plan.recruiting_s <= 0.0:
            self._invite(self.grid.get_node_ids() if cohort is None else cohort)
        while self._time_left_s() > 0.0:
            complete = cohort is not None and self._seen.issuperset(cohort)
            recruits = self.asker.clock() < recruits_until_s and not complete
            if recruits:
                self._invite_online(cohort)
            if not self._awaited and not recruits:
                break
            self._give_up(until_s=self.asker.clock())
            if not self._sweep():
                self.asker.sleep(min(self.asker.poll_interval_s, self._time_left_s()))
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
        return max(0.0, self.plan.order.closes_at_s - self.asker.clock())

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
            until_s = self.asker.clock() + self.plan.acceptance_timeout_s
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
        if self.asker.on_progress is not None:
            self.asker.on_progress(stage, done, total)


def _batched(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
