"""How good a released ranker is for the people who answered, and which of two is better.

Each device held its own latest item out (`client_sdk.federation.evaluation`) and sent one vector.
The differences were taken on each device, so their interval is that of a paired comparison: much
narrower than that of two means, because the same people are easy or hard for both rankers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.evaluation import COMPARISON, EVALUATION, difference_of
from models.experiment_outcomes import Interval, OutcomeMetric, decode_experiment_outcomes


@dataclass(frozen=True, kw_only=True)
class DecodedEvaluation:
    """What the people who answered say.

    Attributes:
        persons: How many; the interval is that of the noise.
        quality: ``hr@10`` and ``ndcg@10`` of the (first) ranker.
        differences: The same of the second ranker less the first; empty for one ranker.
        confidence: Of each interval.
    """

    persons: Interval
    quality: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    confidence: float


def decode_evaluation(
    noisy_sum: NDArray[np.float64],
    *,
    models: int,
    clip_norm: float,
    noise_std: float,
    confidence: float = 0.95,
) -> DecodedEvaluation:
    """Turn the noisy sum of an evaluation into quality with intervals.

    Args:
        noisy_sum: float64[5] for one ranker, float64[9] for two.
        models: 1 or 2.
        clip_norm: That of the order.
        noise_std: Deviation of the noise on each entry of the sum.
        confidence: Of each interval.

    Raises:
        ValueError: the sum does not fit, or a number is out of range.
    """
    names = EVALUATION if models == 1 else COMPARISON
    group = decode_experiment_outcomes(
        noisy_sum,
        groups=["everyone"],
        metrics=[OutcomeMetric(name=name) for name in names],
        clip_norm=clip_norm,
        noise_std=noise_std,
        confidence=confidence,
    ).groups[0]
    return DecodedEvaluation(
        persons=group.persons,
        quality={name: group.means[name] for name in EVALUATION},
        differences={
            name: _difference(group.means[told])
            for name, told in zip(EVALUATION, names[len(EVALUATION) :], strict=False)
        },
        confidence=confidence,
    )


def _difference(part: Interval) -> Interval:
    return Interval(
        value=None if part.value is None else difference_of(part.value),
        standard_error=2.0 * part.standard_error,
        low=difference_of(part.low),
        high=difference_of(part.high),
    )
