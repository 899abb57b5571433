"""What the tasks of one learning run share: whom to ask, under which policy, at what price.

Each task is one release. All tasks of a campaign together cost its (ε, δ), because their noise
multipliers come from one split of ρ = 1 / (2σ²) (`privacy.gaussian.noise_multipliers_for`).
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flwr.serverapp import Grid

from aggregator.strategy import BoundedSumStrategy, TaskPlan, TaskResult
from client_sdk.wire import Order, Refusal, TaskKind, sha256_hex
from privacy.events import (
    ADJACENCY,
    TRUSTED,
    AssumedPopulation,
    MechanismName,
    NoiseSource,
    ReleaseEvent,
)
from privacy.gaussian import noise_multipliers_for
from privacy.noise import GaussianNoise

CLIP_NORM: Final = 1.0

NoiseFactory = Callable[[], GaussianNoise]


@dataclass(frozen=True, kw_only=True)
class PrivacyTarget:
    """What a campaign may cost, and where its noise comes from.

    Attributes:
        epsilon: Total ε over all tasks of the campaign, above 0.
        delta: δ, in (0, 1).
        new_noise: Gives a fresh noise source for each release.
        assumed: Set only by a simulation that stands for more people than it has.
    """

    epsilon: float
    delta: float
    new_noise: NoiseFactory = GaussianNoise.from_system
    assumed: AssumedPopulation | None = None

    def promise(self) -> dict[str, Any]:
        """What a device's transparency log will say about the release."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "adjacency": ADJACENCY,
            "trusted": TRUSTED,
        }


@dataclass(frozen=True, kw_only=True)
class UnsafeNoPrivacy:
    """No noise at all: the ceiling that a simulation shows. A real ledger refuses to book it."""

    def promise(self) -> dict[str, Any]:
        """Say plainly that nothing is promised."""
        return {"epsilon": "infinite", "delta": 1.0, "adjacency": ADJACENCY, "trusted": TRUSTED}


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What all tasks of one learning run share.

    Attributes:
        strategy: Runs a task on a grid.
        grid: In-process or a SuperLink's.
        population: Name of the people, in the ledger.
        n_items: Length of the catalogue.
        catalogue_sha256: Which catalogue.
        policy_sha256: Which consent text.
        report_goal: Contributions that a round plans for; its fixed denominator.
        quorum: Fewest contributions for a release.
        privacy: The price, or `UnsafeNoPrivacy`.
        round_timeout_s: How long a task stays open.
        new_task_id: Gives a fresh id for each task.
        clock: Seconds since 1970 (UTC).
    """

    strategy: BoundedSumStrategy
    grid: Grid
    population: str
    n_items: int
    catalogue_sha256: str
    policy_sha256: str
    report_goal: int
    quorum: int
    privacy: PrivacyTarget | UnsafeNoPrivacy
    round_timeout_s: float = 600.0
    new_task_id: Callable[[], str] = lambda: secrets.token_hex(16)
    clock: Callable[[], float] = time.time

    def noise_multipliers(self, shares: Sequence[float]) -> list[float]:
        """Split the campaign's price over its tasks; zeros where there is no privacy."""
        if isinstance(self.privacy, UnsafeNoPrivacy):
            return [0.0 for _ in shares]
        return list(
            noise_multipliers_for(
                epsilon=self.privacy.epsilon, delta=self.privacy.delta, shares=shares
            )
        )

    def ask(
        self,
        kind: TaskKind,
        *,
        dimension: int,
        noise_multiplier: float,
        parameters: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        round_number: int = 0,
        clip_norm: float = CLIP_NORM,
        cohort: Sequence[int] | None = None,
    ) -> TaskResult:
        """Run one task to its release.

        Args:
            kind: Which task.
            dimension: Length of its vector.
            noise_multiplier: Noise standard deviation over ``clip_norm``; 0 only without privacy.
            parameters: What the encoder needs.
            payload: Arrays that the encoder needs.
            round_number: From 0.
            clip_norm: L2 bound of one contribution.
            cohort: Node ids to invite; by default everyone.

        Raises:
            BudgetExhaustedError: nobody was asked.
            QuorumNotReachedError: nothing was released.
        """
        order = Order(
            task_id=self.new_task_id(),
            kind=kind,
            population=self.population,
            round=round_number,
            policy_sha256=self.policy_sha256,
            catalogue_sha256=self.catalogue_sha256,
            dimension=dimension,
            clip_norm=clip_norm,
            closes_at_s=int(self.clock() + self.round_timeout_s) + 1,
            promise=self.privacy.promise(),
            parameters={} if parameters is None else parameters,
            payload_sha256=sha256_hex(payload),
            payload=payload,
        )
        noise = None if isinstance(self.privacy, UnsafeNoPrivacy) else self.privacy.new_noise()
        event = self._event(order, noise=noise, noise_multiplier=noise_multiplier)
        plan = TaskPlan(order=order, event=event, noise=noise, quorum=self.quorum)
        return self.strategy.start(self.grid, plan, node_ids=cohort)

    def _event(
        self, order: Order, *, noise: GaussianNoise | None, noise_multiplier: float
    ) -> ReleaseEvent:
        """Describe the release, for the ledger."""
        private = isinstance(self.privacy, PrivacyTarget)
        return ReleaseEvent(
            kind=order.kind,
            task_id=order.task_id,
            population=order.population,
            mechanism=MechanismName.GAUSSIAN if private else MechanismName.UNSAFE_NO_NOISE,
            noise_source=NoiseSource.NONE if noise is None else noise.source,
            noise_multiplier=noise_multiplier,
            clip_norm=order.clip_norm,
            dimension=order.dimension,
            report_goal=self.report_goal,
            assumed=self.privacy.assumed if isinstance(self.privacy, PrivacyTarget) else None,
        )


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """A task's outcome without its sum."""

    event: ReleaseEvent
    invited: int
    accepted: int
    refusals: Mapping[Refusal, int]
    seconds: float

    @classmethod
    def of(cls, result: TaskResult) -> TaskRecord:
        """Keep everything but the sum."""
        return cls(
            event=result.event,
            invited=result.invited,
            accepted=result.accepted,
            refusals=dict(result.refusals),
            seconds=result.seconds,
        )


def refusals_of(tasks: Sequence[TaskRecord]) -> Counter[str]:
    """Add up the refusals of several tasks, by reason."""
    total: Counter[str] = Counter()
    for task in tasks:
        total.update({reason.value: count for reason, count in task.refusals.items()})
    return total
