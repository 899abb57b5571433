"""The ledger's rules: what may still be released. Pure; `aggregator.ledger` stores.

Guarantee: if every release of a scope was admitted by `admits`, all of them together are
(ε, δ)-DP for the scope's budget, whoever chose them and in whatever order (adaptive composition
of Gaussians; `privacy.gaussian`).

Neighbouring relation: `privacy.events.ADJACENCY`. One budget covers all purposes and tasks of a
population: the same people are in all of them.

Edge cases:

| case | outcome |
|---|---|
| the first release | admitted when it alone fits |
| exactly on the budget | admitted (planned multipliers are rounded up for this) |
| no noise | refused, whatever the budget |
| a simulation (assumed population, or seeded noise) | a scope of its own, with the same budget |
| an event of another scope among the past ones | `ValueError` |
| ε or δ of a budget out of range | `ValueError` |

Test: tests/privacy/test_budget.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from privacy.accounting import total_noise_multiplier
from privacy.events import MechanismName, ReleaseEvent
from privacy.gaussian import delta_of, epsilon_of


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a population may spend in total.

    >>> str(Budget(epsilon=2.0, delta=1e-6))
    'ε 2 at δ 1e-06'
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0.0):
            raise ValueError(f"epsilon must be finite and above 0; got {self.epsilon}")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta must lie strictly between 0 and 1; got {self.delta}")

    def __str__(self) -> str:
        return f"ε {self.epsilon:g} at δ {self.delta:g}"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What shares one budget: a population, and whether its releases are real or forecasts."""

    population: str
    simulated: bool = False
    assumed_population: int | None = None

    def __post_init__(self) -> None:
        if self.assumed_population is not None and not self.simulated:
            raise ValueError("only a simulation assumes a population")

    def __str__(self) -> str:
        if self.assumed_population is not None:
            return f"{self.population} (simulation, as if {self.assumed_population:,} people)"
        if self.simulated:
            return f"{self.population} (simulation)"
        return self.population


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether one more release fits, and what it would bring the total to.

    Attributes:
        admitted: Whether it may happen.
        epsilon_before: Exact ε, at the budget's δ, of what is committed or reserved.
        epsilon_after: The same with the new release.
        reason: In words, for the log; empty when admitted.
    """

    admitted: bool
    epsilon_before: float
    epsilon_after: float
    reason: str = ""


def scope_of(event: ReleaseEvent) -> Scope:
    """Return whose budget an event is paid from."""
    return Scope(
        population=event.population,
        simulated=event.simulated,
        assumed_population=event.assumed_population,
    )


def admits(*, budget: Budget, past: Sequence[ReleaseEvent], new: ReleaseEvent) -> Verdict:
    """Decide whether ``new`` still fits the budget of its scope.

    Args:
        budget: The scope's budget.
        past: Every event of the scope that is committed or reserved.
        new: The release that is asked for.

    Raises:
        ValueError: a past event is of another scope.
    """
    scope = scope_of(new)
    if any(scope_of(event) != scope for event in past):
        raise ValueError("a past event belongs to another scope")
    sigma_before = total_noise_multiplier(past)
    sigma_after = total_noise_multiplier([*past, new])
    before = epsilon_of(delta=budget.delta, noise_multiplier=sigma_before)
    after = epsilon_of(delta=budget.delta, noise_multiplier=sigma_after)
    if new.mechanism is not MechanismName.GAUSSIAN:
        return _refused(before, after, "a release without noise has no finite price")
    if not delta_of(epsilon=budget.epsilon, noise_multiplier=sigma_after) <= budget.delta:
        words = f"it would bring ε to {after:.4g}; the budget of {scope} is {budget}"
        return _refused(before, after, words)
    return Verdict(admitted=True, epsilon_before=before, epsilon_after=after)


def _refused(before: float, after: float, reason: str) -> Verdict:
    return Verdict(admitted=False, epsilon_before=before, epsilon_after=after, reason=reason)
