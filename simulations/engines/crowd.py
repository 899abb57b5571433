"""Who of many simulated people takes part in a task: the device's rules, by arrays.

Rules a reader can check line by line. They are those of `client_sdk.federation.participant` and
`client_sdk.federation.participations`, in their order; the first that fails is the reason.

On an invitation (`Crowd.invite`):

1. A device that is switched off says nothing (`NO_ANSWER`).
2. Consent to the task's purpose and policy text: `NO_CONSENT`, `CONSENT_WITHDRAWN`,
   `CONSENT_EXPIRED`.
3. The order is open (`LATE`), about this catalogue (`STALE_CATALOGUE`), of a known task
   (`UNKNOWN_TASK`), and in bounds (`OUT_OF_BOUNDS_ORDER`).
4. The device was not in this task (`ALREADY_CONTRIBUTED`); the run's terms are the first ones
   (`OUT_OF_BOUNDS_ORDER`); the round is far enough from the last (`TOO_SOON`; the last one may be
   asked for again, `MAX_ATTEMPTS` times in all) and not one too many (`PARTICIPATIONS_SPENT`).
5. The history is not empty (`TOO_LITTLE_DATA`).

On an order (`Crowd.withdraw`): who changes their mind midway does so now, for good, where the task
asks for more than item counts. What is sent is remembered (`Crowd.remember`).

Not modelled: signatures and receipts, the transparency log, device conditions, a clock that goes
back, a store that is younger than the run. A simulation that needs them runs on devices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.federation.encoders import OrderOutOfBoundsError, expected_dimension
from client_sdk.federation.participations import MAX_ATTEMPTS
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


_NO_CONSENT: Final = {
    Answer.NOT_ASKED: Refusal.NO_CONSENT,
    Answer.WITHDRAWN: Refusal.CONSENT_WITHDRAWN,
    Answer.EXPIRED: Refusal.CONSENT_EXPIRED,
}


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
        now_s: The devices' clock, seconds since 1970 (UTC).
        names: Public keys, where devices have some; by default made of the person's number.
    """

    holdings: Holdings
    answers: NDArray[np.uint8]
    withdraws_midway: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    now_s: float
    names: tuple[str, ...] | None = None
    _runs: dict[str, _RunMemory] = field(default_factory=dict)
    _tasks: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
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

    @property
    def people(self) -> int:
        """How many there are; Flower node ids run from 1 to this."""
        return self.holdings.people

    def name_of(self, person: int) -> str:
        """Give the public key that a person is known by, hexadecimal."""
        if self.names is not None:
            return self.names[person]
        return hashlib.sha256(b"simulated device %d" % person).hexdigest()

    def remembers_all_of(self, order: Order) -> bool:
        """Whether these devices were there from the run's first round, and forgot nothing."""
        return order.run is None or order.run.run_id in self._runs or order.round == 0

    def invite(self, order: Order, people: NDArray[np.int64]) -> NDArray[np.int8]:
        """Judge an invitation (rules 1 to 5).

        Args:
            order: What is asked.
            people: int64[m], by number, each once.

        Returns:
            int8[m], `WILLING` or a reason's code.
        """
        found = np.full(len(people), WILLING, np.int8)

        def refuse(who: NDArray[np.bool_] | bool, reason: Refusal) -> None:
            found[(found == WILLING) & who] = _CODES[reason]

        refuse(self.silent[people], Refusal.NO_ANSWER)
        answers = self.answers[people]
        for answer, reason in _NO_CONSENT.items():
            refuse(answers == answer, reason)
        refuse(order.policy_sha256 != self.holdings.release.policy_sha256, Refusal.NO_CONSENT)
        everyone = self._refusal_of(order)
        if everyone is not None:
            refuse(True, everyone)
        done = self._tasks.get(order.task_id)
        if done is not None:
            refuse(np.isin(people, done), Refusal.ALREADY_CONTRIBUTED)
        memory = None if order.run is None else self._runs.get(order.run.run_id)
        if memory is not None:
            was = memory.last[people] != NO_ROUND
            last = memory.last[people]
            refuse(was & (order.run != memory.terms), Refusal.OUT_OF_BOUNDS_ORDER)
            again = was & (order.round == last)
            refuse(again & (memory.attempts[people] >= MAX_ATTEMPTS), Refusal.ALREADY_CONTRIBUTED)
            other = was & ~again
            refuse(other & (order.round - last < memory.terms.min_separation), Refusal.TOO_SOON)
            spent = memory.rounds[people] >= memory.terms.max_participations
            refuse(other & spent, Refusal.PARTICIPATIONS_SPENT)
        offsets = self.holdings.histories.offsets
        refuse(np.asarray(offsets[people + 1] == offsets[people]), Refusal.TOO_LITTLE_DATA)
        return found

    def withdraw(self, order: Order, people: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Hand out the order; say who withdraws now, bool[m], and remember it."""
        if order.kind is TaskKind.ITEM_COUNTS:
            return np.zeros(len(people), bool)
        leaving = self.withdraws_midway[people]
        self.answers[people[leaving]] = Answer.WITHDRAWN
        return leaving

    def remember(self, order: Order, people: NDArray[np.int64]) -> None:
        """Note who sent a contribution."""
        self._tasks[order.task_id] = people
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
        self.answers[self.answers == Answer.WITHDRAWN] = Answer.GRANTED

    def _refusal_of(self, order: Order) -> Refusal | None:
        """Say why no device at all obeys (rule 3)."""
        if self.now_s >= order.closes_at_s:
            return Refusal.LATE
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
