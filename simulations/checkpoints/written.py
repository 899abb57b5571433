"""What a checkpoint says of a simulation beside its people: what was asked, what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from aggregator.campaign import TaskRecord
from aggregator.strategy import Collected, TaskResult
from client_sdk.wire import Order, Refusal
from privacy.events import ReleaseEvent
from simulations.checkpoints.errors import CheckpointDamagedError
from simulations.checkpoints.files import Snapshot


@dataclass(frozen=True, kw_only=True)
class Step:
    """A task or a round that was asked.

    Attributes:
        task_id: Of its order.
        kind: Of its order.
        round: Of its order.
        run_id: Which run; None for a task by itself.
        invited: Nodes that were asked.
        accepted: Contributions in the sum.
        refusals: The other nodes, by reason.
        ignored: Replies that nobody waited for.
        seconds: How long it took.
        ids: How many task ids were drawn before the next step.
    """

    task_id: str
    kind: str
    round: int
    run_id: str | None
    invited: int
    accepted: int
    refusals: dict[str, int]
    ignored: int
    seconds: float
    ids: int

    @classmethod
    def of(cls, order: Order, done: TaskResult | Collected, *, ids: int) -> Step:
        """Keep everything but the sum."""
        return cls(
            task_id=order.task_id,
            kind=order.kind.value,
            round=order.round,
            run_id=None if order.run is None else order.run.run_id,
            invited=done.invited,
            accepted=done.accepted,
            refusals={reason.value: count for reason, count in sorted(done.refusals.items())},
            ignored=done.ignored,
            seconds=done.seconds,
            ids=ids,
        )

    def reasons(self) -> Counter[Refusal]:
        """Count the refusals."""
        return Counter({Refusal(reason): count for reason, count in self.refusals.items()})

    def record(self, event: ReleaseEvent) -> TaskRecord:
        """Give what a campaign keeps of a task, under its release."""
        return TaskRecord(
            event=event,
            invited=self.invited,
            accepted=self.accepted,
            refusals=dict(self.reasons()),
            seconds=self.seconds,
        )


@dataclass(kw_only=True)
class Written:
    """What a checkpoint says, but for the people.

    Attributes:
        steps: What was asked, in order.
        findings: By run, what each round's table is worth.
        started_at_s: By run without noise, when it started.
        arrays: Noisy sums by step, and tables of runs without noise.
    """

    steps: list[Step] = field(default_factory=list)
    findings: dict[str, list[list[Any]]] = field(default_factory=dict)
    started_at_s: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, snapshot: Snapshot) -> Written:
        """Read a checkpoint.

        Raises:
            CheckpointDamagedError: it describes no simulation.
        """
        try:
            written = cls(
                steps=[Step(**each) for each in snapshot.facts["steps"]],
                findings={run: list(each) for run, each in snapshot.facts["findings"].items()},
                started_at_s=dict(snapshot.facts["started_at_s"]),
                arrays={name: snapshot.arrays[name] for name in snapshot.facts["arrays"]},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointDamagedError("the checkpoint describes no simulation") from error
        if len(written.steps) != snapshot.step:
            raise CheckpointDamagedError("the checkpoint has another number of steps than it says")
        return written

    def facts(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "steps": [vars(each) for each in self.steps],
            "findings": self.findings,
            "started_at_s": self.started_at_s,
            "arrays": sorted(self.arrays),
        }
