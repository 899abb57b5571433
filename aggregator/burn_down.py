"""What was left of a budget after each release: the numbers, and where they stand in a picture.

Pure. The curve is the ε that decided (`privacy.accounting`), so its last point is what the ledger
will hold the next release against; never below zero in the picture, where a supplement overran.

Test: tests/aggregator/test_protection_summary.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aggregator.ledger_reading import Booked, when
from aggregator.spending import budget_in_force
from privacy.accounting import epsilon_deciding, epsilon_exact

WIDTH: Final = 640
HEIGHT: Final = 220
_LEFT: Final = 44
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 30
# Each point composes all releases before it; without an exact curve that takes seconds.
_MOST_POINTS: Final = 60
_MOST_SLOW_POINTS: Final = 8


def burn_down(own: Sequence[Booked]) -> dict[str, Any] | None:
    """Give the points and the picture's coordinates; None without a budget or a release.

    Args:
        own: What was booked for one scope, oldest first.
    """
    budget = budget_in_force(own)
    counted = [each for each in own if each.reservation.counts]
    if budget is None or not counted:
        return None
    epsilon, delta = budget
    events = [each.reservation.event for each in counted]
    most = _MOST_SLOW_POINTS if epsilon_exact(events, delta) is None else _MOST_POINTS
    points = [
        {
            "releases": number,
            "row": counted[number - 1].reservation.row,
            "at": when(counted[number - 1].reserved_at_ms),
            "epsilon_left": epsilon - epsilon_deciding(events[:number], delta),
        }
        for number in _spread(len(counted), most)
    ]
    return {"budget": epsilon, "delta": delta, "points": points, **_picture(points, epsilon)}


def _spread(count: int, most: int) -> list[int]:
    """Choose at most ``most`` of 1 … count, evenly, the last one always.

    >>> _spread(3, 60), _spread(10, 4)
    ([1, 2, 3], [1, 4, 7, 10])
    """
    if count <= most:
        return list(range(1, count + 1))
    return [1 + round(at * (count - 1) / (most - 1)) for at in range(most)]


def _picture(points: Sequence[dict[str, Any]], epsilon: float) -> dict[str, Any]:
    """Place the points: a step down at each release, from the budget towards zero."""
    wide, high = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    most = int(points[-1]["releases"])

    def across(releases: float) -> float:
        return round(_LEFT + wide * releases / (most + 1), 1)

    def down(left: float) -> float:
        return round(_TOP + high * (1.0 - max(0.0, left) / epsilon), 1)

    path, before = [f"M{_LEFT} {_TOP}"], epsilon
    for point in points:
        x = across(point["releases"])
        path += [f"L{x} {down(before)}", f"L{x} {down(point['epsilon_left'])}"]
        before = point["epsilon_left"]
    path.append(f"L{WIDTH - _RIGHT} {down(before)}")
    line = " ".join(path)
    zero = HEIGHT - _BOTTOM
    ticks = [{"y": down(epsilon * share), "label": f"{epsilon * share:.3g}"} for share in (1, 0.5)]
    return {
        "path": line,
        "area": f"{line} L{WIDTH - _RIGHT} {zero} L{_LEFT} {zero} Z",
        "ticks": [*ticks, {"y": float(zero), "label": "0"}],
        "frame": {
            "width": WIDTH,
            "height": HEIGHT,
            "left": _LEFT,
            "right": WIDTH - _RIGHT,
            "zero": zero,
        },
    }
