"""How much a release really lets out: statistics that put a privacy claim to the test.

People who were made up for the audit (canaries) are in a release or not, by independent fair coins.
What is published gives each of them a score. From the scores alone:

- `separation`: how far the two groups lie apart, in deviations of the noise. For a Gaussian release
  of noise multiplier σ this is at most 1/σ (Dong, Roth and Suh 2022, arXiv 1905.02383), and a wrong
  scale shows at once. What it says as ε is an *estimate*: it takes the noise for Gaussian.
- `one_run_p_value`, `one_run_epsilon`: a *valid* bound for any mechanism, from a single run
  (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, theorem 5.2). Weak, but nothing is assumed.
- `noise_shortfall`: whether the noise has, in every direction across the rounds, the variance that
  was claimed. Two rounds that share a draw have a direction without any.

Guarantee of the three tests: where the claim is true, each p-value is at most α with probability at
most α, so that a verdict that divides α over its looks has that false alarm rate.

Neighbouring relation: that of the claim; one canary is one person, added or removed.

Edge cases:

| input | outcome |
|---|---|
| fewer than two canaries in a group, or NaN | `ValueError` |
| scores without any spread | a separation of `MOST_SEPARATION` |
| no guess, or more right guesses than guesses | `ValueError` |
| everything was guessed right | the bound stays finite: it grows with the log of the canaries |
| δ so large that the theorem says nothing | p-value 1, bound 0 |

Test: tests/privacy/test_audit.py (an independent linear programme, the tight mechanism, power and
false alarms by simulation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri
from scipy.stats import binom, nct

from privacy.gaussian import epsilon_of

MOST_SEPARATION: Final = 1e6
MOST_EPSILON: Final = 60.0
_BISECTIONS: Final = 60
# A singular covariance has directions of no noise; this much keeps the solve finite.
_RIDGE: Final = 1e-12

Floats = NDArray[np.float64]


def matched_filter(signal: Floats, noise: Floats) -> Floats:
    """Give the weights of the rounds with which a canary is told apart best.

    The filter is Σ⁻¹·signal with the covariance Σ of the noise *as it is found*, scaled to unit
    deviation. Where the noise is what was claimed, Σ is the identity but for the error of its
    estimate, and this is the projection on the signal.

    Args:
        signal: float64[r], what one canary moves in the whitened rounds.
        noise: float64[r, N], whitened noise in directions that no canary uses; N > r.

    Returns:
        float64[r].

    Raises:
        ValueError: shapes that do not fit, fewer directions than rounds, a signal of zeros.

    >>> matched_filter(np.array([3.0, 0.0]), np.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]]))[0] > 0
    np.True_
    """
    rounds, directions = _checked_noise(noise)
    if signal.shape != (rounds,) or not np.any(signal):
        raise ValueError("the signal needs one entry a round, not all of them 0")
    covariance = noise @ noise.T / directions
    ridge = _RIDGE * max(float(np.trace(covariance)), np.finfo(float).tiny)
    covariance += ridge * np.eye(rounds)
    found: Floats = np.linalg.solve(covariance, signal).astype(np.float64)
    deviation = math.sqrt(float(found @ signal))
    return found / deviation


def noise_shortfall(noise: Floats, *, alpha: float) -> tuple[float, float]:
    """Look for a direction across the rounds in which the whitened noise is too small.

    Args:
        noise: float64[r, N], whitened noise: where the claim is true, independent and standard
            normal.
        alpha: Probability of a false alarm, in (0, 1).

    Returns:
        The smallest variance of a direction, and the least that is not suspicious:
        ``(1 - √(r/N) - √(2·ln(1/α)/N))²`` (Davidson and Szarek 2001, theorem II.13).

    Raises:
        ValueError: fewer directions than rounds, or α outside (0, 1).
    """
    rounds, directions = _checked_noise(noise)
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1; got {alpha}")
    smallest = float(np.linalg.eigvalsh(noise @ noise.T / directions)[0])
    reach = math.sqrt(rounds / directions) + math.sqrt(2.0 * math.log(1.0 / alpha) / directions)
    return smallest, max(0.0, 1.0 - reach) ** 2


@dataclass(frozen=True, kw_only=True)
class Separation:
    """How far the scores of canaries that were in lie from those of canaries that were not.

    Attributes:
        mu: Difference of means over the pooled deviation.
        inside: Canaries that were in.
        outside: Canaries that were not.
    """

    mu: float
    inside: int
    outside: int

    @property
    def standard_error(self) -> float:
        """Of ``mu``, from the means and from the pooled deviation."""
        means = 1.0 / self.inside + 1.0 / self.outside
        return math.sqrt(means + self.mu**2 / (2.0 * self._freedom))

    @property
    def _freedom(self) -> int:
        return self.inside + self.outside - 2

    def p_above(self, mu: float) -> float:
        """Give the probability of a separation as large as this one where the true one is ``mu``.

        Exact for normal scores (noncentral t), which sums of thousands of entries are.
        """
        return self._tail(mu, above=True)

    def p_below(self, mu: float) -> float:
        """Give the probability of a separation as small as this where the true one is ``mu``."""
        return self._tail(mu, above=False)

    def epsilon(self, delta: float, *, errors: float = 0.0) -> float:
        """Say it as ε of the Gaussian mechanism with that separation.

        Args:
            delta: δ of the claim.
            errors: How many standard errors to add; negative ones are taken off.
        """
        mu = min(self.mu + errors * self.standard_error, MOST_SEPARATION)
        return 0.0 if mu <= 0.0 else epsilon_of(delta=delta, noise_multiplier=1.0 / mu)

    def _tail(self, mu: float, *, above: bool) -> float:
        scale = math.sqrt(1.0 / self.inside + 1.0 / self.outside)
        found = (nct.sf if above else nct.cdf)(self.mu / scale, self._freedom, mu / scale)
        if math.isfinite(found):
            return min(1.0, max(0.0, float(found)))
        # Where the series of the noncentral t overflows, the normal law is as good.
        distance = (self.mu - mu) / self.standard_error
        return float(ndtr(-distance if above else distance))


def separation(inside: Floats, outside: Floats) -> Separation:
    """Compare the scores of two groups.

    Raises:
        ValueError: fewer than two scores in a group, or one that is not finite.

    >>> round(separation(np.array([3.0, 5.0]), np.array([-1.0, 1.0])).mu, 3)
    2.828
    """
    if min(inside.size, outside.size) < 2:
        raise ValueError("each group needs at least two canaries")
    if not (np.isfinite(inside).all() and np.isfinite(outside).all()):
        raise ValueError("scores must be finite")
    squares = sum(float(np.square(each - each.mean()).sum()) for each in (inside, outside))
    pooled = math.sqrt(squares / (inside.size + outside.size - 2))
    difference = float(inside.mean() - outside.mean())
    most = abs(difference) / MOST_SEPARATION
    mu = math.copysign(MOST_SEPARATION, difference) if pooled <= most else difference / pooled
    return Separation(mu=mu if difference else 0.0, inside=inside.size, outside=outside.size)


def one_run_p_value(
    *, canaries: int, guesses: int, right: int, epsilon: float, delta: float
) -> float:
    """Bound the probability of so many right guesses where the release is (ε, δ)-DP.

    Each canary was in by an independent fair coin; for ``guesses`` of them, chosen by any rule that
    sees what was published, membership was guessed. With W binomial of ``guesses`` draws and
    q = e^ε/(1+e^ε): P[W ≥ v] + 2·m·δ·max_{1≤i≤v} P[v-i ≤ W < v]/i.

    Args:
        canaries: m, all of them, also those that nothing was guessed about.
        guesses: How many were guessed, from 1 to ``canaries``.
        right: v, how many guesses were right.
        epsilon: ε ≥ 0 of the claim.
        delta: δ in [0, 1] of the claim.

    Raises:
        ValueError: numbers that do not fit together.

    >>> one_run_p_value(canaries=100, guesses=10, right=10, epsilon=0.0, delta=0.0) == 2.0**-10
    True
    """
    if not 1 <= guesses <= canaries or not 0 <= right <= guesses:
        raise ValueError("expected 0 <= right <= guesses <= canaries, and at least one guess")
    if not (epsilon >= 0.0 and 0.0 <= delta <= 1.0):
        raise ValueError(f"no claim: epsilon {epsilon}, delta {delta}")
    chance = float(expit(epsilon))
    tail = float(binom.sf(right - 1, guesses, chance))
    if right == 0 or delta == 0.0:
        return min(1.0, tail)
    near = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    gain = float(np.max(near / np.arange(1, right + 1)))
    return min(1.0, tail + 2.0 * canaries * delta * gain)


def one_run_epsilon(
    *, canaries: int, guesses: int, right: int, delta: float, confidence: float
) -> float:
    """Return the largest ε that the guesses refute: with this confidence, the true one is larger.

    Args:
        canaries: m, all of them.
        guesses: How many were guessed.
        right: How many guesses were right.
        delta: δ of the claim.
        confidence: In (0, 1), for example 0.95.

    Returns:
        A lower bound on ε, from 0 to `MOST_EPSILON`.

    >>> bound = one_run_epsilon(canaries=1000, guesses=100, right=100, delta=0.0, confidence=0.95)
    >>> round(bound, 2)
    3.49
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie strictly between 0 and 1; got {confidence}")

    def refuted(epsilon: float) -> bool:
        p_value = one_run_p_value(
            canaries=canaries, guesses=guesses, right=right, epsilon=epsilon, delta=delta
        )
        return p_value <= 1.0 - confidence

    low, high = 0.0, MOST_EPSILON
    if not refuted(low):
        return 0.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


@lru_cache(maxsize=64)
def guesses_for(*, canaries: int, mu: float, delta: float, confidence: float) -> int:
    """Choose how many canaries to guess about, from the claim alone: half as in, half as out.

    Choosing by the scores instead would make the bound untrue.

    Args:
        canaries: m, at least 2.
        mu: Separation that the claim allows.
        delta: δ of the claim.
        confidence: Of the bound.

    Returns:
        An even number from 2 to ``canaries``, for which the expected bound is the largest.
    """
    if canaries < 2:
        raise ValueError(f"expected at least 2 canaries; got {canaries}")
    best, most = 2, -1.0
    for share in np.geomspace(2.0 / canaries, 1.0, 16):
        half = max(1, int(share * canaries / 2.0))
        accuracy = _expected_accuracy(half / canaries, mu)
        bound = one_run_epsilon(
            canaries=canaries,
            guesses=2 * half,
            right=int(2 * half * accuracy),
            delta=delta,
            confidence=confidence,
        )
        if bound > most:
            best, most = 2 * half, bound
    return best


def guess(scores: Floats, *, guesses: int) -> NDArray[np.int8]:
    """Guess the canaries of the highest scores as in (1), of the lowest as out (-1), others 0.

    >>> guess(np.array([0.5, -2.0, 3.0, 0.1]), guesses=2).tolist()
    [0, -1, 1, 0]
    """
    if guesses % 2 or not 2 <= guesses <= scores.size:
        raise ValueError(f"guesses must be even, from 2 to {scores.size}; got {guesses}")
    order = np.argsort(scores, kind="stable")
    found = np.zeros(scores.size, dtype=np.int8)
    found[order[: guesses // 2]] = -1
    found[order[scores.size - guesses // 2 :]] = 1
    return found


def _expected_accuracy(share: float, mu: float) -> float:
    """Give how often the highest ``share`` of the scores of an even mixture belongs to the ins."""
    low, high = float(ndtri(1e-12)), float(ndtri(1.0 - 1e-12)) + mu
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = 0.5 * float(ndtr(-middle) + ndtr(mu - middle))
        low, high = (middle, high) if above > share else (low, middle)
    inside = float(ndtr(mu - low))
    return inside / (inside + float(ndtr(-low)))


def _checked_noise(noise: Floats) -> tuple[int, int]:
    rounds, directions = noise.shape
    if directions <= rounds:
        raise ValueError(f"{rounds} rounds need more than {directions} directions of noise")
    return rounds, directions
