"""Statistics of many devices: ask, add up, release with noise, book, decode with intervals.

A survey and an evaluation are tasks like any other: consent to `Purpose.STATISTICS` is checked
before the order and before the sum, one ledger books them, and nothing is decoded that is not
booked. Rules a reader can check line by line:

1. All questions of a survey are one vector with one clip norm and one release: asking more of them
   costs accuracy, not budget.
2. A survey that is asked every week is priced as a whole: the campaign's (ε, δ) covers all weeks of
   its `RunTerms`, each week is booked as a release of its own, and `series_cost` says what a week
   adds. Devices keep to the terms: at most ``max_participations`` weeks of one person. The ledger
   does not rely on it.
3. Discrete Laplace noise is for sums whose sensitivity in L1 is known: surveys of one question
   without measures (`Survey.one_entry`). Anything else is refused before anyone is asked; the sum
   refuses contributions of more than one entry, and the release of any other sum.
4. With local noise the aggregator adds none: each device did, before it sent. The noise of the sum
   is that of as many devices as are in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from aggregator.campaign import CLIP_NORM, Campaign, TaskRecord, UnsafeNoPrivacy
from aggregator.strategy import TaskResult
from client_sdk.wire import RunTerms, TaskKind
from client_sdk.wire.evaluation import layout_of
from client_sdk.wire.statistics import Survey
from client_sdk.wire.table import RankerTable
from models.statistics import (
    DecodedEvaluation,
    DecodedSurvey,
    decode_evaluation,
    decode_survey,
)
from models.statistics.survey import LEAST_PERSONS
from privacy.accounting import epsilon_deciding
from privacy.costs import Costs
from privacy.events import MechanismName, ReleaseEvent
from privacy.gaussian import noise_multiplier_for

LOCAL_NOISE: Final = "local_noise_multiplier"
_BISECTIONS: Final = 30
_MOST_MODELS: Final = 2


@dataclass(frozen=True, kw_only=True)
class AnsweredSurvey:
    """What a survey gave.

    Attributes:
        survey: What was asked.
        found: Histograms, counts and means.
        noise_std: Deviation of the noise on each entry of the sum.
        task: The release that it rests on; its sum was dropped.
    """

    survey: Survey
    found: DecodedSurvey
    noise_std: float
    task: TaskRecord


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What an evaluation gave.

    Attributes:
        found: Ranking quality, and the differences where there were two rankers.
        task: The release that it rests on.
    """

    found: DecodedEvaluation
    task: TaskRecord


@dataclass(frozen=True, kw_only=True)
class SeriesCost:
    """What a survey of several weeks costs.

    Attributes:
        epsilon_a_week: ε of one week alone.
        epsilon_of_all: ε of all weeks together, as the ledger books them.
        epsilon_of_a_person: ε of the weeks that one device takes part in, if it keeps its terms.
    """

    epsilon_a_week: float
    epsilon_of_all: float
    epsilon_of_a_person: float


def ask_survey(
    campaign: Campaign,
    survey: Survey,
    *,
    mechanism: MechanismName = MechanismName.GAUSSIAN,
    series: RunTerms | None = None,
    week: int = 0,
    clip_norm: float = CLIP_NORM,
    confidence: float = 0.95,
    least_persons: float = LEAST_PERSONS,
    cohort: Sequence[int] | None = None,
) -> AnsweredSurvey:
    """Ask a survey once, and decode the noisy sum.

    Args:
        campaign: Whom to ask, and at what price.
        survey: The questions.
        mechanism: Gaussian, discrete Gaussian, discrete Laplace or local Gaussian.
        series: The weeks that the price covers; by default this one.
        week: Which of them, from 0.
        clip_norm: L2 bound of one person over all questions.
        confidence: Of each interval.
        least_persons: Smaller groups are suppressed.
        cohort: Node ids to invite; by default everyone.

    Raises:
        ValueError: the mechanism is not for this survey; nobody was asked.
        BudgetExhaustedError: nobody was asked.
        QuorumNotReachedError: nothing was released.
    """
    if mechanism is MechanismName.DISCRETE_LAPLACE and not survey.one_entry:
        raise ValueError(
            "discrete Laplace noise is for a survey of one question without measures: a person "
            "there has one entry; use a Gaussian for this one"
        )
    releases = 1 if series is None else series.rounds
    noise = _noise_multiplier(campaign, mechanism, releases)
    parameters: dict[str, float] = {"entries": survey.dimension}
    if mechanism is MechanismName.LOCAL_GAUSSIAN and noise:
        parameters[LOCAL_NOISE] = noise
    result = campaign.ask(
        TaskKind.SURVEY,
        dimension=survey.dimension,
        noise_multiplier=noise,
        parameters=parameters,
        payload=survey.to_bytes(),
        round_number=week,
        clip_norm=clip_norm,
        cohort=cohort,
        run=series,
        mechanism=mechanism,
    )
    noise_std = noise_std_of(result)
    return AnsweredSurvey(
        survey=survey,
        found=decode_survey(
            result.noisy_sum,
            survey,
            clip_norm=clip_norm,
            noise_std=noise_std,
            confidence=confidence,
            least_persons=least_persons,
        ),
        noise_std=noise_std,
        task=TaskRecord.of(result),
    )


def ask_evaluation(
    campaign: Campaign,
    tables: Sequence[RankerTable],
    *,
    clip_norm: float = CLIP_NORM,
    confidence: float = 0.95,
    cohort: Sequence[int] | None = None,
) -> Evaluated:
    """Let every device try one released ranker, or two side by side, on its own latest item.

    Args:
        campaign: Whom to ask, and at what price.
        tables: One or two rankers of the campaign's catalogue; public.
        clip_norm: L2 bound of one person.
        confidence: Of each interval.
        cohort: Node ids to invite; by default everyone.

    Raises:
        ValueError: no table, more than two, or one of another catalogue; nobody was asked.
        BudgetExhaustedError: nobody was asked.
        QuorumNotReachedError: nothing was released.
    """
    fitting = all(table.n_items == campaign.n_items for table in tables)
    if not (1 <= len(tables) <= _MOST_MODELS and fitting):
        raise ValueError("tables: expected one or two rankers of the catalogue; got others")
    parts = [table.to_bytes() for table in tables]
    result = campaign.ask(
        TaskKind.MODEL_EVALUATION,
        dimension=layout_of(len(parts), clip_norm=clip_norm).dimension,
        noise_multiplier=_noise_multiplier(campaign, MechanismName.GAUSSIAN, 1),
        parameters={"models": len(parts), "first_bytes": len(parts[0])},
        payload=b"".join(parts),
        clip_norm=clip_norm,
        cohort=cohort,
    )
    found = decode_evaluation(
        result.noisy_sum,
        models=len(parts),
        clip_norm=clip_norm,
        noise_std=result.event.noise_std,
        confidence=confidence,
    )
    return Evaluated(found=found, task=TaskRecord.of(result))


def noise_std_of(result: TaskResult) -> float:
    """Give the deviation of the noise on each entry of a released sum.

    An event says what a full report would carry; with local noise the sum carries that of the
    devices which are in it.
    """
    event = result.event
    if event.mechanism is not MechanismName.LOCAL_GAUSSIAN:
        return event.noise_std
    return event.noise_std * math.sqrt(result.accepted / event.report_goal)


def noise_multiplier_of(
    mechanism: MechanismName, *, epsilon: float, delta: float, releases: int = 1
) -> float:
    """Give the noise multiplier with which so many releases together cost (ε, δ).

    Raises:
        ValueError: no mechanism of one release, or a number out of range.

    >>> round(noise_multiplier_of(MechanismName.DISCRETE_LAPLACE, epsilon=1.0, delta=1e-6), 4)
    1.4142
    """
    if mechanism in (MechanismName.GAUSSIAN, MechanismName.LOCAL_GAUSSIAN):
        return noise_multiplier_for(epsilon=epsilon, delta=delta, releases=releases)
    if mechanism is MechanismName.DISCRETE_LAPLACE and epsilon > 0.0:
        return math.sqrt(2.0) * releases / epsilon * (1.0 + 1e-12)
    if mechanism is MechanismName.DISCRETE_GAUSSIAN:
        return _discrete_gaussian(epsilon, delta) * math.sqrt(releases)
    raise ValueError(f"a survey is not released by {mechanism.value}")


def series_cost(event: ReleaseEvent, series: RunTerms, *, delta: float) -> SeriesCost:
    """Say what the weeks of a survey cost, from the event of one of them.

    Args:
        event: What the ledger booked for one week.
        series: The weeks.
        delta: δ at which each ε is told.
    """

    def told(releases: int) -> float:
        events = [replace(event, task_id=f"{number:032x}") for number in range(releases)]
        return epsilon_deciding(events, delta)

    return SeriesCost(
        epsilon_a_week=told(1),
        epsilon_of_all=told(series.rounds),
        epsilon_of_a_person=told(min(series.rounds, series.max_participations)),
    )


def _noise_multiplier(campaign: Campaign, mechanism: MechanismName, releases: int) -> float:
    target = campaign.privacy
    if isinstance(target, UnsafeNoPrivacy):
        return 0.0
    return noise_multiplier_of(
        mechanism, epsilon=target.epsilon, delta=target.delta, releases=releases
    )


def _discrete_gaussian(epsilon: float, delta: float) -> float:
    """Search the multiplier that costs ε by the accountant that the ledger decides with."""
    from privacy.accounting import pld_of_costs

    low = noise_multiplier_for(epsilon=epsilon, delta=delta)
    high = 2.0 * low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        costs = Costs(discrete_rho=0.5 / middle**2)
        low, high = (low, middle) if pld_of_costs(costs, delta) <= epsilon else (middle, high)
        if high - low < 1e-4 * high:
            break
    return high
