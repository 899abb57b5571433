"""From willing devices to a propensity that all start from: many rounds, one training run.

`learn_propensity` asks, round by round, how each device's own labelled cases would move the weights
that all share, and steps on the noisy mean. The rounds are one release (`aggregator.training_run`),
reserved as a whole; nothing is claimed for sampling, only for how far apart and how often a person
is in them. `resume_propensity` takes a run up where a crash or a missing quorum left it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.campaign import CLIP_NORM, Campaign, TaskRecord, UnsafeNoPrivacy
from aggregator.errors import RunStateError
from aggregator.training_run import TrainingRun
from client_sdk.wire import RunTerms, TaskKind, canonical_json
from client_sdk.wire.bandit import MAX_ID_CHARS
from client_sdk.wire.propensity import PropensityWeights
from models.item_training import ServerOptimizer
from models.propensity_training import PropensityState, apply_mean_change, state_from_weights
from privacy.clipping import ClippingPolicy
from privacy.events import ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName
from privacy.optimise import factorisation_for

_NEWLINE: Final = b"\n"

OnRound = Callable[[int, PropensityState], None]
CohortOf = Callable[[int], Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class PropensityRecipe:
    """What every device does in every round, and how the server steps.

    Attributes:
        name: The propensity's, on the devices.
        rounds: At least 1.
        passes: Over the device's cases in a round.
        device_learning_rate: Of the device's steps.
        memory: What each weight's memory starts with on the device; at 1 a step is close to plain
            gradient descent, for gradients of a logistic loss are small.
        clip_norm: L2 bound of one device's change.
        optimizer: The server's step.
        mechanism: How the rounds' noise hangs together.
        min_separation: Fewest rounds between two rounds of one person, as a difference of their
            numbers; 1 lets everybody be in every round, which costs the most.
        max_participations: Most rounds of one person; by default as many as fit.

    Raises:
        ValueError: a number out of range; what devices would refuse, they do.
    """

    name: str
    rounds: int
    passes: int = 1
    device_learning_rate: float = 0.5
    memory: float = 1.0
    clip_norm: float = CLIP_NORM
    optimizer: ServerOptimizer = field(
        default_factory=lambda: ServerOptimizer(learning_rate=2.0, momentum=0.9)
    )
    mechanism: FactorisationName = FactorisationName.BLT
    min_separation: int = 1
    max_participations: int | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_ID_CHARS:
            raise ValueError(f"name: expected 1 to {MAX_ID_CHARS} characters; got another")
        most = 1 if self.max_participations is None else self.max_participations
        if min(self.rounds, self.passes, self.min_separation, most) < 1:
            raise ValueError("rounds, passes, separation and participations: expected 1 or more")
        if not (self.device_learning_rate > 0 and self.memory > 0 and self.clip_norm > 0):
            raise ValueError("device_learning_rate, memory and clip_norm: expected more than 0")

    @property
    def participations(self) -> int:
        """Most rounds of one person."""
        fitting = -(-self.rounds // self.min_separation)
        return min(fitting, self.max_participations or fitting)

    def factorisation(self) -> Factorisation:
        """Find the best strategy of the mechanism for these rounds; seconds at first."""
        return factorisation_for(
            self.mechanism,
            rounds=self.rounds,
            min_separation=self.min_separation,
            max_participations=self.participations,
        )

    def terms(self, *, run_id: str, started_at_s: int) -> RunTerms:
        """Give what every order says of a run that has no noise, and so no plan."""
        return RunTerms(
            run_id=run_id,
            started_at_s=started_at_s,
            rounds=self.rounds,
            min_separation=self.min_separation,
            max_participations=self.participations,
        )

    def parameters(self, weights: PropensityWeights) -> dict[str, Any]:
        """Give the parameters of an order."""
        return {
            "propensity": self.name,
            "features": weights.n_features,
            "hidden": weights.hidden,
            "learning_rate": self.device_learning_rate,
            "memory": self.memory,
            "passes": self.passes,
        }


@dataclass(frozen=True, kw_only=True)
class LearnedPropensity:
    """What a campaign gave, and what it rests on.

    Attributes:
        name: The propensity's.
        weights: From where devices start; `PropensityWeights.to_payload` is how they travel.
        tasks: The rounds that were asked; they share one release.
        run_events: The run's release, and what was booked for it beyond that.
    """

    name: str
    weights: PropensityWeights
    tasks: tuple[TaskRecord, ...]
    run_events: tuple[ReleaseEvent, ...] = ()

    @property
    def events(self) -> list[ReleaseEvent]:
        """The releases, each once, for an accountant."""
        return list(dict.fromkeys([*(task.event for task in self.tasks), *self.run_events]))


def learn_propensity(
    campaign: Campaign,
    start: PropensityWeights,
    recipe: PropensityRecipe,
    *,
    cohort_of: CohortOf | None = None,
    on_round: OnRound | None = None,
) -> LearnedPropensity:
    """Train the weights of one propensity round by round; the campaign's whole price is this run's.

    Args:
        campaign: Whom to ask, and at what price.
        start: The first weights; public.
        recipe: What is done in each round.
        cohort_of: Round number to the node ids to invite; by default everyone.
        on_round: Called after each round.

    Raises:
        BudgetExhaustedError: the ledger refused the run.
        QuorumNotReachedError: too few contributions to a round. Where no round was done, the run
            is voided; else it waits for `resume_propensity`.
        ValueError: noise without `Campaign.runs`.
    """
    state = state_from_weights(start)
    if isinstance(campaign.privacy, UnsafeNoPrivacy):
        return _learn_without_privacy(campaign, state, recipe, cohort_of, on_round)
    (noise_multiplier,) = campaign.noise_multipliers([1.0])
    run = campaign.begin_run(
        TaskKind.PROPENSITY_TRAINING,
        dimension=start.parameters.size,
        noise_multiplier=noise_multiplier,
        factorisation=recipe.factorisation(),
        clipping=ClippingPolicy(clip_norm=recipe.clip_norm),
        model=encode_state(state),
    )
    return _finish(campaign, run, recipe, cohort_of, on_round)


def resume_propensity(
    campaign: Campaign,
    run_id: str,
    recipe: PropensityRecipe,
    *,
    cohort_of: CohortOf | None = None,
    on_round: OnRound | None = None,
) -> LearnedPropensity:
    """Take a run up where a crash or a missing quorum left it, and finish it.

    Args:
        campaign: Whom to ask; its ``runs`` have the run.
        run_id: One of ``campaign.runs.store.running()``.
        recipe: The same that the run was begun with.
        cohort_of: As `learn_propensity`.
        on_round: Called after each round that is still to come.

    Returns:
        What was learned; ``tasks`` tells of the rounds since the restart alone. Of a run that was
        finished already: the same weights, and no round.

    Raises:
        RunStateError: the run was stopped, or contradicts the ledger.
        RunKeyError: its key is lost.
        QuorumNotReachedError, BudgetExhaustedError: as `learn_propensity`.
    """
    if campaign.runs is None:
        raise ValueError("a campaign without runs has none to resume")
    return _finish(campaign, campaign.runs.resume(run_id), recipe, cohort_of, on_round)


def encode_state(state: PropensityState) -> bytes:
    """Write what a run stores after each round: a line of canonical JSON, then float32 arrays."""
    header = {
        "features": state.weights.n_features,
        "hidden": state.weights.hidden,
        "rounds": state.rounds,
    }
    velocity = np.ascontiguousarray(state.velocity, "<f4").tobytes()
    return canonical_json(header) + _NEWLINE + state.weights.to_payload() + velocity


def decode_state(data: bytes) -> PropensityState:
    """Read what `encode_state` wrote.

    Raises:
        RunStateError: anything else.
    """
    first, _, body = data.partition(_NEWLINE)
    try:
        header = json.loads(first)
        features, hidden = int(header["features"]), int(header["hidden"])
        rounds = int(header["rounds"])
        length = (len(body) // 4 - 2 * features) // 2 * 4
        weights = PropensityWeights.from_payload(
            body[: len(body) - length], features=features, hidden=hidden
        )
        velocity = np.frombuffer(body[len(body) - length :], "<f4").astype(np.float32)
        if velocity.shape != weights.parameters.shape or not np.isfinite(velocity).all():
            raise RunStateError("the stored weights have another length than they say")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunStateError("the stored weights of the run do not read") from error
    return PropensityState(weights=weights, velocity=velocity, rounds=rounds)


def _finish(
    campaign: Campaign,
    run: TrainingRun,
    recipe: PropensityRecipe,
    cohort_of: CohortOf | None,
    on_round: OnRound | None,
) -> LearnedPropensity:
    """Take a run from where it stands to its end, and account for who was in it."""
    records: list[TaskRecord] = []
    try:
        while not run.is_complete:
            records.append(_one_round(campaign, run, recipe, cohort_of))
            if on_round is not None:
                on_round(run.rounds_done - 1, decode_state(run.model))
    except BaseException as error:
        if run.rounds_done == 0 and run.is_running:
            run.stop(type(error).__name__)
        raise
    run.finish()
    return LearnedPropensity(
        name=recipe.name,
        weights=decode_state(run.model).weights,
        tasks=tuple(records),
        run_events=(run.plan.event, *run.supplements),
    )


def _one_round(
    campaign: Campaign, run: TrainingRun, recipe: PropensityRecipe, cohort_of: CohortOf | None
) -> TaskRecord:
    state = decode_state(run.model)
    collected = campaign.collect_round(
        run,
        parameters=recipe.parameters(state.weights),
        payload=state.weights.to_payload(),
        cohort=None if cohort_of is None else cohort_of(run.rounds_done),
    )

    def step(noisy_sum: NDArray[np.float64]) -> bytes:
        mean = noisy_sum / run.plan.event.report_goal
        return encode_state(apply_mean_change(state, mean, recipe.optimizer))

    run.close_round(collected, step)
    return TaskRecord.of_round(run.plan.event, collected)


def _learn_without_privacy(
    campaign: Campaign,
    state: PropensityState,
    recipe: PropensityRecipe,
    cohort_of: CohortOf | None,
    on_round: OnRound | None,
) -> LearnedPropensity:
    """Train on exact sums, under the same rules of participation: the ceiling of a simulation."""
    terms = recipe.terms(run_id=campaign.new_task_id(), started_at_s=int(campaign.clock()))
    records = []
    for number in range(recipe.rounds):
        result = campaign.ask(
            TaskKind.PROPENSITY_TRAINING,
            dimension=state.weights.parameters.size,
            noise_multiplier=0.0,
            parameters=recipe.parameters(state.weights),
            payload=state.weights.to_payload(),
            round_number=number,
            clip_norm=recipe.clip_norm,
            cohort=None if cohort_of is None else cohort_of(number),
            run=terms,
        )
        mean = result.noisy_sum / result.report_goal
        state = apply_mean_change(state, mean, recipe.optimizer)
        records.append(TaskRecord.of(result))
        if on_round is not None:
            on_round(number, state)
    return LearnedPropensity(name=recipe.name, weights=state.weights, tasks=tuple(records))
