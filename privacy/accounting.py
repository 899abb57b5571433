"""What a set of releases cost together: ε at a given δ, by accountants that share no code.

Guarantee: each function returns an ε for which the composition of ``events`` is (ε, δ)-DP under
the adjacency that the events name, also when each was chosen after seeing the ones before.

| function | by | use |
|---|---|---|
| `epsilon_exact` | the exact curve of Gaussians and pure guarantees; None for others | deciding |
| `epsilon_pld` | privacy loss distributions, dp-accounting | the ε that is stated |
| `epsilon_rdp` | Rényi DP, dp-accounting | cross-check; always above |
| `prv_bounds` | privacy random variables, Opacus | the upper bound beside the stated ε |

Gaussian DP's central limit approximation is not offered: it said 2.76 where the truth is 5.0.
`privacy.statement` puts all of them side by side and refuses where they disagree.

Neighbouring relation: that of the events. dp-accounting's Gaussian loss is the same for
add-or-remove and zero-out; at sampling rate 1 so is that of Opacus.

Edge cases:

| events | outcome |
|---|---|
| none | 0 |
| any without noise | infinity |
| of different assumed populations, or real and simulated ones together | `ValueError` |
| δ outside (0, 1) | `ValueError` |
| discrete Gaussians | PLD and PRV of their zCDP curve: above the truth, never below |
| pure guarantees beside Opacus, which knows none | its bound plus their ε (basic composition) |

dp-accounting is imported on use (1 to 2 s); Opacus brings torch (10 s): never on the aggregator's
way. Test: tests/privacy/test_accounting.py, one contract class for all accountants, the oracle
grid, and each against the exact curve.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from privacy.costs import Costs, costs_of
from privacy.events import MechanismName, ReleaseEvent
from privacy.exact_curve import exact_delta, exact_epsilon, zcdp_deltas, zcdp_epsilon
from privacy.gaussian import composed_noise_multiplier, epsilon_of

_MANY_ROUNDS: Final = 1_000
# Steps of the discretised loss. Thousands of sampled rounds take minutes at the finer one, and are
# stated at most 0.5 % above the truth at the coarser; both only ever round up.
_FINE: Final = 1e-4
_COARSE: Final = 1e-3
_NO_EQUIVALENT: Final = frozenset({MechanismName.DISCRETE_GAUSSIAN, MechanismName.DISCRETE_LAPLACE})

Accountant = Callable[[Sequence[ReleaseEvent], float], float]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Between which two numbers ε lies, by one accountant.

    Attributes:
        lower: ε is not below it; None where the accountant cannot say.
        upper: ε is not above it.
    """

    lower: float | None
    upper: float


def epsilon_gaussian(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return the exact ε of Gaussians: together they are one Gaussian.

    Raises:
        ValueError: a release is no Gaussian; ask `epsilon_deciding`.

    >>> epsilon_gaussian([], 1e-6)
    0.0
    """
    return epsilon_of(delta=delta, noise_multiplier=total_noise_multiplier(events))


def total_noise_multiplier(events: Sequence[ReleaseEvent]) -> float:
    """Return the multiplier of the one Gaussian that costs as much as all events together.

    Poisson-sampled rounds count in full here, as if everybody had been in every round.

    Raises:
        ValueError: real and simulated releases, or different assumed populations, are mixed; or a
            release has no Gaussian equivalent.
    """
    costs_of(events)
    for event in events:
        if event.mechanism in _NO_EQUIVALENT:
            raise ValueError(f"a {event.mechanism.value} release is not a Gaussian one")
    return composed_noise_multiplier(event.noise_multiplier for event in events)


def epsilon_exact(events: Sequence[ReleaseEvent], delta: float) -> float | None:
    """Return the exact ε, or None where no exact curve is known (sampled, discrete Gaussian)."""
    return exact_epsilon(costs_of(events), delta)


def epsilon_deciding(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return the ε that a ledger may decide by: exact where it can be, else PLD's upper bound."""
    exact = epsilon_exact(events, delta)
    return epsilon_pld(events, delta) if exact is None else exact


def fits(events: Sequence[ReleaseEvent], *, epsilon: float, delta: float) -> bool:
    """Return whether all events together stay inside a budget, without slack.

    Args:
        events: Of one scope.
        epsilon: The budget's ε.
        delta: The budget's δ.
    """
    exact = exact_delta(costs_of(events), epsilon)
    return epsilon_pld(events, delta) <= epsilon if exact is None else exact <= delta


def epsilon_pld(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return ε by privacy loss distributions (Doroshenko et al. 2022, arXiv 2207.04380)."""
    return pld_of_costs(costs_of(events), delta)


def pld_of_costs(costs: Costs, delta: float, *, interval: float | None = None) -> float:
    """Return ε by PLD.

    Args:
        costs: What was released.
        delta: δ in (0, 1).
        interval: Step of the discretised privacy loss, smaller is tighter and slower; 1e-4 when
            left out, 1e-3 from 1,000 sampled rounds on.
    """
    trivial = _trivial(costs, delta)
    if trivial is not None:
        return trivial
    if interval is None:
        many = sum(times for _, _, times in costs.sampled) >= _MANY_ROUNDS
        interval = _COARSE if many else _FINE
    from dp_accounting.pld import privacy_loss_distribution as pld
    from dp_accounting.pld.common import DifferentialPrivacyParameters

    total = pld.identity(value_discretization_interval=interval)
    for sigma, times in costs.gaussians:
        total = total.compose(
            pld.from_gaussian_mechanism(
                sigma / math.sqrt(times), value_discretization_interval=interval
            )
        )
    for sigma, rate, times in costs.sampled:
        sampled = pld.from_gaussian_mechanism(
            sigma, sampling_prob=rate, value_discretization_interval=interval
        )
        total = total.compose(sampled.self_compose(times))
    for epsilon, times in costs.pure:
        pure = pld.from_privacy_parameters(
            DifferentialPrivacyParameters(epsilon, 0.0), value_discretization_interval=interval
        )
        total = total.compose(pure.self_compose(times) if times > 1 else pure)
    if costs.discrete_rho:
        total = total.compose(_pld_of_zcdp(costs.discrete_rho, delta, interval))
    return float(total.get_epsilon_for_delta(delta))


def epsilon_rdp(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return ε by Rényi DP (Mironov 2017, arXiv 1702.07476); larger than the truth."""
    return rdp_of_costs(costs_of(events), delta)


def rdp_of_costs(costs: Costs, delta: float) -> float:
    """Return ε by Rényi DP.

    A pure ε counts as ε²/2-zCDP (Bun and Steinke 2016, arXiv 1605.02065, proposition 3).
    """
    trivial = _trivial(costs, delta)
    if trivial is not None:
        return trivial
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant
    from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS

    # The default orders end at 1024, too low for strong privacy: the best one is about
    # 1 + σ√(2 ln(1/δ)). For sampled rounds the large ones take minutes and are never the best.
    more = [float(round(10.0 ** (step / 20.0))) for step in range(20, 121)]
    orders = DEFAULT_RDP_ORDERS if costs.sampled else [*DEFAULT_RDP_ORDERS, *more]
    accountant = RdpAccountant(orders=sorted(set(orders)))
    for sigma, times in costs.gaussians:
        accountant.compose(dp_accounting.GaussianDpEvent(sigma), times)
    for sigma, rate, times in costs.sampled:
        single = dp_accounting.GaussianDpEvent(sigma)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, single), times)
    rho = math.fsum(times * epsilon * epsilon / 2.0 for epsilon, times in costs.pure)
    rho += costs.discrete_rho
    if rho:
        accountant.compose(dp_accounting.ZCDpEvent(rho))
    return float(accountant.get_epsilon(delta))


def epsilon_prv_bound(events: Sequence[ReleaseEvent], delta: float) -> float:
    """Return an upper bound of ε by Opacus' PRV accountant (Gopi et al. 2021, arXiv 2106.02848).

    Up to ε of 10 and 1,000 rounds it lies at most ``2e-3`` above the truth of Gaussians, beyond at
    most ``2e-2``; its δ error is a thousandth of δ.
    """
    return prv_bounds(events, delta).upper


def prv_bounds(events: Sequence[ReleaseEvent], delta: float) -> Bounds:
    """Return between which two numbers ε lies, by Opacus."""
    return prv_of_costs(costs_of(events), delta)


def prv_of_costs(costs: Costs, delta: float) -> Bounds:
    """Return PRV bounds.

    Opacus knows Gaussians, sampled or not. What else there is is added by basic composition: the ε
    of pure guarantees in full, and discrete Gaussians for half of δ; there is no lower bound then.
    """
    trivial = _trivial(costs, delta)
    if trivial is not None:
        return Bounds(lower=trivial, upper=trivial)
    for_discrete = delta / 2.0 if costs.discrete_rho else 0.0
    beside = costs.pure_epsilon
    if costs.discrete_rho:
        beside += zcdp_epsilon(costs.discrete_rho, for_discrete)
    if not (costs.gaussians or costs.sampled):
        return Bounds(lower=None, upper=beside)
    lower, upper = _prv(costs, delta - for_discrete)
    return Bounds(lower=None if beside else lower, upper=upper + beside)


def _prv(costs: Costs, delta: float) -> tuple[float, float]:
    from opacus.accountants.analysis import prv

    parts = [
        *((sigma, 1.0, times) for sigma, times in costs.gaussians),
        *costs.sampled,
    ]
    rounds = [times for _, _, times in parts]
    epsilon_error = 1e-2 if sum(rounds) >= _MANY_ROUNDS else 1e-3
    delta_error = delta / 1000.0
    # Opacus evaluates log(1 - q), unused, also at sampling rate q = 1, and warns of its own orders.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        variables = [prv.PoissonSubsampledGaussianPRV(rate, sigma) for sigma, rate, _ in parts]
        size = prv.compute_safe_domain_size(
            prvs=variables,
            max_self_compositions=rounds,
            eps_error=epsilon_error,
            delta_error=delta_error,
        )
        mesh = epsilon_error / math.sqrt(sum(rounds) * math.log(12.0 / delta_error) / 2.0)
        domain = prv.Domain.create_aligned(-size, size, mesh)
        cut = [
            prv.TruncatedPrivacyRandomVariable(each, domain.t_min, domain.t_max)
            for each in variables
        ]
        composed = prv.compose_heterogeneous(
            dprvs=[prv.discretize(each, domain) for each in cut], num_self_compositions=rounds
        )
        lower, _, upper = composed.compute_epsilon(delta, delta_error, epsilon_error)
    return max(0.0, float(lower)), float(upper)


def _pld_of_zcdp(rho: float, delta: float, interval: float) -> Any:
    """Return a privacy loss distribution that dominates every ρ-zCDP mechanism.

    Connect-the-dots (Doroshenko et al. 2022) on an upper bound of the curve δ(ε); below ε 0 by
    δ(-ε) = 1 - e^(-ε)(1 - δ(ε)), since the bound holds in both directions.
    """
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

    edge = math.ceil(zcdp_epsilon(rho, min(delta, 1e-12) * 1e-4) / interval)
    upper = zcdp_deltas(rho, np.arange(edge + 1, dtype=np.float64) * interval)
    falling = np.exp(-np.arange(1, edge + 1) * interval)
    lower = 1.0 - falling * (1.0 - upper[1:])
    curve = np.minimum.accumulate(np.concatenate([lower[::-1], upper]))
    return PrivacyLossDistribution(
        pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, -edge, edge, curve)
    )


def _trivial(costs: Costs, delta: float) -> float | None:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must lie strictly between 0 and 1; got {delta}")
    if costs.unprotected:
        return math.inf
    return 0.0 if costs.nothing else None
