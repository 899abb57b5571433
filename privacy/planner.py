"""Planning: from people, rounds and a budget to a mechanism, its noise, and what that is good for.

Guarantee: every plan of `plans_for` costs at most ``epsilon`` at ``delta`` by the exact Gaussian
curve (with Poisson sampling: by PLD's upper bound), under the participation that the plan names.
Whether devices keep to it is enforced elsewhere (`client_sdk.federation`, `aggregator`).

Neighbouring relation: `privacy.events.ADJACENCY`.

What the columns mean:

| column | is |
|---|---|
| noise multiplier | deviation of the white noise / sensitivity of the whole release; the same for \
every mechanism without sampling |
| relative error | norm of the noise in the model over the largest norm that the signal can have: \
multiplier · RMSE of the prefix sums · √dimension / (M · T); one release: RMSE 1, T 1 |
| noise an entry | the same without √dimension: what utility curves are recorded over |

Real updates do not all point the same way, so the error is at least this. A tenth of ρ is set aside
for the item counts that each of the item tasks starts with, when utility is predicted.

Edge cases:

| request | outcome |
|---|---|
| one round | one release of the task itself, nothing else |
| more rounds | the four mechanisms for rounds, and one release of everybody, once, beside them |
| Poisson sampling | only when asked; its assumption is in `Plan.assumes` |
| a plan of which no gain is left, or more noise than signal | verdict ``no`` |

Test: tests/privacy/test_planner.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from client_sdk.wire import TaskKind
from privacy.accounting import pld_of_costs
from privacy.costs import Costs
from privacy.events import MechanismName, ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName
from privacy.gaussian import noise_multiplier_for
from privacy.optimise import factorisation_for
from privacy.plan_request import Request
from privacy.utility_curves import Prediction, UtilityCurve, curve_for

COUNTS_SHARE: Final = 0.1
_ITEM_TASKS: Final = frozenset({TaskKind.ITEM_STATISTICS, TaskKind.ITEM_TRAINING})
# 1,000 items; 500 of them, packed; 1,000 items of 32 factors. Any other task: a small table.
_DIMENSIONS: Final = {
    TaskKind.ITEM_COUNTS: 1_000,
    TaskKind.ITEM_STATISTICS: 125_250,
    TaskKind.ITEM_TRAINING: 32_000,
}
_OTHER_DIMENSION: Final = 100
_ROUNDS: Final = (
    FactorisationName.INDEPENDENT_ROUNDS,
    FactorisationName.TREE,
    FactorisationName.BANDED_TOEPLITZ,
    FactorisationName.BLT,
)
_SEARCH_PRECISION: Final = 1e-4
_SEARCH_INTERVAL: Final = 1e-3

YES: Final = "yes"
WEAK: Final = "weak"
NO: Final = "no"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to spend the budget.

    Attributes:
        mechanism: How.
        task: What is asked.
        rounds: How many releases.
        report_goal: How many people in each.
        population: Out of how many.
        epsilon: The budget.
        delta: The budget's δ.
        noise_multiplier: Deviation of the white noise over the sensitivity of the whole release.
        dimension: Length of the vector.
        factorisation: How the rounds' noise hangs together; None for one release.
        sampling_probability: With Poisson sampling only.
        prediction: From a recorded curve, where there is one for the task.
    """

    mechanism: MechanismName
    task: TaskKind
    rounds: int
    report_goal: int
    population: int
    epsilon: float
    delta: float
    noise_multiplier: float
    dimension: int
    factorisation: Factorisation | None = None
    sampling_probability: float | None = None
    prediction: Prediction | None = None

    def event(self, *, population: str = "planned", task_id: str = "0" * 32) -> ReleaseEvent:
        """Describe the release as the ledger would book it, at clip norm 1."""
        return ReleaseEvent(
            kind=self.task,
            task_id=task_id,
            population=population,
            mechanism=self.mechanism,
            noise_multiplier=self.noise_multiplier,
            clip_norm=1.0,
            dimension=self.dimension,
            report_goal=self.report_goal,
            factorisation=self.factorisation,
            sampling_probability=self.sampling_probability,
        )

    @property
    def name(self) -> str:
        """The mechanism in words, and the task where it isn't the one asked for."""
        sampled = " (Poisson)" if self.sampling_probability is not None else ""
        return f"{self.mechanism.value}{sampled}"

    @property
    def sensitivity(self) -> float:
        """Of the whole release, in clip norms."""
        return 1.0 if self.factorisation is None else self.factorisation.sensitivity()

    @property
    def rho(self) -> float:
        """1 / (2 · noise multiplier²); what sampling saves is not in it."""
        return 0.5 / (self.noise_multiplier * self.noise_multiplier)

    @property
    def noise_per_entry(self) -> float:
        """Deviation of the noise in one entry of the mean over people and rounds, in clip norms."""
        rmse = 1.0 if self.factorisation is None else self.factorisation.prefix_rmse()
        return self.noise_multiplier * rmse / (self.report_goal * self.rounds)

    @property
    def relative_error(self) -> float:
        """Norm of the model's noise over the largest that its signal can have."""
        return self.noise_per_entry * math.sqrt(self.dimension)

    @property
    def assumes(self) -> tuple[str, ...]:
        """What the claim takes for granted."""
        return self.event().assumes

    @property
    def verdict(self) -> str:
        """``yes``, ``weak`` or ``no``: whether it is worth the budget."""
        if self.prediction is not None:
            kept = self.prediction.gain_kept
            return YES if kept >= 0.5 else WEAK if kept >= 0.1 else NO
        return YES if self.relative_error < 0.3 else WEAK if self.relative_error < 1.0 else NO

    @property
    def why(self) -> str:
        """The verdict in words."""
        if self.prediction is None:
            drowns = "the noise is larger than any signal" if self.verdict == NO else ""
            return drowns or f"noise is {self.relative_error:.0%} of the largest signal"
        kept = f"{self.prediction.gain_kept:.0%} of the gain is left"
        if self.verdict == NO:
            return f"drowns in noise: {kept}"
        return kept


def plans_for(
    request: Request,
    *,
    curves: Sequence[UtilityCurve] = (),
    curve: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Plan, ...]:
    """Plan the request with every mechanism that is honest for it.

    Args:
        request: What is to be planned.
        curves: Recorded utility.
        curve: Name of the one to predict from; by default that of the same data for all rows.
        tell: Called with what is being worked on; the optimisation takes seconds.

    Returns:
        One plan a mechanism, one release first.

    Raises:
        ValueError: Poisson sampling of everybody, or a curve that doesn't exist.
    """
    if curve is not None and curve_for(curves, request.task, name=curve) is None:
        raise ValueError(f"no utility of {request.task.value} was recorded")
    sigma = noise_multiplier_for(epsilon=request.epsilon, delta=request.delta)
    found = [_one_release(request, sigma)]
    if request.rounds > 1:
        separation, participations = request.participation
        for name in _ROUNDS:
            tell(f"finding the best {name.value} for {request.rounds:,} rounds")
            run = factorisation_for(
                name,
                rounds=request.rounds,
                min_separation=separation,
                max_participations=participations,
            )
            found.append(_plan(request, MechanismName(name.value), sigma, factorisation=run))
    if request.poisson:
        tell("finding the noise for Poisson sampling")
        found.append(_poisson(request))
    return tuple(predicted(plan, request, curves, name=curve) for plan in found)


def best_of(plans: Sequence[Plan]) -> Plan | None:
    """Return the plan to choose: the most gain, then the least error; None where all drown.

    Sampling is never recommended: whether its assumption holds is not for a planner to say.
    """
    honest = [plan for plan in plans if plan.verdict != NO and plan.sampling_probability is None]
    return min(honest, key=_rank, default=None)


def predicted(
    plan: Plan, request: Request, curves: Sequence[UtilityCurve], *, name: str | None = None
) -> Plan:
    """Return the plan with what the recorded curves say of it.

    Args:
        plan: Of this request.
        request: Whose task's curve decides on which data two tasks are compared.
        curves: What was recorded.
        name: Of the curve for the request's task; by default that of the most people.
    """
    main = curve_for(curves, request.task, name=name)
    # Two tasks are compared on the same data where that is possible.
    same = [each for each in curves if main is not None and each.data == main.data]
    chosen = curve_for(same, plan.task) or curve_for(curves, plan.task)
    if chosen is None:
        return plan
    noise = plan.noise_per_entry
    if plan.task in _ITEM_TASKS:
        noise /= math.sqrt(1.0 - COUNTS_SHARE)
    return replace(plan, prediction=chosen.predict(noise=noise, dimension=plan.dimension))


def _rank(plan: Plan) -> tuple[float, float]:
    kept = 0.0 if plan.prediction is None else plan.prediction.gain_kept
    return -round(kept, 2), plan.relative_error


def _one_release(request: Request, sigma: float) -> Plan:
    if request.rounds == 1:
        return _plan(request, MechanismName.GAUSSIAN, sigma)
    instead = request.task is TaskKind.ITEM_TRAINING
    task = TaskKind.ITEM_STATISTICS if instead else request.task
    return Plan(
        mechanism=MechanismName.GAUSSIAN,
        task=task,
        rounds=1,
        report_goal=request.reachable,
        population=request.population,
        epsilon=request.epsilon,
        delta=request.delta,
        noise_multiplier=sigma,
        dimension=_dimension(task, None if instead else request.dimension),
    )


def _plan(
    request: Request,
    mechanism: MechanismName,
    sigma: float,
    *,
    factorisation: Factorisation | None = None,
    sampling_probability: float | None = None,
) -> Plan:
    return Plan(
        mechanism=mechanism,
        task=request.task,
        rounds=request.rounds,
        report_goal=request.report_goal,
        population=request.population,
        epsilon=request.epsilon,
        delta=request.delta,
        noise_multiplier=sigma,
        dimension=_dimension(request.task, request.dimension),
        factorisation=factorisation,
        sampling_probability=sampling_probability,
    )


def _poisson(request: Request) -> Plan:
    rate = request.report_goal / request.population
    if rate >= 1.0:
        raise ValueError("Poisson sampling needs a report goal below the population")
    rounds = request.rounds
    in_one_round = _sampled_multiplier(
        rate, rounds=rounds, epsilon=request.epsilon, delta=request.delta
    )
    if rounds == 1:
        return _plan(request, MechanismName.GAUSSIAN, in_one_round, sampling_probability=rate)
    run = Factorisation(
        name=FactorisationName.INDEPENDENT_ROUNDS,
        rounds=rounds,
        min_separation=1,
        max_participations=rounds,
    )
    return _plan(
        request,
        MechanismName.INDEPENDENT_ROUNDS,
        in_one_round / run.sensitivity(),
        factorisation=run,
        sampling_probability=rate,
    )


def _sampled_multiplier(rate: float, *, rounds: int, epsilon: float, delta: float) -> float:
    """Return a multiplier of one round with which all sampled rounds fit; by bisection on PLD."""

    def costs(sigma: float) -> float:
        # Coarse steps only round up, and the search asks often.
        return pld_of_costs(
            Costs(sampled=((sigma, rate, rounds),)), delta, interval=_SEARCH_INTERVAL
        )

    # Without amplification it fits for sure.
    high = noise_multiplier_for(epsilon=epsilon, delta=delta, releases=rounds)
    while costs(high) > epsilon:
        high *= 1.1
    low = high / 2.0
    while low > 0.05 and costs(low) <= epsilon:
        low, high = low / 2.0, low
    while high / low - 1.0 > _SEARCH_PRECISION:
        middle = math.sqrt(low * high)
        if costs(middle) > epsilon:
            low = middle
        else:
            high = middle
    return high


def _dimension(task: TaskKind, asked: int | None) -> int:
    return asked or _DIMENSIONS.get(task, _OTHER_DIMENSION)
