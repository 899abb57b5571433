"""What releases cost, in the few forms that accountants can compose.

Guarantee: a composition of the mechanisms in ``costs_of(events)`` is at least as revealing as the
``events`` themselves, so an ε that holds for it holds for them.

| events | become | why that is at least as revealing |
|---|---|---|
| Gaussian of any kind, also a factorised run | one Gaussian, 1/σ² = 1/multiplier² | exact: the \
factorisation's sensitivity is in the multiplier (McMahan et al. 2024, arXiv 2408.08868) |
| local Gaussian | one Gaussian | exact under replacement, which covers zero-out: zero is a \
contribution too; nothing is claimed for the many devices together |
| Poisson-sampled Gaussian rounds | one sampled Gaussian a round | exact (Mironov et al. 2019, \
arXiv 1908.10530) |
| discrete Laplace | pure ε = √2 / multiplier | the loss is at most L1 change / scale |
| discrete Gaussian | ρ-zCDP, ρ = 1/(2 multiplier²) | Canonne, Kamath and Steinke 2020, \
arXiv 2004.00010, theorem 14; holds for any integer change of that L2 norm |
| no noise | nothing is protected | |

Neighbouring relation: that of the events.

Edge cases:

| events | outcome |
|---|---|
| none | costs of nothing |
| of different assumed populations, or real and simulated ones together | `ValueError` |

Test: tests/privacy/test_accounting.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from privacy.events import MechanismName, ReleaseEvent


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Several releases as mechanisms to compose.

    Attributes:
        gaussians: Noise multiplier and how often.
        sampled: Noise multiplier of one round, probability of taking part, and rounds.
        pure: ε of a pure guarantee, and how often.
        discrete_rho: Sum of ρ of the discrete Gaussians.
        unprotected: Whether anything was released without noise.
    """

    gaussians: tuple[tuple[float, int], ...] = ()
    sampled: tuple[tuple[float, float, int], ...] = ()
    pure: tuple[tuple[float, int], ...] = ()
    discrete_rho: float = 0.0
    unprotected: bool = False

    @property
    def nothing(self) -> bool:
        """Whether nothing was released."""
        return not (self.gaussians or self.sampled or self.pure or self.discrete_rho) and (
            not self.unprotected
        )

    @property
    def pure_epsilon(self) -> float:
        """The ε of all pure guarantees by basic composition."""
        return math.fsum(epsilon * times for epsilon, times in self.pure)


def costs_of(events: Sequence[ReleaseEvent]) -> Costs:
    """Translate releases of one scope.

    Raises:
        ValueError: real and simulated releases, or different assumed populations, are mixed.

    >>> costs_of([]).nothing
    True
    """
    if len({(event.simulated, event.assumed_population) for event in events}) > 1:
        raise ValueError("real and simulated releases do not compose; account for each scope alone")
    gaussians: Counter[float] = Counter()
    sampled: Counter[tuple[float, float]] = Counter()
    pure: Counter[float] = Counter()
    discrete: list[float] = []
    unprotected = False
    for event in events:
        sigma = event.noise_multiplier
        if event.mechanism is MechanismName.UNSAFE_NO_NOISE:
            unprotected = True
        elif event.mechanism is MechanismName.DISCRETE_LAPLACE:
            pure[math.sqrt(2.0) / sigma] += 1
        elif event.mechanism is MechanismName.DISCRETE_GAUSSIAN:
            discrete.append(0.5 / (sigma * sigma))
        elif event.sampling_probability is not None:
            # Noise of one round over the clip: that of the whole release, undivided.
            in_one_round = sigma * event.sensitivity / event.clip_norm
            sampled[(in_one_round, event.sampling_probability)] += event.rounds
        else:
            gaussians[sigma] += 1
    return Costs(
        gaussians=tuple(gaussians.items()),
        sampled=tuple((sigma, rate, times) for (sigma, rate), times in sampled.items()),
        pure=tuple(pure.items()),
        discrete_rho=math.fsum(discrete),
        unprotected=unprotected,
    )
