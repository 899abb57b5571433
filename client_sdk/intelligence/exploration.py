"""From what is believed of some arms to a policy, and from a policy to a choice.

Rules a reader can check line by line:

1. A policy is a distribution over the arms. What is logged as a propensity is the chance under the
   very distribution that was drawn from, never an estimate of it.
2. With a floor above 0 every arm has a chance above 0, so estimates that divide by propensities
   stay unbiased.
3. Nothing draws at will: policies and draws take a seed. The same seed gives the same choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_DRAWS: Final = 10_000
_SEED_LIMIT: Final = 2**64

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmEstimates:
    """What is believed of some arms at one moment.

    Attributes:
        mean: float64[n], the expected reward.
        deviation: float64[n], how uncertain it is, in units of the reward's own deviation.
    """

    mean: FloatArray
    deviation: FloatArray


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which arm was drawn, and how likely that was.

    Attributes:
        place: Its place in the policy.
        propensity: Its chance under the policy, above 0.
    """

    place: int
    propensity: float


def ucb_policy(estimates: ArmEstimates, *, alpha: float, floor: float = 0.0) -> FloatArray:
    """Choose by the upper confidence bound: mean + alpha * deviation (LinUCB).

    Args:
        estimates: Of n arms, n >= 1.
        alpha: How much to hope, 0 or more; 0 is greedy.
        floor: Chance of an arm drawn at random instead, from 0 to 1.

    Returns:
        float64[n]: the chances. The best share theirs where they tie, so that the first of many
        unknown arms is not always the one.

    Raises:
        ValueError: no arm, or out of range.

    >>> believed = ArmEstimates(mean=np.array([0.5, 0.4]), deviation=np.array([0.1, 0.5]))
    >>> ucb_policy(believed, alpha=1.0, floor=0.1).round(3).tolist()
    [0.05, 0.95]
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError("alpha: expected a finite number of 0 or more; got another")
    bound = estimates.mean + alpha * estimates.deviation
    return _with_floor(bound == bound.max(initial=-np.inf), floor)


def thompson_policy(
    estimates: ArmEstimates, *, scale: float, seed: int, floor: float = 0.01, draws: int = 64
) -> FloatArray:
    """Choose each arm as often as it is the best under what is believed (Agrawal, Goyal 2013).

    For two arms the chance is exact: Phi(gap / (scale * root of the summed variances)). For more,
    ``draws`` beliefs are drawn from the seed, and an arm's chance is the share of them in which it
    won. That share is the policy, not an estimate of one: what is drawn from it has exactly its
    propensity. An arm that won in none of them has the floor's chance, so an estimate that
    divides by propensities stays unbiased as long as the floor is above 0.

    Args:
        estimates: Of n arms, n >= 1.
        scale: Deviation of the reward, 0 or more; 0 is greedy, more explores more.
        seed: In [0, 2^64).
        floor: Chance of an arm drawn at random instead, from 0 to 1.
        draws: Beliefs to draw for more than two arms, 1 to 10,000.

    Returns:
        float64[n]: the chances, summing to 1.

    Raises:
        ValueError: no arm, or out of range.
    """
    if not (math.isfinite(scale) and scale >= 0) or not 1 <= draws <= MAX_DRAWS:
        raise ValueError(f"expected a scale of 0 or more and 1 to {MAX_DRAWS} draws; got others")
    n = len(estimates.mean)
    spread = scale * estimates.deviation
    if not spread.any():
        return _with_floor(estimates.mean == estimates.mean.max(initial=-np.inf), floor)
    if n == 2:
        gap = float(estimates.mean[0] - estimates.mean[1]) / math.hypot(*spread.tolist())
        first = 0.5 * math.erfc(-gap / math.sqrt(2.0))
        return _with_floor(np.array([first, 1.0 - first]), floor)
    beliefs = _generator(seed, 0).standard_normal((draws, n), dtype=np.float32)
    beliefs *= spread.astype(np.float32)
    beliefs += estimates.mean.astype(np.float32)
    return _with_floor(np.bincount(beliefs.argmax(axis=1), minlength=n), floor)


def draw(policy: FloatArray, *, seed: int) -> Choice:
    """Draw one arm from a policy; a seed may serve `thompson_policy` and this.

    Args:
        policy: float64[n], chances that sum to 1.
        seed: In [0, 2^64).

    Raises:
        ValueError: the chances are none.

    >>> draw(np.array([0.0, 1.0]), seed=7)
    Choice(place=1, propensity=1.0)
    """
    good = policy.ndim == 1 and len(policy) > 0 and bool(np.all(policy >= 0))
    if not good or not math.isclose(float(policy.sum()), 1.0, abs_tol=1e-9):
        raise ValueError("policy: expected chances of 0 or more that sum to 1; got others")
    upto = np.cumsum(policy)
    place = int(np.searchsorted(upto, _generator(seed, 1).random() * upto[-1], side="right"))
    return Choice(place=place, propensity=float(policy[place]))


def _with_floor(shares: NDArray[Any], floor: float) -> FloatArray:
    """Mix shares with the uniform distribution."""
    if not len(shares):
        raise ValueError("expected at least one arm; got none")
    if not 0 <= floor <= 1:
        raise ValueError("floor: expected 0 to 1; got another")
    mixed: FloatArray = (1.0 - floor) * (shares / shares.sum()) + floor / len(shares)
    return mixed


def _generator(seed: int, stream: int) -> np.random.Generator:
    """Draw by a counter-based generator; each stream has a key of its own."""
    if not 0 <= seed < _SEED_LIMIT:
        raise ValueError("seed: expected 0 or more, below 2^64; got another")
    return np.random.Generator(np.random.Philox(key=seed | stream << 64))
