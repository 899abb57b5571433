"""The server half of experiment outcomes: from a noisy sum to effects with honest intervals.

Each device sends one vector (`client_sdk.wire.outcomes`): which group, and for each metric the
outcome y in [0, 1] and its spread y (1 - y). The aggregator adds Gaussian noise of one deviation to
each entry of the sum. Rules a reader can check line by line:

1. In units of persons the noise has the deviation t = noise_std / scale; on the spread a third.
2. A mean is the noisy sum over the noisy count, T / n. Its variance has two parts, added up:
   sampling, v / n, and noise, t² (1 + mean²) / n² (first order of a ratio of two noisy numbers).
3. The sampling variance is v = mean - mean² - E[y (1 - y)], which is the variance of y; the mean in
   it is (T + 1) / (n + 2) (Agresti, Caffo 2000), so that a group without any event has an interval.
4. An interval is normal, and never wider than what is possible: a mean lies in [0, bound], a
   difference in [-bound, bound]. Where a count is not at least `LEAST_COUNT_RATIO` times its noise,
   nothing is known of the group's means: no estimate, and the whole of what is possible.
5. Nothing but the noisy sum and public settings is used: this is post-processing. Each interval
   stands for itself; who looks at many of them asks for a higher confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.outcomes import OutcomeLayout

LEAST_COUNT_RATIO: Final = 5.0
_LEAST_PERSONS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class OutcomeMetric:
    """A metric as the server has to know it.

    Attributes:
        name: For the report.
        bound: The largest outcome of one person, in the metric's unit; finite and above 0.
    """

    name: str
    bound: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"bound: expected a finite number above 0; got {self.bound}")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval, in the metric's unit (or in persons).

    Attributes:
        value: The estimate; None where noise hides it.
        standard_error: Of sampling and noise together; infinite where there is no estimate.
        low: Where the interval begins.
        high: Where it ends.
    """

    value: float | None
    standard_error: float
    low: float
    high: float

    def holds(self, truth: float) -> bool:
        """Say whether a value lies inside."""
        return self.low <= truth <= self.high


@dataclass(frozen=True, kw_only=True)
class GroupOutcome:
    """What came of one group.

    Attributes:
        group: Its name.
        persons: How many were exposed; the interval is that of the noise.
        means: The mean outcome a person, by metric.
    """

    group: str
    persons: Interval
    means: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How a group differs from the first one.

    Attributes:
        group: Its name.
        metric: The metric.
        difference: Mean of the group less mean of the first group.
    """

    group: str
    metric: str
    difference: Interval


@dataclass(frozen=True, kw_only=True)
class DecodedExperiment:
    """What an experiment says.

    Attributes:
        groups: In the order of the vector.
        effects: Each later group beside the first one, metric by metric.
        confidence: Of each interval.
    """

    groups: tuple[GroupOutcome, ...]
    effects: tuple[Effect, ...]
    confidence: float


def decode_experiment_outcomes(
    noisy_sum: NDArray[np.float64],
    *,
    groups: Sequence[str],
    metrics: Sequence[OutcomeMetric],
    clip_norm: float,
    noise_std: float,
    confidence: float = 0.95,
) -> DecodedExperiment:
    """Turn the noisy sum of an experiment's vectors into counts, means and effects.

    Args:
        noisy_sum: float64[groups (1 + 2 metrics)], the sum over devices (not the mean).
        groups: The groups' names, in the order of the definition; at least 1.
        metrics: The metrics, in the order of the definition; at least 1.
        clip_norm: That of the order.
        noise_std: Deviation of the noise on each entry of the sum, 0 or more.
        confidence: Of each interval, in (0, 1).

    Raises:
        ValueError: the sum does not fit, a name is there twice, or a number is out of range.

    >>> layout = OutcomeLayout(groups=2, metrics=1, clip_norm=1.0)
    >>> total = layout.scale * np.array([1000.0, 100.0, 0.0, 1000.0, 150.0, 0.0])
    >>> found = decode_experiment_outcomes(total, groups=["control", "linen"], clip_norm=1.0,
    ...     metrics=[OutcomeMetric(name="bought")], noise_std=5.0)
    >>> effect = found.effects[0].difference
    >>> round(effect.value, 3), round(effect.low, 3), round(effect.high, 3)
    (0.05, 0.015, 0.085)
    """
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise ValueError(f"noise_std: expected a finite number, 0 or more; got {noise_std}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1; got {confidence}")
    names = [metric.name for metric in metrics]
    if len(set(groups)) != len(groups) or len(set(names)) != len(names):
        raise ValueError("groups, metrics: expected different names; got one twice")
    layout = OutcomeLayout(groups=len(groups), metrics=len(metrics), clip_norm=clip_norm)
    counts, sums, spreads = layout.unpack(np.asarray(noisy_sum, np.float64))
    noise = noise_std / layout.scale
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    outcomes: list[GroupOutcome] = []
    effects: list[Effect] = []
    first: list[_Mean] = []
    for place, group in enumerate(groups):
        count = float(counts[place])
        means = [
            _mean(count, float(total), float(spread), noise)
            for total, spread in zip(sums[place], spreads[place], strict=True)
        ]
        first = first or means
        persons = Interval(
            value=count, standard_error=noise, low=count - z * noise, high=count + z * noise
        )
        outcomes.append(
            GroupOutcome(
                group=group,
                persons=persons,
                means={
                    metric.name: _interval(mean, z, 0.0, 1.0, metric.bound)
                    for metric, mean in zip(metrics, means, strict=True)
                },
            )
        )
        effects += [
            Effect(
                group=group,
                metric=metric.name,
                difference=_interval(_less(mean, base), z, -1.0, 1.0, metric.bound),
            )
            for metric, mean, base in zip(metrics, means, first, strict=True)
            if place
        ]
    return DecodedExperiment(groups=tuple(outcomes), effects=tuple(effects), confidence=confidence)


# A mean in parts of the bound and its variance; None where nothing is known.
_Mean = tuple[float, float] | None


def _mean(count: float, total: float, spread: float, noise: float) -> _Mean:
    if count < max(LEAST_COUNT_RATIO * noise, _LEAST_PERSONS):
        return None
    mean = total / count
    smoothed = min(1.0, max(0.0, (total + 1.0) / (count + 2.0)))
    sampling = max(0.0, smoothed - smoothed**2 - max(0.0, spread / count))
    return mean, sampling / count + noise**2 * (1.0 + mean**2) / count**2


def _less(mean: _Mean, base: _Mean) -> _Mean:
    if mean is None or base is None:
        return None
    return mean[0] - base[0], mean[1] + base[1]


def _interval(found: _Mean, z: float, least: float, most: float, bound: float) -> Interval:
    if found is None:
        return Interval(value=None, standard_error=math.inf, low=least * bound, high=most * bound)
    value, error = found[0], math.sqrt(found[1])
    low, high = (min(most, max(least, value + side * z * error)) for side in (-1.0, 1.0))
    return Interval(
        value=value * bound, standard_error=error * bound, low=low * bound, high=high * bound
    )
