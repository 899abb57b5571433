"""What is fixed before a training run's first round, and what the run needs of the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aggregator.errors import RunStateError
from client_sdk.wire import RunTerms, canonical_json
from privacy.bounded_sum import STEPS
from privacy.chain import Reservation
from privacy.clipping import ClippingPolicy
from privacy.events import MechanismName, ReleaseEvent
from privacy.factorisation import Factorisation


class RunLedger(Protocol):
    """What a run needs of the ledger; `aggregator.ledger.Ledger`."""

    def reserve(self, event: ReleaseEvent) -> str:
        """Set the cost of the whole run aside, or raise `BudgetExhaustedError`."""
        ...

    def commit(self, reservation: str, accepted: int) -> None:
        """Record that the release happens."""
        ...

    def void(self, reservation: str, reason: str) -> None:
        """Give the cost back: nothing was released."""
        ...

    def note(self, reservation: str, facts: Mapping[str, Any]) -> None:
        """Write down what became of it."""
        ...

    def supplement(self, reservation: str, event: ReleaseEvent) -> str:
        """Pay what it costs beyond the reservation, or raise `BudgetExhaustedError`."""
        ...

    def reservation_for(self, task_id: str) -> Reservation | None:
        """Return the newest reservation of a run."""
        ...

    def reservations(self) -> tuple[Reservation, ...]:
        """Return every reservation, oldest first."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything about a run that is fixed before its first round.

    Attributes:
        event: The whole release: its task id is the run's id, its factorisation says how many
            rounds, and how often a person may be in them.
        started_at_s: When the run starts, seconds since 1970 (UTC); whole seconds, signed in every
            order.
        clipping: How updates are clipped; the event's clip norm is that of the first round.
    """

    event: ReleaseEvent
    started_at_s: int
    clipping: ClippingPolicy

    def __post_init__(self) -> None:
        if self.event.factorisation is None or self.event.mechanism is MechanismName.GAUSSIAN:
            raise ValueError("a run's release has a factorisation")
        if self.event.clip_norm != self.clipping.clip_norm:
            raise ValueError("the event's clip norm is not that of the first round")

    @property
    def run_id(self) -> str:
        """The run's name everywhere."""
        return self.event.task_id

    @property
    def factorisation(self) -> Factorisation:
        """How the rounds' noise hangs together."""
        if self.event.factorisation is None:
            raise ValueError("a run's release has a factorisation")
        return self.event.factorisation

    @property
    def terms(self) -> RunTerms:
        """What every order of the run says."""
        return RunTerms(
            run_id=self.run_id,
            started_at_s=self.started_at_s,
            rounds=self.factorisation.rounds,
            min_separation=self.factorisation.min_separation,
            max_participations=self.factorisation.max_participations,
        )

    @property
    def std_steps(self) -> float:
        """Deviation of the white noise, in lattice steps of the clip in force."""
        return self.event.noise_std / self.event.clip_norm * STEPS

    def to_json(self) -> str:
        """Give canonical JSON."""
        values = {
            "event": json.loads(self.event.to_json()),
            "started_at_s": self.started_at_s,
            "clipping": self.clipping.to_values(),
        }
        return canonical_json(values).decode("ascii")

    @classmethod
    def from_json(cls, data: str) -> RunPlan:
        """Read what `to_json` wrote.

        Raises:
            RunStateError: anything else.
        """
        try:
            values = json.loads(data)
            return cls(
                event=ReleaseEvent.from_json(json.dumps(values["event"])),
                started_at_s=values["started_at_s"],
                clipping=ClippingPolicy.from_values(values["clipping"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RunStateError("the stored plan of the run does not read") from error
