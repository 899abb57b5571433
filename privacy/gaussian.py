"""The exact privacy curve of the Gaussian mechanism, and its inverses.

Guarantee: a release ``sum + N(0, (noise_multiplier * sensitivity)²)`` is (ε, δ)-differentially
private exactly when ``delta_of(epsilon=ε, noise_multiplier=sigma) <= δ`` (Balle and Wang 2018,
arXiv 1805.06530, theorem 8). Several releases compose to one Gaussian with
``1/sigma² = Σ 1/sigmaᵢ²``, exactly, whether or not they are chosen adaptively (Dong, Roth and Su
2022, arXiv 1905.02383, corollary 3.3).

Neighbouring relation: whatever the sensitivity was computed for; here, add or remove one person
under a fixed denominator.

Edge cases:

| input | outcome |
|---|---|
| ``noise_multiplier = 0`` | δ is 1 and ε is infinite |
| ``noise_multiplier = inf`` | δ is 0 and ε is 0 |
| δ at least δ(0) | ε is 0 |
| ε ≤ 0 (a budget), δ outside (0, 1), NaN, shares that do not sum to 1 | `ValueError` |

Rounding: ε is rounded up and noise multipliers are rounded up (by 1e-10 relative), so that a
planned set of releases stays inside a budget that is checked without slack.

Test: tests/privacy/test_gaussian.py, against mpmath, dp-accounting, Opacus and the oracle grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from scipy.special import erfcx, ndtr

_SQRT_2: Final = math.sqrt(2.0)
_ROUND_UP: Final = 1.0 + 1e-10
_BISECTIONS: Final = 200


def delta_of(*, epsilon: float, noise_multiplier: float) -> float:
    """Return the smallest δ for which one Gaussian release is (ε, δ)-DP.

    With μ = 1/sigma: δ = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ). Computed with the scaled complementary
    error function, in which e^ε cancels, so neither overflow nor loss of digits from ε 0 to 700.

    Args:
        epsilon: ε ≥ 0.
        noise_multiplier: sigma ≥ 0, standard deviation of the noise over the sensitivity.

    Raises:
        ValueError: negative or NaN input.

    >>> round(delta_of(epsilon=1.0, noise_multiplier=1.0), 6)
    0.126937
    """
    _check_at_least_zero("epsilon", epsilon)
    _check_at_least_zero("noise_multiplier", noise_multiplier)
    if noise_multiplier == 0.0:
        return 1.0
    if math.isinf(noise_multiplier) or math.isinf(epsilon):
        return 0.0
    mu = 1.0 / noise_multiplier
    near = epsilon / mu - mu / 2.0
    far = epsilon / mu + mu / 2.0
    weight = 0.5 * math.exp(-0.5 * near * near)
    if near > 0.0:
        delta = weight * (float(erfcx(near / _SQRT_2)) - float(erfcx(far / _SQRT_2)))
    else:
        delta = float(ndtr(-near)) - weight * float(erfcx(far / _SQRT_2))
    return min(1.0, max(0.0, delta))


def epsilon_of(*, delta: float, noise_multiplier: float) -> float:
    """Return the smallest ε ≥ 0 for which one Gaussian release is (ε, δ)-DP, rounded up.

    Args:
        delta: δ in (0, 1).
        noise_multiplier: sigma ≥ 0; without noise, ε is infinite.

    Raises:
        ValueError: δ outside (0, 1), or a negative or NaN noise multiplier.

    >>> round(epsilon_of(delta=1e-5, noise_multiplier=1.0), 5)
    4.37718
    """
    _check_delta(delta)
    _check_at_least_zero("noise_multiplier", noise_multiplier)
    if noise_multiplier == 0.0:
        return math.inf
    if delta_of(epsilon=0.0, noise_multiplier=noise_multiplier) <= delta:
        return 0.0
    high = 1.0
    while delta_of(epsilon=high, noise_multiplier=noise_multiplier) > delta:
        high *= 2.0
        if math.isinf(high):
            return math.inf
    low = 0.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if delta_of(epsilon=middle, noise_multiplier=noise_multiplier) > delta:
            low = middle
        else:
            high = middle
    return high


def noise_multiplier_for(*, epsilon: float, delta: float, releases: int = 1) -> float:
    """Return the smallest sigma with which ``releases`` equal releases are together (ε, δ)-DP.

    Args:
        epsilon: Total ε > 0.
        delta: Total δ in (0, 1).
        releases: How many Gaussian releases share the budget, at least 1.

    Returns:
        The noise multiplier of each release, rounded up.

    Raises:
        ValueError: ε ≤ 0 or not finite, δ outside (0, 1), fewer than one release.

    >>> round(noise_multiplier_for(epsilon=1.0, delta=1e-6), 4)
    4.2247
    """
    if releases < 1:
        raise ValueError(f"releases must be at least 1; got {releases}")
    return _total_noise_multiplier(epsilon=epsilon, delta=delta) * math.sqrt(releases)


def noise_multipliers_for(
    *, epsilon: float, delta: float, shares: Sequence[float]
) -> tuple[float, ...]:
    """Split one budget over releases that get unequal shares of rho = 1/(2 sigma²).

    Args:
        epsilon: Total ε > 0.
        delta: Total δ in (0, 1).
        shares: One share of rho for each release; each above 0, summing to 1 (within 1e-9).

    Returns:
        One noise multiplier for each release: sigma / √share, rounded up.

    Raises:
        ValueError: as `noise_multiplier_for`; or shares that are not above 0 or do not sum to 1.

    >>> [round(s, 3) for s in noise_multipliers_for(epsilon=1.0, delta=1e-6, shares=[0.2, 0.8])]
    [9.447, 4.723]
    """
    if not shares or not all(share > 0.0 for share in shares):
        raise ValueError("shares must hold at least one number, each above 0")
    total = math.fsum(shares)
    if not abs(total - 1.0) <= 1e-9:
        raise ValueError(f"shares must sum to 1; they sum to {total}")
    sigma = _total_noise_multiplier(epsilon=epsilon, delta=delta)
    return tuple(sigma * math.sqrt(total / share) for share in shares)


def composed_noise_multiplier(noise_multipliers: Iterable[float]) -> float:
    """Return the noise multiplier of the one Gaussian release that costs as much as all of them.

    Nothing released is infinite noise; one release without noise is none at all.

    >>> round(composed_noise_multiplier([2.0, 2.0]), 6)
    1.414214
    """
    rho = 0.0
    for sigma in noise_multipliers:
        _check_at_least_zero("noise_multiplier", sigma)
        if sigma == 0.0:
            return 0.0
        rho += 1.0 / (sigma * sigma)
    return math.inf if rho == 0.0 else 1.0 / math.sqrt(rho)


def _total_noise_multiplier(*, epsilon: float, delta: float) -> float:
    if not (math.isfinite(epsilon) and epsilon > 0.0):
        raise ValueError(f"epsilon must be finite and above 0; got {epsilon}")
    _check_delta(delta)
    high = 1.0
    while delta_of(epsilon=epsilon, noise_multiplier=high) > delta:
        high *= 2.0
    low = high / 2.0
    while delta_of(epsilon=epsilon, noise_multiplier=low) <= delta:
        low, high = low / 2.0, low
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if delta_of(epsilon=epsilon, noise_multiplier=middle) > delta:
            low = middle
        else:
            high = middle
    return high * _ROUND_UP


def _check_at_least_zero(name: str, value: float) -> None:
    if not value >= 0.0:
        raise ValueError(f"{name} must be a number at or above 0; got {value}")


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must lie strictly between 0 and 1; got {delta}")
