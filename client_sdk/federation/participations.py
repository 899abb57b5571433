"""What this device remembers of the training runs it took part in, and what that still allows.

Rules a reader can check line by line; the first that fails is the reason of the refusal.

1. The clock has not gone back: it is neither before the run's start nor before the last time at
   which the device took part (`CLOCK_ROLLED_BACK`; five minutes are forgiven). Everything that has
   an end, the order and the consent, is judged by this clock.
2. The memory reaches back to the run's start. A store that is younger, because it is new, was lost
   or was erased, can't know what was sent before (`PARTICIPATION_UNKNOWN`): such a device waits for
   the next run. So does one whose memory does not read.
3. The run's terms are those of the first order of the run that this device obeyed
   (`OUT_OF_BOUNDS_ORDER`): a run does not loosen its promise on the way.
4. The round comes at least ``min_separation`` rounds after the last one that the device was in
   (`TOO_SOON`), and there were fewer than ``max_participations`` (`PARTICIPATIONS_SPENT`).
5. The last round may be asked for again under another task, at most `MAX_ATTEMPTS` times in all: an
   aggregator that stopped in the middle has lost the first answer, and publishes one sum a round.

What is remembered of a run is one record in the encrypted vault, written in the transaction that
makes the contribution's transparency entry durable, before the contribution may leave. A store that
is put back to an older copy as a whole is not noticed here; the aggregator, which keeps its own
count of each device's key, notices (`aggregator.participation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from client_sdk.signals.vault import Record, Vault
from client_sdk.wire import Order, Refusal, RunTerms, WireFormatError

PARTICIPATION_STREAM: Final = "participation"
CLOCK_SLACK_S: Final = 300.0
MAX_ATTEMPTS: Final = 3
_SINCE: Final = "since"
_LATEST: Final = "latest"


@dataclass(frozen=True, kw_only=True)
class RunMemory:
    """The rounds of one run that this device was in.

    Attributes:
        terms: As first signed.
        rounds: Their numbers, rising.
        attempts: How often the last of them was answered.
    """

    terms: RunTerms
    rounds: tuple[int, ...] = ()
    attempts: int = 0

    def refusal(self, order: Order) -> Refusal | None:
        """Apply rules 3 to 5 to an order of this run."""
        if order.run != self.terms:
            return Refusal.OUT_OF_BOUNDS_ORDER
        if not self.rounds:
            return None
        last = self.rounds[-1]
        if order.round == last:
            return None if self.attempts < MAX_ATTEMPTS else Refusal.ALREADY_CONTRIBUTED
        if order.round - last < self.terms.min_separation:
            return Refusal.TOO_SOON
        if len(self.rounds) >= self.terms.max_participations:
            return Refusal.PARTICIPATIONS_SPENT
        return None

    def with_round(self, number: int) -> RunMemory:
        """Remember one more answer.

        >>> terms = RunTerms(run_id="0" * 32, started_at_s=0, rounds=9, min_separation=2,
        ...     max_participations=3)
        >>> RunMemory(terms=terms).with_round(1).with_round(1).with_round(4)
        ... # doctest: +ELLIPSIS
        RunMemory(terms=RunTerms(...), rounds=(1, 4), attempts=1)
        """
        if self.rounds and self.rounds[-1] == number:
            return RunMemory(terms=self.terms, rounds=self.rounds, attempts=self.attempts + 1)
        return RunMemory(terms=self.terms, rounds=(*self.rounds, number), attempts=1)

    def to_values(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "terms": self.terms.to_values(),
            "rounds": list(self.rounds),
            "attempts": self.attempts,
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> RunMemory:
        """Read what `to_values` wrote.

        Raises:
            ValueError: anything else.
        """
        if set(values) != {"terms", "rounds", "attempts"}:
            raise ValueError("a field is missing or unknown")
        rounds, attempts = values["rounds"], values["attempts"]
        typed = isinstance(values["terms"], Mapping) and isinstance(rounds, list)
        if not typed or any(type(each) is not int for each in [attempts, *rounds]):
            raise ValueError("a field has the wrong type")
        if rounds != sorted(set(rounds)) or (attempts < 1) != (not rounds):
            raise ValueError("rounds rise, and the last has at least one attempt")
        terms = RunTerms.from_values(values["terms"])
        return cls(terms=terms, rounds=tuple(rounds), attempts=attempts)


class Participations:
    """This device's memory of runs, in the vault; the caller holds the vault's lock.

    Args:
        vault: Where it lies.
        now_s: The time at opening, seconds since 1970 (UTC): from when on this store remembers,
            where it does not say so yet.
    """

    def __init__(self, vault: Vault, *, now_s: float) -> None:
        self._vault = vault
        if vault.read(PARTICIPATION_STREAM, _SINCE) is None:
            vault.write(_time_record(_SINCE, now_s))

    def refusal(self, order: Order, *, now_s: float) -> Refusal | None:
        """Say why this device must not be in the order's round, or None."""
        if order.run is None:
            return None
        try:
            latest_s = self._time_s(_LATEST, default=now_s)
            since_s = self._time_s(_SINCE)
            memory = self._memory(order.run)
        except (ValueError, WireFormatError):
            return Refusal.PARTICIPATION_UNKNOWN
        if now_s + CLOCK_SLACK_S < max(latest_s, order.run.started_at_s):
            return Refusal.CLOCK_ROLLED_BACK
        if since_s > order.run.started_at_s:
            return Refusal.PARTICIPATION_UNKNOWN
        return memory.refusal(order)

    def records(self, order: Order, *, now_s: float) -> tuple[Record, ...]:
        """Give what must be durable before the contribution to ``order`` may leave."""
        if order.run is None:
            return ()
        memory = self._memory(order.run).with_round(order.round)
        latest_s = max(now_s, self._time_s(_LATEST, default=now_s))
        run = Record(stream=PARTICIPATION_STREAM, key=_run_key(order.run), value=memory.to_values())
        return run, _time_record(_LATEST, latest_s)

    def _memory(self, terms: RunTerms) -> RunMemory:
        stored = self._vault.read(PARTICIPATION_STREAM, _run_key(terms))
        return RunMemory(terms=terms) if stored is None else RunMemory.from_values(stored)

    def _time_s(self, key: str, *, default: float | None = None) -> float:
        stored = self._vault.read(PARTICIPATION_STREAM, key)
        time_s = default if stored is None else stored.get("time_s")
        if type(time_s) not in (int, float):
            raise ValueError("the device does not know from when on it remembers")
        return float(time_s)  # type: ignore[arg-type]  # checked above


def _run_key(terms: RunTerms) -> str:
    return f"run/{terms.run_id}"


def _time_record(key: str, time_s: float) -> Record:
    return Record(stream=PARTICIPATION_STREAM, key=key, value={"time_s": time_s})
