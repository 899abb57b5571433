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

from aggregator.collection import CollectionPlan
from aggregator.run_plan import RunPlan
from aggregator.strategy import Collected, TaskPlan, TaskResult, TaskStrategy
from aggregator.training_run import TrainingRun, TrainingRuns
from client_sdk.wire import FLAT, ClippingTerms, Order, Refusal, RunTerms, TaskKind, sha256_hex
from privacy.clipping import ClippingPolicy
from privacy.events import (
    ADJACENCY,
    ALL_TIME,
    LOCAL_ADJACENCY,
    LOCAL_TRUSTED,
    TRUSTED,
    AssumedPopulation,
    MechanismName,
    NoiseSource,
    ReleaseEvent,
)
from privacy.factorisation import Factorisation, FactorisationName
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
        window: The ledger's window in which the releases are booked.
        assumed: Set only by a simulation that stands for more people than it has.
    """

    epsilon: float
    delta: float
    new_noise: NoiseFactory = GaussianNoise.from_system
    window: str = ALL_TIME
    assumed: AssumedPopulation | None = None

    def promise(self, *, local: bool = False) -> dict[str, Any]:
        """What a device's transparency log will say about the release."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "adjacency": LOCAL_ADJACENCY if local else ADJACENCY,
            "trusted": LOCAL_TRUSTED if local else TRUSTED,
        }


@dataclass(frozen=True, kw_only=True)
class UnsafeNoPrivacy:
    """No noise at all: the ceiling that a simulation shows. A real ledger refuses to book it."""

    def promise(self, *, local: bool = False) -> dict[str, Any]:  # noqa: ARG002 - as the other's
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
        runs: Begins training runs; a campaign that trains with noise needs it.
        round_timeout_s: How long a task stays open.
        new_task_id: Gives a fresh id for each task.
        clock: Seconds since 1970 (UTC).
    """

    strategy: TaskStrategy
    grid: Grid
    population: str
    n_items: int
    catalogue_sha256: str
    policy_sha256: str
    report_goal: int
    quorum: int
    privacy: PrivacyTarget | UnsafeNoPrivacy
    runs: TrainingRuns | None = None
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
        run: RunTerms | None = None,
        mechanism: MechanismName = MechanismName.GAUSSIAN,
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
            run: What devices are to hold to, where the task is a round of a run that is paid for
                round by round.
            mechanism: How the sum is released; the order's parameters say so to the devices where
                the noise is theirs.

        Raises:
            BudgetExhaustedError: nobody was asked.
            QuorumNotReachedError: nothing was released.
        """
        order = self._order(
            kind,
            dimension=dimension,
            parameters=parameters,
            payload=payload,
            round_number=round_number,
            clip_norm=clip_norm,
            run=run,
            local=mechanism is MechanismName.LOCAL_GAUSSIAN,
        )
        noise = None if isinstance(self.privacy, UnsafeNoPrivacy) else self.privacy.new_noise()
        event = self._event(
            order, noise=noise, noise_multiplier=noise_multiplier, mechanism=mechanism
        )
        plan = TaskPlan(order=order, event=event, noise=noise, quorum=self.quorum)
        return self.strategy.start(self.grid, plan, node_ids=cohort)

    def begin_run(
        self,
        kind: TaskKind,
        *,
        dimension: int,
        noise_multiplier: float,
        factorisation: Factorisation,
        clipping: ClippingPolicy,
        model: bytes,
    ) -> TrainingRun:
        """Reserve a whole run, before anyone is asked.

        Args:
            kind: Which task each round is.
            dimension: Length of its vector, without what the clipping adds.
            noise_multiplier: Of the whole run: noise over the sensitivity of all its rounds.
            factorisation: How the rounds' noise hangs together, and how often a person may be in
                them.
            clipping: How updates are clipped.
            model: The first model, encoded; public.

        Raises:
            BudgetExhaustedError: it does not fit.
            ValueError: without privacy, or without `Campaign.runs`.
        """
        if self.runs is None or isinstance(self.privacy, UnsafeNoPrivacy):
            raise ValueError("a run with noise needs a price and a place for its state (runs)")
        noise = self.privacy.new_noise()
        event = ReleaseEvent(
            kind=kind,
            task_id=self.new_task_id(),
            population=self.population,
            mechanism=_mechanism_of(factorisation),
            noise_source=noise.source,
            noise_multiplier=noise_multiplier,
            clip_norm=clipping.clip_norm,
            dimension=dimension + clipping.terms.extra_entries,
            report_goal=self.report_goal,
            factorisation=factorisation,
            window=self.privacy.window,
            assumed=self.privacy.assumed,
        )
        plan = RunPlan(event=event, started_at_s=int(self.clock()), clipping=clipping)
        return self.runs.begin(plan, model=model, key=noise.new_key())

    def collect_round(
        self,
        run: TrainingRun,
        *,
        parameters: Mapping[str, Any],
        payload: bytes,
        cohort: Sequence[int] | None = None,
    ) -> Collected:
        """Ask for the run's next round; the sum has no noise yet.

        Raises:
            QuorumNotReachedError: too few contributions; ask again, or stop the run.
            BudgetExhaustedError: participants were lost, and what that costs does not fit.
        """
        order = self._order(
            run.plan.event.kind,
            dimension=run.plan.event.dimension,
            parameters=parameters,
            payload=payload,
            round_number=run.open_round(),
            clip_norm=run.clip.clip_norm,
            run=run.terms,
            clipping=run.clipping,
        )
        return self.strategy.collect(
            self.grid,
            CollectionPlan(order=order, quorum=self.quorum),
            node_ids=cohort,
            may_take_part=run.may_take_part,
        )

    def _order(
        self,
        kind: TaskKind,
        *,
        dimension: int,
        parameters: Mapping[str, Any] | None,
        payload: bytes,
        round_number: int,
        clip_norm: float,
        run: RunTerms | None = None,
        clipping: ClippingTerms = FLAT,
        local: bool = False,
    ) -> Order:
        return Order(
            task_id=self.new_task_id(),
            kind=kind,
            population=self.population,
            round=round_number,
            policy_sha256=self.policy_sha256,
            catalogue_sha256=self.catalogue_sha256,
            dimension=dimension,
            clip_norm=clip_norm,
            closes_at_s=int(self.clock() + self.round_timeout_s) + 1,
            promise=self.privacy.promise(local=local),
            parameters={} if parameters is None else parameters,
            payload_sha256=sha256_hex(payload),
            payload=payload,
            run=run,
            clipping=clipping,
        )

    def _event(
        self,
        order: Order,
        *,
        noise: GaussianNoise | None,
        noise_multiplier: float,
        mechanism: MechanismName,
    ) -> ReleaseEvent:
        """Describe the release, for the ledger."""
        private = isinstance(self.privacy, PrivacyTarget)
        local = private and mechanism is MechanismName.LOCAL_GAUSSIAN
        return ReleaseEvent(
            kind=order.kind,
            task_id=order.task_id,
            population=order.population,
            mechanism=mechanism if private else MechanismName.UNSAFE_NO_NOISE,
            adjacency=LOCAL_ADJACENCY if local else ADJACENCY,
            trusted=LOCAL_TRUSTED if local else TRUSTED,
            noise_source=NoiseSource.NONE if noise is None else noise.source,
            noise_multiplier=noise_multiplier,
            clip_norm=order.clip_norm,
            dimension=order.dimension,
            report_goal=self.report_goal,
            window=self.privacy.window if isinstance(self.privacy, PrivacyTarget) else ALL_TIME,
            assumed=self.privacy.assumed if isinstance(self.privacy, PrivacyTarget) else None,
        )


def _mechanism_of(factorisation: Factorisation) -> MechanismName:
    if factorisation.name is FactorisationName.TREE_HONAKER:
        return MechanismName.TREE
    return MechanismName(factorisation.name.value)


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

    @classmethod
    def of_round(cls, event: ReleaseEvent, collected: Collected) -> TaskRecord:
        """Keep everything but the sum of a run's round; the event is the whole run's."""
        return cls(
            event=event,
            invited=collected.invited,
            accepted=collected.accepted,
            refusals=dict(collected.refusals),
            seconds=collected.seconds,
        )


def refusals_of(tasks: Sequence[TaskRecord]) -> Counter[str]:
    """Add up the refusals of several tasks, by reason."""
    total: Counter[str] = Counter()
    for task in tasks:
        total.update({reason.value: count for reason, count in task.refusals.items()})
    return total
