"""Fairness across segments: the difference of a rate between two groups, with its interval.

Rules a reader can check line by line:

1. A gap is the difference of two groups' means. People are in one group, and each entry has its own
   noise, so the variances add.
2. Groups that are suppressed, or whose mean noise hides, are in no gap; they are named, so that
   nobody takes silence for fairness.
3. With g groups there are g (g - 1) / 2 gaps. By default the intervals hold *jointly* (Bonferroni):
   "some gap is above the tolerance" is wrong at most as often as the confidence says.
4. A verdict needs the whole interval on one side of the tolerance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.experiment_outcomes import GroupOutcome, Interval
from models.statistics.drift import Verdict
from models.statistics.histogram import z_of


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How two groups differ.

    Attributes:
        first: A group.
        second: Another one.
        difference: Mean of the second less mean of the first.
    """

    first: str
    second: str
    difference: Interval

    def verdict(self, tolerance: float) -> Verdict:
        """Say whether the size of the gap is above a tolerance of 0 or more.

        Raises:
            ValueError: a tolerance below 0 or not finite.
        """
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"tolerance: expected a finite number, 0 or more; got {tolerance}")
        low, high = self.difference.low, self.difference.high
        if low > tolerance or high < -tolerance:
            return Verdict.ABOVE
        return Verdict.WITHIN if -tolerance <= low and high <= tolerance else Verdict.UNDECIDED


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """All gaps of one measure.

    Attributes:
        gaps: Of every two groups that are told, the largest first.
        suppressed: Groups of which nothing is told.
        joint: Whether the intervals hold together.
    """

    gaps: tuple[Gap, ...]
    suppressed: tuple[str, ...]
    joint: bool


def fairness_gaps(
    groups: Sequence[GroupOutcome], measure: str, *, confidence: float = 0.95, joint: bool = True
) -> Fairness:
    """Compare a measure between every two groups.

    Args:
        groups: Of one question.
        measure: The name of one of its means.
        confidence: Of all intervals together, or of each.
        joint: Whether together.

    Raises:
        ValueError: no group has the measure and none is suppressed, or the confidence is out of
            range.
    """
    z_of(confidence)
    told = [group for group in groups if _known(group, measure)]
    if not told and any(group.means for group in groups):
        raise ValueError(f"expected a measure of the question; got {measure!r}")
    pairs = list(itertools.combinations(told, 2))
    level = 1.0 - (1.0 - confidence) / len(pairs) if joint and pairs else confidence
    gaps = [_gap(first, second, measure, z_of(level)) for first, second in pairs]
    gaps.sort(key=lambda gap: -abs(gap.difference.value or 0.0))
    hidden = tuple(group.group for group in groups if not _known(group, measure))
    return Fairness(gaps=tuple(gaps), suppressed=hidden, joint=joint)


def _known(group: GroupOutcome, measure: str) -> bool:
    return measure in group.means and group.means[measure].value is not None


def _gap(first: GroupOutcome, second: GroupOutcome, measure: str, z: float) -> Gap:
    a, b = first.means[measure], second.means[measure]
    value = (b.value or 0.0) - (a.value or 0.0)
    error = math.hypot(a.standard_error, b.standard_error)
    difference = Interval(
        value=value, standard_error=error, low=value - z * error, high=value + z * error
    )
    return Gap(first=first.group, second=second.group, difference=difference)
