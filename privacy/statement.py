"""The ε that is stated: PLD's, beside the others, and only where they agree.

Guarantee: `statement` returns an ε by privacy loss distributions for which the composition of the
events is (ε, δ)-DP; it lies inside what the exact curve (or Opacus' PRV bounds) and Rényi DP allow.
Where one of them contradicts it, there is no statement (`AccountantsDisagreeError`): a wrong
accountant is a bug, and nobody can tell from outside which one is wrong.

Neighbouring relation: that of the events, in `Statement.adjacency`.

| check | tolerance |
|---|---|
| exact curve ≤ PLD ≤ exact curve, where there is one | -1e-6, +1e-3 · (1 + ε) |
| PRV lower ≤ PLD ≤ PRV upper, as far as Opacus can say | 1e-3 |
| PLD ≤ RDP | 1e-3 |

The first tolerance is the discretisation of the privacy loss; the others are it and rounding.

Edge cases:

| events | outcome |
|---|---|
| none | ε 0 |
| any without noise | ε infinite |
| Opacus is not installed | no PRV bound (None), said in words; the other two checks hold |
| an accountant returns NaN, or a negative number | `AccountantsDisagreeError` |

Test: tests/privacy/test_statement.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from privacy.accounting import (
    Accountant,
    Bounds,
    epsilon_exact,
    epsilon_pld,
    epsilon_rdp,
    prv_bounds,
)
from privacy.errors import AccountantsDisagreeError
from privacy.events import ReleaseEvent

_ROUNDING: Final = 1e-6
_DISCRETISATION: Final = 1e-3

PRV_MISSING: Final = "not computed: Opacus is not installed (pip install 'homebody[prv]')"


@dataclass(frozen=True, kw_only=True)
class Accountants:
    """Who is asked. The default is who they are; another set is for tests of the refusal.

    Attributes:
        pld: States.
        exact: Checks from both sides; None from it where no exact curve is known.
        prv: Bounds; raises `ModuleNotFoundError` where Opacus is missing.
        rdp: Checks from above.
    """

    pld: Accountant = epsilon_pld
    exact: Callable[[Sequence[ReleaseEvent], float], float | None] = epsilon_exact
    prv: Callable[[Sequence[ReleaseEvent], float], Bounds] = prv_bounds
    rdp: Accountant = epsilon_rdp


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What may be said of a set of releases.

    Attributes:
        epsilon: The number to state: PLD's.
        epsilon_exact: By the exact curve, where there is one.
        epsilon_prv_lower: Not below this, by Opacus, where it can say.
        epsilon_prv_bound: Not above this, by Opacus; None where it is not installed.
        epsilon_rdp: By Rényi DP; larger than the truth.
        delta: δ of all of them.
        releases: How many events.
        adjacency: The neighbouring relations of the events.
        trusted: Whom the events ask one to trust.
        assumes: What they take for granted beyond that.
        simulation: Whether these are forecasts, not claims.
    """

    epsilon: float
    epsilon_exact: float | None
    epsilon_prv_lower: float | None
    epsilon_prv_bound: float | None
    epsilon_rdp: float
    delta: float
    releases: int
    adjacency: tuple[str, ...]
    trusted: tuple[str, ...]
    assumes: tuple[str, ...]
    simulation: bool

    def to_values(self) -> dict[str, Any]:
        """Return plain values for JSON; an infinite ε becomes the word ``infinite``."""
        return {
            "epsilon_pld": _plain(self.epsilon),
            "epsilon_exact": _plain(self.epsilon_exact),
            "epsilon_prv_lower": _plain(self.epsilon_prv_lower),
            "epsilon_prv_bound": _plain(self.epsilon_prv_bound),
            "epsilon_rdp": _plain(self.epsilon_rdp),
            "delta": self.delta,
            "releases": self.releases,
            "adjacency": list(self.adjacency),
            "trusted": list(self.trusted),
            "assumes": list(self.assumes),
            "simulation": self.simulation,
        }


def statement(
    events: Sequence[ReleaseEvent], delta: float, *, accountants: Accountants | None = None
) -> Statement:
    """Ask every accountant and state ε, or refuse.

    Args:
        events: Releases of one scope.
        delta: δ in (0, 1).
        accountants: Who is asked.

    Raises:
        AccountantsDisagreeError: they contradict each other.
        ValueError: real and simulated releases are mixed, or δ is none.

    >>> statement([], 1e-6).epsilon
    0.0
    """
    asked = Accountants() if accountants is None else accountants
    stated = asked.pld(events, delta)
    exact = asked.exact(events, delta)
    rdp = asked.rdp(events, delta)
    try:
        prv: Bounds | None = asked.prv(events, delta)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"opacus", "torch"}:
            raise
        prv = None
    _check(stated, exact, prv, rdp)
    return Statement(
        epsilon=stated,
        epsilon_exact=exact,
        epsilon_prv_lower=None if prv is None else prv.lower,
        epsilon_prv_bound=None if prv is None else prv.upper,
        epsilon_rdp=rdp,
        delta=delta,
        releases=len(events),
        adjacency=_each(event.adjacency for event in events),
        trusted=_each(event.trusted for event in events),
        assumes=_each(words for event in events for words in event.assumes),
        simulation=any(event.simulated for event in events),
    )


def _check(stated: float, exact: float | None, prv: Bounds | None, rdp: float) -> None:
    if not stated >= 0.0:
        raise AccountantsDisagreeError(f"PLD says {stated}, which is no ε; state nothing")
    if exact is not None:
        slack = _DISCRETISATION * (1.0 + stated)
        _hold("the exact curve", stated, exact - _ROUNDING, exact + slack)
    if prv is not None:
        lower = -math.inf if prv.lower is None else prv.lower - _DISCRETISATION
        _hold("Opacus' PRV bounds", stated, lower, prv.upper + _DISCRETISATION)
    _hold("Rényi DP", stated, -math.inf, rdp + _DISCRETISATION)


def _hold(name: str, stated: float, lower: float, upper: float) -> None:
    if not lower <= stated <= upper:
        raise AccountantsDisagreeError(
            f"PLD says ε {stated:.6g}, {name} says it lies between {lower:.6g} and {upper:.6g}; "
            "one of them is wrong, so no ε is stated"
        )


def _each(words: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _plain(number: float | None) -> float | str | None:
    return "infinite" if number == math.inf else number
