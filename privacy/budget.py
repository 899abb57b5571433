"""The ledger's rules: what may still be released. Pure; `aggregator.ledger` stores.

Guarantee: if every release of a scope was admitted by `admits`, all of them together are
(ε, δ)-DP for the scope's budget, whoever chose them and in whatever order (adaptive composition;
`privacy.accounting.fits`), and so are those that a `ScopeLimit` covers for the limit's own budget.

Neighbouring relation: `privacy.events.ADJACENCY`. One budget, the total, covers all purposes,
windows and tasks of a population: the same people are in all of them. Limits divide it further by
purpose and window; they never add to it.

Edge cases:

| case | outcome |
|---|---|
| the first release | admitted when it alone fits |
| exactly on the budget | admitted (planned multipliers are rounded up for this) |
| no noise | refused, whatever the budget |
| a simulation (assumed population, or seeded noise) | a scope of its own, with the same budget |
| an event of another scope among the past ones | `ValueError` |
| inside the total, over a limit that covers it | refused; the limit is named |
| inside every limit, over the total | refused: limits never add to the total |
| a limit whose ε is above the total's | allowed; the total stops it first |
| a limit of another population, purpose or window | does not look at the release |
| `EACH_WINDOW` | a budget for every window of its own; the total still holds over all |
| ε or δ of a budget out of range | `ValueError` |

Test: tests/privacy/test_budget.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from client_sdk.wire import Purpose
from privacy.accounting import epsilon_deciding, fits
from privacy.events import MechanismName, ReleaseEvent

EACH_WINDOW: Final = "each window"


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
class ScopeLimit:
    """A hard limit inside a population's total: for a purpose, a window, or both.

    Attributes:
        population: Whose releases.
        budget: What those releases may cost together, at the limit's own δ.
        purpose: Only releases for this purpose; None for all of them.
        window: Only releases that are booked under this label, such as ``2026-Q4``;
            `EACH_WINDOW` for every label on its own; None for all of them together.

    >>> print(ScopeLimit(population="shop", budget=Budget(epsilon=1.0, delta=1e-6),
    ...     purpose=Purpose.TRAIN, window=EACH_WINDOW))
    shop × train × each window: ε 1 at δ 1e-06
    """

    population: str
    budget: Budget
    purpose: Purpose | None = None
    window: str | None = None

    def __post_init__(self) -> None:
        if not self.population or self.window == "":
            raise ValueError("a limit names a population, and its window is not empty")

    def __str__(self) -> str:
        return f"{self.name}: {self.budget}"

    @property
    def name(self) -> str:
        """Population × purpose × window."""
        purpose = "all purposes" if self.purpose is None else self.purpose.value
        return f"{self.population} × {purpose} × {self.window or 'all windows'}"

    def covers(self, event: ReleaseEvent) -> bool:
        """Say whether the limit looks at a release."""
        return (
            event.population == self.population
            and self.purpose in (None, event.purpose)
            and self.window in (None, EACH_WINDOW, event.window)
        )

    def together_with(self, new: ReleaseEvent, past: Sequence[ReleaseEvent]) -> list[ReleaseEvent]:
        """Return the past releases that share the limit with a new one that it covers."""
        return [
            event
            for event in past
            if self.covers(event) and (self.window != EACH_WINDOW or event.window == new.window)
        ]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether one more release fits, and what it would bring the total to.

    Attributes:
        admitted: Whether it may happen.
        epsilon_before: ε that decided, at the budget's δ, of what is committed or reserved; of
            the limit that refuses, else of the total.
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


def admits(
    *,
    budget: Budget,
    past: Sequence[ReleaseEvent],
    new: ReleaseEvent,
    limits: Sequence[ScopeLimit] = (),
) -> Verdict:
    """Decide whether ``new`` still fits the budget of its scope, and every limit that covers it.

    Args:
        budget: The scope's budget.
        past: Every event of the scope that is committed or reserved.
        new: The release that is asked for.
        limits: Of any population; those that do not cover the release are left aside.

    Raises:
        ValueError: a past event is of another scope.
    """
    scope = scope_of(new)
    if any(scope_of(event) != scope for event in past):
        raise ValueError("a past event belongs to another scope")
    total = _check(str(scope), budget, past, new)
    if new.mechanism is MechanismName.UNSAFE_NO_NOISE:
        return _refused(total, "a release without noise has no finite price")
    if not total.admitted:
        return total
    for limit in limits:
        if limit.covers(new):
            verdict = _check(limit.name, limit.budget, limit.together_with(new, past), new)
            if not verdict.admitted:
                return verdict
    return total


def _check(name: str, budget: Budget, past: Sequence[ReleaseEvent], new: ReleaseEvent) -> Verdict:
    before = epsilon_deciding(past, budget.delta)
    after = epsilon_deciding([*past, new], budget.delta)
    verdict = Verdict(admitted=True, epsilon_before=before, epsilon_after=after)
    if fits([*past, new], epsilon=budget.epsilon, delta=budget.delta):
        return verdict
    return _refused(verdict, f"it would bring ε to {after:.4g}; the budget of {name} is {budget}")


def _refused(verdict: Verdict, reason: str) -> Verdict:
    return replace(verdict, admitted=False, reason=reason)
