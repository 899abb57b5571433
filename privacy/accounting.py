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
from typing import Any, Final

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
    trivial = _trivial(events, delta)
    return pld_of_dp_events(_dp_events(events), delta) if trivial is None else trivial


def epsilon_rdp(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return ε by Rényi DP (Mironov 2017, arXiv 1702.07476); larger than the truth."""
    trivial = _trivial(events, delta)
    return _rdp_of_dp_events(_dp_events(events), delta) if trivial is None else trivial


def epsilon_prv_bound(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return an upper bound of ε by Opacus' PRV accountant (Gopi et al. 2021, arXiv 2106.02848).

    Up to ε of 10 it lies at most ``2e-3`` above the truth; its δ error is a thousandth of δ.
    """
    trivial = _trivial(events, delta)
    return _prv(_multipliers(events), delta) if trivial is None else trivial


def pld_of_dp_events(
    parts: Sequence[tuple[Any, int]], delta: float, *, interval: float = _PLD_INTERVAL
) -> float:
    """Return ε by PLD of dp-accounting events, each with how often it happened.

    Args:
        parts: Events of dp-accounting and their counts.
        delta: δ in (0, 1).
        interval: Step of the discretised privacy loss; smaller is tighter and slower.
    """
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=interval)
    for event, times in parts:
        accountant.compose(event, times)
    return float(accountant.get_epsilon(delta))


def _rdp_of_dp_events(parts: Sequence[tuple[Any, int]], delta: float) -> float:
    """Return ε by RDP of dp-accounting events, each with how often it happened."""
    from dp_accounting.rdp import RdpAccountant
    from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS

    # The default orders end at 1024, too low for strong privacy: the best one is about
    # 1 + σ√(2 ln(1/δ)).
    more = [float(round(10.0 ** (step / 20.0))) for step in range(20, 121)]
    accountant = RdpAccountant(orders=sorted({*DEFAULT_RDP_ORDERS, *more}))
    for event, times in parts:
        accountant.compose(event, times)
    return float(accountant.get_epsilon(delta))


def _trivial(events: Sequence[ReleaseEvent], delta: float) -> float | None:
    exact = epsilon_gaussian(events, delta)
    return exact if not events or math.isinf(exact) else None


def _multipliers(events: Sequence[ReleaseEvent]) -> Counter[float]:
    return Counter(event.noise_multiplier for event in events)


def _dp_events(events: Sequence[ReleaseEvent]) -> list[tuple[Any, int]]:
    from dp_accounting import GaussianDpEvent

    return [(GaussianDpEvent(sigma), times) for sigma, times in _multipliers(events).items()]


def _prv(multipliers: Counter[float], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(sigma, 1.0, times) for sigma, times in multipliers.items()]
    # Opacus evaluates log(1 - q), unused, also at sampling rate q = 1, and warns of its own orders.
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epsilon = accountant.get_epsilon(delta, eps_error=_PRV_ERROR, delta_error=delta / 1000.0)
    return float(epsilon)
