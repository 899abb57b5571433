"""Membership inference as statistics: how well a score tells members from others, with its error.

Guarantee: where everything that was published is together one Gaussian release of separation μ
(1/σ), no test of membership beats the trade-off curve Φ(Φ⁻¹(FPR) + μ), and no score has a larger
AUC than Φ(μ/√2) (Dong, Roth and Suh 2022, arXiv 1905.02383). A measured AUC whose lower confidence
limit lies above that refutes the claim; one below proves nothing, since a better attack may exist.

Neighbouring relation: that of the claim; one member is one person.

Edge cases:

| input | outcome |
|---|---|
| equal scores | count as half in the AUC; never as a true positive at a threshold |
| fewer than two scores in a group, or NaN | `ValueError` |
| a false positive rate that no threshold reaches | the rate is 0 members, its interval is honest |

Test: tests/privacy/test_membership.py (all pairs counted, coverage by simulation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta, rankdata

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured share with its confidence limits, each in [0, 1]."""

    value: float
    low: float
    high: float


def auc(members: Floats, others: Floats, *, confidence: float) -> Interval:
    """Measure how often a member scores above somebody who is none.

    The variance is bounded by A(1-A)/min(m, n), the largest that any two distributions have (van
    Dantzig 1951; Birnbaum and Klose 1957), so the limits are too wide rather than too narrow.

    Args:
        members: Scores of people who were in.
        others: Scores of people like them who were not.
        confidence: Of each limit (one-sided), in (0.5, 1).

    >>> auc(np.array([2.0, 3.0]), np.array([1.0, 2.0]), confidence=0.95).value
    0.875
    """
    _check(members, others)
    ranks = rankdata(np.concatenate([members, others]))[: members.size]
    pairs = members.size * others.size
    value = float((ranks.sum() - members.size * (members.size + 1) / 2.0) / pairs)
    fewest = min(members.size, others.size)
    # Of a plug-in at 0 or 1 nothing would be left; half a person keeps it honest.
    kept = min(max(value, 0.5 / fewest), 1.0 - 0.5 / fewest)
    reach = float(ndtri(confidence)) * math.sqrt(kept * (1.0 - kept) / fewest)
    return Interval(value=value, low=max(0.0, value - reach), high=min(1.0, value + reach))


def true_positives_at(
    members: Floats, others: Floats, *, false_positive_rate: float, confidence: float
) -> tuple[Interval, Interval]:
    """Measure the share of members above the threshold that so few others exceed.

    Args:
        members: Scores of people who were in.
        others: Scores of people who were not.
        false_positive_rate: In (0, 1).
        confidence: Of each Clopper-Pearson limit (one-sided).

    Returns:
        True and false positive rate. The threshold is an order statistic of ``others``.
    """
    _check(members, others)
    if not 0.0 < false_positive_rate < 1.0:
        raise ValueError("false_positive_rate must lie strictly between 0 and 1")
    allowed = int(false_positive_rate * others.size)
    threshold = np.sort(others)[others.size - 1 - allowed]
    found = int(np.count_nonzero(members > threshold))
    wrong = int(np.count_nonzero(others > threshold))
    return (
        share_of(found, members.size, confidence=confidence),
        share_of(wrong, others.size, confidence=confidence),
    )


def share_of(count: int, total: int, *, confidence: float) -> Interval:
    """Give a share with its Clopper-Pearson limits, each one-sided at ``confidence``.

    >>> share_of(0, 100, confidence=0.95).low
    0.0
    """
    miss = 1.0 - confidence
    low = 0.0 if count == 0 else float(beta.ppf(miss, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1.0 - miss, count + 1, total - count))
    return Interval(value=count / total, low=low, high=high)


def most_auc(mu: float) -> float:
    """Return the largest AUC that a Gaussian release of separation ``mu`` allows.

    >>> most_auc(0.0)
    0.5
    """
    return float(ndtr(mu / math.sqrt(2.0)))


def most_true_positives(false_positive_rate: float, mu: float) -> float:
    """Return the largest true positive rate that the release allows at a false positive rate."""
    return float(ndtr(ndtri(false_positive_rate) + mu))


def _check(members: Floats, others: Floats) -> None:
    if min(members.size, others.size) < 2:
        raise ValueError("each group needs at least two people")
    if not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise ValueError("scores must be finite")
