"""From the noisy sum of a survey to its histograms, counts and means.

Rules a reader can check line by line:

1. A question with bins and no measure is a `NoisyHistogram`: its noise has the deviation noise_std
   over what one person adds to a cell. Without bins it is a count of who answered.
2. A question with measures is decoded cell by cell as the groups of an experiment are
   (`models.experiment_outcomes`), so its intervals hold sampling and noise.
3. A cell that holds fewer than ``least_persons`` (noisy) people is suppressed: its count may be
   shown, nothing else is said of it. This is on top of the noise, which protects each person
   anyway: the mean of a handful says little, and is read as much.
4. Nothing but the noisy sum and public settings is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.statistics import Measure, Question, Survey
from models.experiment_outcomes import (
    GroupOutcome,
    Interval,
    OutcomeMetric,
    decode_experiment_outcomes,
)
from models.statistics.histogram import NoisyHistogram

LEAST_PERSONS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class DecodedSurvey:
    """What a survey says.

    Attributes:
        histograms: By question, those without measures.
        groups: By question, those with: a group for each cell, in order. A mean is named
            ``"feature"`` or ``"share of feature"``.
        confidence: Of the intervals of the means.
    """

    histograms: Mapping[str, NoisyHistogram]
    groups: Mapping[str, tuple[GroupOutcome, ...]]
    confidence: float


def decode_survey(
    noisy_sum: NDArray[np.float64],
    survey: Survey,
    *,
    clip_norm: float,
    noise_std: float,
    confidence: float = 0.95,
    least_persons: float = LEAST_PERSONS,
) -> DecodedSurvey:
    """Turn the noisy sum of a survey's vectors into estimates.

    Args:
        noisy_sum: float64[survey.dimension], the sum over devices (not the mean).
        survey: What was asked.
        clip_norm: That of the order.
        noise_std: Deviation of the noise on each entry of the sum, 0 or more.
        confidence: Of each interval, in (0, 1).
        least_persons: Cells with fewer people say nothing of their measures.

    Raises:
        ValueError: the sum does not fit, or a number is out of range.
    """
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise ValueError(f"noise_std: expected a finite number, 0 or more; got {noise_std}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1; got {confidence}")
    blocks = survey.unpack(np.asarray(noisy_sum, np.float64), clip_norm=clip_norm)
    histograms: dict[str, NoisyHistogram] = {}
    groups: dict[str, tuple[GroupOutcome, ...]] = {}
    for question in survey.questions:
        scale = survey.scale(question, clip_norm=clip_norm)
        block = blocks[question.name]
        if question.by is not None and not question.measures:
            histograms[question.name] = NoisyHistogram.independent(
                question.by, block[:, 0], noise_std / scale
            )
        else:
            groups[question.name] = _groups(
                question,
                block * scale,
                share=scale * math.sqrt(1 + len(question.measures)),
                noise_std=noise_std,
                confidence=confidence,
                least_persons=least_persons,
            )
    return DecodedSurvey(histograms=histograms, groups=groups, confidence=confidence)


def measure_name(measure: Measure) -> str:
    """Name a measure in the report.

    >>> measure_name(Measure(feature="purchases", low=1.0, high=9.0, form="share"))
    'share of purchases in 1 to 9'
    """
    if measure.form == "share":
        return f"share of {measure.feature} in {measure.low:g} to {measure.high:g}"
    return measure.feature


def _groups(
    question: Question,
    block: NDArray[np.float64],
    *,
    share: float,
    noise_std: float,
    confidence: float,
    least_persons: float,
) -> tuple[GroupOutcome, ...]:
    names = ("everyone",) if question.by is None else question.by.names()
    if not question.measures:
        return (_count_alone(names[0], float(block[0, 0]), share, noise_std, confidence),)
    decoded = decode_experiment_outcomes(
        block.ravel(),
        groups=names,
        metrics=[
            OutcomeMetric(name=measure_name(each), bound=each.bound) for each in question.measures
        ],
        clip_norm=share,
        noise_std=noise_std,
        confidence=confidence,
    )
    bases = {measure_name(each): each.base for each in question.measures}
    return tuple(_told(group, bases, least_persons) for group in decoded.groups)


def _count_alone(
    name: str, total: float, scale: float, noise_std: float, confidence: float
) -> GroupOutcome:
    from models.statistics.histogram import z_of

    count, error, z = total / scale, noise_std / scale, z_of(confidence)
    persons = Interval(
        value=count, standard_error=error, low=count - z * error, high=count + z * error
    )
    return GroupOutcome(group=name, persons=persons, means={})


def _told(group: GroupOutcome, bases: Mapping[str, float], least_persons: float) -> GroupOutcome:
    """Add what a range begins at, and say nothing of a small group."""
    small = group.persons.value is None or group.persons.value < least_persons
    means = {
        name: Interval(
            value=None if small or mean.value is None else mean.value + bases[name],
            standard_error=math.inf if small else mean.standard_error,
            low=mean.low + bases[name],
            high=mean.high + bases[name],
        )
        for name, mean in group.means.items()
        if not small
    }
    return replace(group, means=means)
