"""The exact privacy curve of Gaussians together with pure guarantees; and the bound of zCDP.

Guarantee: `exact_delta` is the smallest δ for which a Gaussian, composed with mechanisms of which
only a pure ε is known, is (ε, δ)-DP. The worst mechanism with a pure ε₀ has privacy loss ±ε₀ with
probabilities e^ε₀ : 1 (Kairouz, Oh and Viswanath 2015, arXiv 1311.0776), losses of a composition
add, hence δ(ε) = E over their sum L of δ_Gaussian(ε - L). `zcdp_delta` is an upper bound for every
ρ-zCDP mechanism (Canonne, Kamath and Steinke 2020, arXiv 2004.00010, proposition 7).

Neighbouring relation: that of the releases.

Edge cases:

| input | outcome |
|---|---|
| Poisson-sampled rounds, discrete Gaussians | None: no exact curve |
| pure guarantees with more than 100,000 different sums of losses | None |
| anything without noise | δ 1, ε infinite |
| nothing | δ 0, ε 0 |

Test: tests/privacy/test_exact_curve.py, against closed forms and dp-accounting.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr, ndtr

from privacy.costs import Costs
from privacy.gaussian import composed_noise_multiplier, delta_of, epsilon_of

_ORDERS_NEAR: Final = tuple(np.geomspace(0.5, 3.0, 41).tolist())
_MOST_SUMS: Final = 100_000
_BISECTIONS: Final = 200

Floats = NDArray[np.float64]


def exact_delta(costs: Costs, epsilon: float) -> float | None:
    """Return the smallest δ at ε, or None where no exact curve is known.

    Args:
        costs: What was released.
        epsilon: ε ≥ 0.

    >>> exact_delta(Costs(pure=((1.0, 1),)), 1.0)
    0.0
    """
    if costs.unprotected:
        return 1.0
    if costs.sampled or costs.discrete_rho:
        return None
    sigma = _gaussian(costs)
    if not costs.pure:
        return delta_of(epsilon=epsilon, noise_multiplier=sigma)
    losses = _losses(costs)
    return None if losses is None else _mixed_delta(epsilon, sigma, *losses)


def exact_epsilon(costs: Costs, delta: float) -> float | None:
    """Return the smallest ε at δ, rounded up, or None where no exact curve is known.

    Args:
        costs: What was released.
        delta: δ in (0, 1).

    >>> exact_epsilon(Costs(), 1e-6)
    0.0
    """
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must lie strictly between 0 and 1; got {delta}")
    if costs.unprotected:
        return math.inf
    if costs.sampled or costs.discrete_rho:
        return None
    sigma = _gaussian(costs)
    alone = epsilon_of(delta=delta, noise_multiplier=sigma)
    if not costs.pure:
        return alone
    losses = _losses(costs)
    if losses is None:
        return None
    if _mixed_delta(0.0, sigma, *losses) <= delta:
        return 0.0
    # By basic composition ε is not above this.
    low, high = 0.0, alone + costs.pure_epsilon
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _mixed_delta(middle, sigma, *losses) > delta:
            low = middle
        else:
            high = middle
    return high


def zcdp_delta(rho: float, epsilon: float) -> float:
    """Return an upper bound of δ at ε ≥ 0 of every ρ-zCDP mechanism.

    >>> zcdp_delta(0.5, 5.0) < 1e-4
    True
    """
    return float(zcdp_deltas(rho, np.array([epsilon]))[0])


def zcdp_deltas(rho: float, epsilons: Floats) -> Floats:
    """Return `zcdp_delta` at many ε, float64[n]."""
    # Any order above 1 gives a bound; the best lies near (ε + ρ) / 2ρ.
    near = np.maximum((epsilons + rho) / (2.0 * rho) - 1.0, 1e-6)
    best = np.ones_like(epsilons)
    for factor in _ORDERS_NEAR:
        less = np.maximum(near * factor, 1e-6)
        order = 1.0 + less
        exponent = less * (order * rho - epsilons) - np.log(less)
        exponent += order * np.log1p(-1.0 / order)
        np.minimum(best, np.exp(np.minimum(exponent, 0.0)), out=best)
    return best


def zcdp_epsilon(rho: float, delta: float) -> float:
    """Return an ε for which every ρ-zCDP mechanism is (ε, δ)-DP; 0 for ρ = 0."""
    if not rho:
        return 0.0
    # Bun and Steinke 2016, arXiv 1605.02065, proposition 3, is never below.
    low, high = 0.0, rho + 2.0 * math.sqrt(rho * math.log(1.0 / delta))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if zcdp_delta(rho, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def _gaussian(costs: Costs) -> float:
    return composed_noise_multiplier(sigma / math.sqrt(times) for sigma, times in costs.gaussians)


def _losses(costs: Costs) -> tuple[Floats, Floats] | None:
    """Return every sum of the pure losses, and its probability; None where there are too many."""
    if math.prod(times + 1 for _, times in costs.pure) > _MOST_SUMS:
        return None
    sums, weights = np.zeros(1), np.ones(1)
    for epsilon, times in costs.pure:
        up = np.arange(times + 1)
        # log of C(times, up) · p^up · (1-p)^(times-up), p = 1/(1 + e^-ε)
        chosen = gammaln(times + 1) - gammaln(up + 1) - gammaln(times - up + 1)
        log_p, log_q = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
        weight = np.exp(chosen + up * log_p + (times - up) * log_q)
        loss = (2.0 * up - times) * epsilon
        sums = np.add.outer(sums, loss).ravel()
        weights = np.multiply.outer(weights, weight).ravel()
    return sums, weights


def _mixed_delta(epsilon: float, sigma: float, losses: Floats, weights: Floats) -> float:
    """Return the weighted mean of the Gaussian's δ(ε - loss)."""
    left = epsilon - losses
    if math.isinf(sigma):
        deltas = -np.expm1(np.minimum(left, 0.0))
    else:
        mu = 1.0 / sigma
        far = np.exp(left + log_ndtr(-mu / 2.0 - left / mu))
        deltas = np.maximum(ndtr(mu / 2.0 - left / mu) - far, 0.0)
    return float(min(1.0, np.dot(weights, deltas)))
