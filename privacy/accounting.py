"""What a set of releases cost together: ε at a given δ, by accountants that share no code.

Guarantee: each function returns an ε for which the composition of ``events`` is (ε, δ)-DP under
the adjacency that the events name; `epsilon_prv_bound` and `epsilon_rdp` are upper bounds.

| function | by | use |
|---|---|---|
| `epsilon_gaussian` | the exact curve (`privacy.gaussian`) | deciding, in the ledger |
| `epsilon_pld` | privacy loss distributions, dp-accounting | the ε that is stated |
| `epsilon_rdp` | Rényi DP, dp-accounting | cross-check; always above |
| `epsilon_prv_bound` | privacy random variables, Opacus | the upper bound beside the stated ε |

Neighbouring relation: `privacy.events.ADJACENCY`. dp-accounting's Gaussian loss is the same for
add-or-remove and zero-out; Opacus is given sampling rate 1, at which its relation is the same.

Edge cases:

| events | outcome |
|---|---|
| none | 0 |
| any without noise | infinity |
| of different assumed populations, or real and simulated ones together | `ValueError` |
| δ outside (0, 1) | `ValueError` |

dp-accounting is imported on use (1 to 2 s); Opacus brings torch (10 s): never on the aggregator's
way. Test: tests/privacy/test_accounting.py, one contract class for all accountants, the oracle
grid, and each against the exact curve.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from privacy.events import ReleaseEvent
from privacy.gaussian import composed_noise_multiplier, epsilon_of

_PLD_INTERVAL: Final = 1e-4
_PRV_ERROR: Final = 1e-3

Accountant = Callable[[Sequence[ReleaseEvent], float], float]


def epsilon_gaussian(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return the exact ε: independent Gaussians compose to one Gaussian.

    >>> epsilon_gaussian([], 1e-6)
    0.0
    """
    return epsilon_of(delta=delta, noise_multiplier=total_noise_multiplier(events))


def total_noise_multiplier(events: Sequence[ReleaseEvent]) -> float:
    """Return the multiplier of the one Gaussian that costs as much as all events together.

    Raises:
        ValueError: real and simulated releases, or different assumed populations, are mixed.
    """
    if len({(event.simulated, event.assumed_population) for event in events}) > 1:
        raise ValueError("real and simulated releases do not compose; account for each scope alone")
    return composed_noise_multiplier(event.noise_multiplier for event in events)


def epsilon_pld(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return ε by privacy loss distributions (Doroshenko et al. 2022, arXiv 2207.04380)."""
    return _composed(events, delta, _pld)


def epsilon_rdp(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return ε by Rényi DP (Mironov 2017, arXiv 1702.07476); larger than the truth."""
    return _composed(events, delta, _rdp)


def epsilon_prv_bound(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return an upper bound of ε by Opacus' PRV accountant (Gopi et al. 2021, arXiv 2106.02848).

    The truth is at most ``1e-3`` below it, and its δ error is a thousandth of δ.
    """
    return _composed(events, delta, _prv)


def _composed(
    events: Sequence[ReleaseEvent],
    delta: float,
    account: Callable[[Counter[float], float], float],
) -> float:
    exact = epsilon_gaussian(events, delta)
    if not events or math.isinf(exact):
        return exact
    return account(Counter(event.noise_multiplier for event in events), delta)


def _pld(multipliers: Counter[float], delta: float) -> float:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=_PLD_INTERVAL)
    for sigma, times in multipliers.items():
        accountant.compose(dp_accounting.GaussianDpEvent(sigma), times)
    return float(accountant.get_epsilon(delta))


def _rdp(multipliers: Counter[float], delta: float) -> float:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    # The default orders end at 1024, too low for strong privacy: the best one is about
    # 1 + sigma·√(2 ln(1/δ)).
    orders = [1.0 + 10.0 ** (step / 20.0) for step in range(-40, 121)]
    accountant = RdpAccountant(orders=orders)
    for sigma, times in multipliers.items():
        accountant.compose(dp_accounting.GaussianDpEvent(sigma), times)
    return float(accountant.get_epsilon(delta))


def _prv(multipliers: Counter[float], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(sigma, 1.0, times) for sigma, times in multipliers.items()]
    # Opacus evaluates log(1 - q), unused, also at sampling rate q = 1, and warns of its own orders.
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epsilon = accountant.get_epsilon(delta, eps_error=_PRV_ERROR, delta_error=delta / 1000.0)
    return float(epsilon)
