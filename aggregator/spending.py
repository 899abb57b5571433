"""What was spent, scope by scope: the numbers that ``spend`` prints and the summary shows.

Test: tests/aggregator/test_privacy_commands.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aggregator.ledger_reading import Booked
from client_sdk.wire import Purpose
from privacy.budget import Scope
from privacy.chain import RowKind
from privacy.statement import statement

DEFAULT_DELTA: Final = 1e-6


def scopes_of(found: Sequence[Booked]) -> list[Scope]:
    """Give every scope that something was booked for, in order of appearance."""
    return list(dict.fromkeys(each.scope for each in found))


def parts_of(scope: Scope, own: Sequence[Booked], delta: float | None) -> list[dict[str, Any]]:
    """State the whole scope, and where there are several, each purpose and window of it.

    Args:
        scope: Whose budget.
        own: What was booked for it.
        delta: In place of the budget's; `DEFAULT_DELTA` where there is neither.

    Raises:
        AccountantsDisagreeError: nothing is stated.
    """
    parts = {(each.reservation.event.purpose, each.reservation.event.window) for each in own}
    told = [_part(scope, own, delta, purpose=None, window=None)]
    if len(parts) > 1:
        for purpose, window in sorted(parts):
            inside = [
                each
                for each in own
                if (each.reservation.event.purpose, each.reservation.event.window)
                == (purpose, window)
            ]
            told.append(_part(scope, inside, delta, purpose=purpose, window=window))
    return told


def budget_in_force(own: Sequence[Booked]) -> tuple[float, float] | None:
    """Give ε and δ of the budget that admitted the newest of these; None where no row has one."""
    return next((each.budget for each in reversed(own) if each.budget is not None), None)


def _part(
    scope: Scope,
    own: Sequence[Booked],
    delta: float | None,
    *,
    purpose: Purpose | None,
    window: str | None,
) -> dict[str, Any]:
    budget = budget_in_force(own)
    at = delta or (DEFAULT_DELTA if budget is None else budget[1])
    counted = [each.reservation for each in own if each.reservation.counts]
    states = [each.reservation.state for each in own]
    return {
        "scope": str(scope),
        "population": scope.population,
        "simulated": scope.simulated,
        "assumed_population": scope.assumed_population,
        "purpose": None if purpose is None else purpose.value,
        "window": window,
        "budget": None if budget is None else {"epsilon": budget[0], "delta": budget[1]},
        "committed": states.count(RowKind.COMMIT),
        "reserved": states.count(RowKind.RESERVE),
        "voided": states.count(RowKind.VOID),
        **statement([each.event for each in counted], at).to_values(),
    }
