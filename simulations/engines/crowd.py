"""Who of many simulated people takes part in a task: the device's rules, by arrays.

Rules a reader can check line by line. They are those of `client_sdk.federation.participant` and
`client_sdk.federation.participations`, in their order; the first that fails is the reason.

On an invitation (`Crowd.invite`); what is in brackets only with `Crowd.conditions`:

1. [Whoever has not said yes is asked again, where the rounds since their no are enough.]
2. A device that is switched off [or out of reach] says nothing (`NO_ANSWER`).
3. Consent to the task's purpose and policy text: `NO_CONSENT`, `CONSENT_WITHDRAWN`,
   `CONSENT_EXPIRED`.
4. [The device is free to work: `NOT_IDLE`, `NOT_CHARGING`, `METERED`.]
5. The order is open by the device's clock (`LATE`), about this catalogue (`STALE_CATALOGUE`), of a
   known task (`UNKNOWN_TASK`), and in bounds (`OUT_OF_BOUNDS_ORDER`).
6. The device was not in this task (`ALREADY_CONTRIBUTED`); [in a run its clock is not before the
   run's start (`CLOCK_ROLLED_BACK`; five minutes are forgiven) and its store, by its clock, not
   younger than the run (`PARTICIPATION_UNKNOWN`)]; the run's terms are the first ones
   (`OUT_OF_BOUNDS_ORDER`); the round is far enough from the last (`TOO_SOON`; the last one may be
   asked for again, `MAX_ATTEMPTS` times in all) and not one too many (`PARTICIPATIONS_SPENT`).
   [A hostile device forgets what it was in; the aggregator does not (`PARTICIPATION_EXCEEDED`).]
7. The history is not empty (`TOO_LITTLE_DATA`) [or made up].
8. [The aggregator takes no yes that is dated ahead of its own clock by more than five minutes
   (`BAD_RECEIPT`).]

On an order (`Crowd.hand_out`), the first that fits:

1. [A device that drops out was never there (`NO_ANSWER`): it remembers nothing.]
2. Who changes their mind midway does so now (`CONSENT_WITHDRAWN`), for good [or until asked again],
   where the task asks for more than item counts.
3. [A straggler answers after the deadline, when nobody pulls any more (`NO_ANSWER`): its device has
   sent, and remembers that it took part.]

What is sent is remembered (`Crowd.remember`).

Not modelled: signatures, the transparency log, a clock that changes its pace, a lost store, an
order that a device gets only after it has closed; a straggler is taken to have something to send.
A simulation that needs them runs on devices.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aggregator.admission import CLOCK_SKEW_S
from client_sdk.federation.encoders import (
    OrderOutOfBoundsError,
    expected_dimension,
    participation_key,
)
from client_sdk.federation.participations import CLOCK_SLACK_S, MAX_ATTEMPTS
from client_sdk.wire import Order, Refusal, RunTerms, TaskKind
from privacy.clipping import MAX_CLIP_NORM
from simulations.engines.holdings import Holdings

NO_ROUND: Final = -1
REASONS: Final = tuple(Refusal)
WILLING: Final = np.int8(-1)
_CODES: Final = {reason: np.int8(code) for code, reason in enumerate(REASONS)}


def code_of(reason: Refusal) -> np.int8:
    """Give the number under which a refusal stands in an array; `WILLING` is none."""
    return _CODES[reason]


class Answer(IntEnum):
    """What a person says when asked to learn together."""

    NOT_ASKED = 0
    GRANTED = 1
    WITHDRAWN = 2
    EXPIRED = 3


@functools.lru_cache(maxsize=2**17)
def _name_of(person: int) -> str:
    return hashlib.sha256(b"simulated device %d" % person).hexdigest()


_NO_CONSENT: Final = {
    Answer.NOT_ASKED: Refusal.NO_CONSENT,
    Answer.WITHDRAWN: Refusal.CONSENT_WITHDRAWN,
    Answer.EXPIRED: Refusal.CONSENT_EXPIRED,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """How some people and their devices are at a round.

    Attributes:
        reachable: bool[m], whether the device answers at all.
        free: int8[m], `WILLING`, or the reason why it is busy.
        skew_s: float64[m], by how many seconds its clock is ahead.
        drops_out: bool[m], whether it vanishes with the order.
        straggles: bool[m], whether its answer comes after the deadline.
        withdraws: bool[m], whether the person withdraws when a model's order comes.
        agrees: bool[m], whether the person says yes if asked again now.
        hostile: bool[m], whether the device does not keep to its own rules.
        made_up: bool[m], whether it sends something else than the person's history says.
    """

    reachable: NDArray[np.bool_]
    free: NDArray[np.int8]
    skew_s: NDArray[np.float64]
    drops_out: NDArray[np.bool_]
    straggles: NDArray[np.bool_]
    withdraws: NDArray[np.bool_]
    agrees: NDArray[np.bool_]
    hostile: NDArray[np.bool_]
    made_up: NDArray[np.bool_]


class Circumstances(Protocol):
    """Says how people are; `simulations.scenarios.conditions.Conditions` is one."""

    @property
    def asked_at_s(self) -> float:
        """When people first answered, and from when on their devices remember."""
        ...

    @property
    def asks_again_after_rounds(self) -> int | None:
        """Rounds after a no until an invitation asks again; None for never."""
        ...

    def first_answers(self, people: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give uint8[m], an `Answer` for each person before the first round."""
        ...

    def skew_s(self, people: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give float64[m], by how many seconds each device's clock is ahead."""
        ...

    def at(self, people: NDArray[np.int64], *, round_number: int, time_s: float) -> Moment:
        """Say how people are at a round and a time."""
        ...


@dataclass(kw_only=True)
class _RunMemory:
    """What every device remembers of one run: last round, how many, attempts at the last."""

    terms: RunTerms
    last: NDArray[np.int32]
    rounds: NDArray[np.int32]
    attempts: NDArray[np.int16]


@dataclass(kw_only=True, eq=False)
class Crowd:
    """Simulated people; the state of a simulation, changed by what they are asked.

    Attributes:
        holdings: What their devices hold.
        answers: uint8[people], `Answer`.
        withdraws_midway: bool[people], who withdraws when an order of a model arrives.
        silent: bool[people], whose devices are switched off.
        now_s: The time, seconds since 1970 (UTC); the aggregator's, and the devices' but for their
            skew. Whoever runs the simulation moves it on (`simulations.scenarios.pace`).
        conditions: How people are at each round; None where nothing ever goes wrong.
        names: Public keys, where devices have some; by default made of the person's number.
    """

    holdings: Holdings
    answers: NDArray[np.uint8]
    withdraws_midway: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    now_s: float
    conditions: Circumstances | None = None
    names: tuple[str, ...] | None = None
    _runs: dict[str, _RunMemory] = field(default_factory=dict)
    _tasks: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _asked_in: NDArray[np.int32] = field(init=False)
    _dated_s: NDArray[np.float64] = field(init=False)
    _since_s: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        # When each person answered: by round, and by their device's clock.
        self._asked_in = np.zeros(self.people, np.int32)
        self._since_s = np.full(self.people, -np.inf)
        if self.conditions is not None:
            everyone = np.arange(self.people, dtype=np.int64)
            asked_at_s = self.conditions.asked_at_s
            self._since_s = asked_at_s + self.conditions.skew_s(everyone)
        self._dated_s = np.floor(self._since_s)
        for name in ("answers", "withdraws_midway", "silent"):
            if len(getattr(self, name)) != self.people:
                raise ValueError(f"{name} must have an entry for each of {self.people} people")
        if self.names is not None and len(self.names) != self.people:
            raise ValueError(f"names must have an entry for each of {self.people} people")

    @classmethod
    def willing(cls, holdings: Holdings) -> Crowd:
        """Make people who all say yes and whose devices are all on."""
        people = holdings.people
        return cls(
            holdings=holdings,
            answers=np.full(people, Answer.GRANTED, np.uint8),
            withdraws_midway=np.zeros(people, bool),
            silent=np.zeros(people, bool),
            now_s=holdings.histories.now_s,
        )

    @classmethod
    def under(cls, conditions: Circumstances, *, holdings: Holdings, now_s: float) -> Crowd:
        """Make people who are as a scenario says.

        Args:
            conditions: How they are.
            holdings: What their devices hold.
            now_s: When the first task is, seconds since 1970 (UTC).
        """
        everyone = np.arange(holdings.people, dtype=np.int64)
        return replace(
            cls.willing(holdings),
            answers=conditions.first_answers(everyone),
            now_s=now_s,
            conditions=conditions,
        )

    @property
    def people(self) -> int:
        """How many there are; Flower node ids run from 1 to this."""
        return self.holdings.people

    def name_of(self, person: int) -> str:
        """Give the public key that a person is known by, hexadecimal."""
        if self.names is not None:
            return self.names[person]
        return _name_of(person)

    def remembers_all_of(self, order: Order) -> bool:
        """Whether these devices were there from the run's first round, and forgot nothing."""
        return order.run is None or order.run.run_id in self._runs or order.round == 0

    def invite(self, order: Order, people: NDArray[np.int64]) -> NDArray[np.int8]:
        """Judge an invitation (rules 1 to 8).

        Args:
            order: What is asked.
            people: int64[m], by number, each once.

        Returns:
            int8[m], `WILLING` or a reason's code.
        """
        found = np.full(len(people), WILLING, np.int8)

        def refuse(who: NDArray[np.bool_] | bool, reason: Refusal) -> None:
            found[(found == WILLING) & who] = _CODES[reason]

        moment, now_s = self._moment(order, people), self.now_s
        device_s = np.full(len(people), now_s)
        refuse(self.silent[people], Refusal.NO_ANSWER)
        if moment is not None:
            self._ask_in_passing(order, people, moment)
            refuse(~moment.reachable, Refusal.NO_ANSWER)
            device_s += moment.skew_s
        answers = self.answers[people]
        for answer, reason in _NO_CONSENT.items():
            refuse(answers == answer, reason)
        refuse(order.policy_sha256 != self.holdings.release.policy_sha256, Refusal.NO_CONSENT)
        if moment is not None:
            np.copyto(found, moment.free, where=found == WILLING)
        refuse(device_s >= order.closes_at_s, Refusal.LATE)
        everyone = self._refusal_of(order)
        if everyone is not None:
            refuse(True, everyone)
        done = self._tasks.get(participation_key(order)) if everyone is None else None
        if done is not None:
            refuse(np.isin(people, done), Refusal.ALREADY_CONTRIBUTED)
        if order.run is not None:
            started_s = order.run.started_at_s
            refuse(device_s + CLOCK_SLACK_S < started_s, Refusal.CLOCK_ROLLED_BACK)
            refuse(self._since_s[people] > started_s, Refusal.PARTICIPATION_UNKNOWN)
            self._refuse_by_memory(order, people, moment, refuse)
        offsets = self.holdings.histories.offsets
        empty = np.asarray(offsets[people + 1] == offsets[people])
        refuse(empty if moment is None else empty & ~moment.made_up, Refusal.TOO_LITTLE_DATA)
        refuse(self._dated_s[people] > now_s + CLOCK_SKEW_S, Refusal.BAD_RECEIPT)
        return found

    def hand_out(self, order: Order, people: NDArray[np.int64]) -> NDArray[np.int8]:
        """Hand out the order; say who sends nothing that counts, and remember it.

        Args:
            order: What is asked.
            people: int64[m], who accepted.

        Returns:
            int8[m], `WILLING` or a reason's code.
        """
        found = np.full(len(people), WILLING, np.int8)
        moment, leaving = self._moment(order, people), self.withdraws_midway[people]
        if moment is not None:
            found[moment.drops_out] = _CODES[Refusal.NO_ANSWER]
            leaving = leaving | moment.withdraws
        if order.kind is not TaskKind.ITEM_COUNTS:
            leaving = leaving & (found == WILLING)
            found[leaving] = _CODES[Refusal.CONSENT_WITHDRAWN]
            self.answers[people[leaving]] = Answer.WITHDRAWN
            self._asked_in[people[leaving]] = order.round
        if moment is not None:
            late = moment.straggles & (found == WILLING)
            found[late] = _CODES[Refusal.NO_ANSWER]
            self.remember(order, people[late])
        return found

    def remember(self, order: Order, people: NDArray[np.int64]) -> None:
        """Note who sent a contribution, whether it came in time or not."""
        key = participation_key(order)
        earlier = self._tasks.get(key)
        self._tasks[key] = people if earlier is None else np.concatenate([earlier, people])
        if order.run is None:
            return
        memory = self._runs.get(order.run.run_id)
        if memory is None:
            memory = self._runs[order.run.run_id] = _RunMemory(
                terms=order.run,
                last=np.full(self.people, NO_ROUND, np.int32),
                rounds=np.zeros(self.people, np.int32),
                attempts=np.zeros(self.people, np.int16),
            )
        again = memory.last[people] == order.round
        memory.attempts[people] = np.where(again, memory.attempts[people] + 1, 1)
        memory.rounds[people[~again]] += 1
        memory.last[people] = order.round

    def ask_again(self) -> None:
        """Ask everyone who withdrew once more, and get a yes."""
        again = self.answers == Answer.WITHDRAWN
        self.answers[again] = Answer.GRANTED
        if self.conditions is not None:
            who = np.flatnonzero(again)
            self._dated_s[who] = np.floor(self.now_s + self.conditions.skew_s(who))

    def _moment(self, order: Order, people: NDArray[np.int64]) -> Moment | None:
        if self.conditions is None:
            return None
        return self.conditions.at(people, round_number=order.round, time_s=self.now_s)

    def _ask_in_passing(self, order: Order, people: NDArray[np.int64], moment: Moment) -> None:
        """Ask whoever said no long enough ago, and note what they say (rule 1)."""
        after = None if self.conditions is None else self.conditions.asks_again_after_rounds
        if after is None:
            return
        asked = (self.answers[people] != Answer.GRANTED) & moment.reachable
        asked &= order.round - self._asked_in[people] >= after
        self._asked_in[people[asked]] = order.round
        agreed = asked & moment.agrees
        self.answers[people[agreed]] = Answer.GRANTED
        self._dated_s[people[agreed]] = np.floor(self.now_s + moment.skew_s[agreed])

    def _refuse_by_memory(
        self,
        order: Order,
        people: NDArray[np.int64],
        moment: Moment | None,
        refuse: Callable[[NDArray[np.bool_], Refusal], None],
    ) -> None:
        """Apply what devices remember of the run, and the aggregator of those that forget."""
        memory = None if order.run is None else self._runs.get(order.run.run_id)
        if memory is None:
            return
        forgets = np.zeros(len(people), bool) if moment is None else moment.hostile
        last = memory.last[people]
        was = last != NO_ROUND
        refuse(was & ~forgets & (order.run != memory.terms), Refusal.OUT_OF_BOUNDS_ORDER)
        again = was & (order.round == last)
        tried = memory.attempts[people] >= MAX_ATTEMPTS
        refuse(again & tried & ~forgets, Refusal.ALREADY_CONTRIBUTED)
        other = was & ~again
        too_soon = other & (order.round - last < memory.terms.min_separation)
        spent = other & (memory.rounds[people] >= memory.terms.max_participations)
        refuse((too_soon | spent) & forgets, Refusal.PARTICIPATION_EXCEEDED)
        refuse(too_soon, Refusal.TOO_SOON)
        refuse(spent, Refusal.PARTICIPATIONS_SPENT)

    def _refusal_of(self, order: Order) -> Refusal | None:
        """Say why no device at all obeys (rule 5)."""
        if order.catalogue_sha256 != self.holdings.release.catalogue_sha256:
            return Refusal.STALE_CATALOGUE
        try:
            dimension = expected_dimension(order, n_items=self.holdings.release.n_items)
        except OrderOutOfBoundsError:
            return Refusal.OUT_OF_BOUNDS_ORDER
        dimension += order.clipping.extra_entries
        if order.dimension != dimension or not 0 < order.clip_norm <= MAX_CLIP_NORM:
            return Refusal.OUT_OF_BOUNDS_ORDER
        return None
