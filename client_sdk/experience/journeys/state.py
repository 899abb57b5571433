"""Where one person is in one journey: a small value, kept as JSON.

Rules a reader can check line by line:

1. Bounded: at most `MAX_CAP` sends a channel, one time for each kind that a timer waits for, one
   entry for each action that may come once.
2. `JourneyState.to_json` and `JourneyState.from_json` are inverse to each other; anything else is
   refused with `StaleJourneyError`, since what is stored may be old or damaged.
3. It says nothing of what the person did, but when, and about which item at last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from client_sdk.errors import HomebodyError
from client_sdk.experience.journeys.tables import MAX_CAP


class StaleJourneyError(HomebodyError):
    """A stored state does not fit the journey: migrate it, or begin anew."""


@dataclass(frozen=True, kw_only=True)
class JourneyState:
    """Where one person is.

    Attributes:
        journey: The journey's name.
        version: The version that the state is of.
        at: The name of the state.
        entered_s: Since when, seconds since 1970 (UTC).
        seen_s: Kind of event to when it last came in this state; for kinds that a timer waits for.
        sent_s: Channel to when something was last sent by it, oldest first; at most 64 each.
        done: Actions that may come only once and came.
        item_id: The item of the event that moved the person last, or None.
    """

    journey: str
    version: int
    at: str
    entered_s: float
    seen_s: Mapping[str, float] = field(default_factory=dict)
    sent_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    done: frozenset[str] = frozenset()
    item_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the state as plain JSON."""
        return {
            **vars(self),
            "seen_s": dict(sorted(self.seen_s.items())),
            "sent_s": {name: list(times) for name, times in sorted(self.sent_s.items())},
            "done": sorted(self.done),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            StaleJourneyError: anything else.

        >>> state = JourneyState(journey="hello", version=1, at="new", entered_s=0.0)
        >>> JourneyState.from_json(state.to_json()) == state
        True
        """
        names = {one.name for one in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names or not _typed(value):
            raise StaleJourneyError(
                "a stored state of a journey is not as it was written: begin the journey anew"
            )
        return cls(
            **{
                **value,
                "entered_s": float(value["entered_s"]),
                "seen_s": dict(value["seen_s"]),
                "sent_s": {name: tuple(times) for name, times in value["sent_s"].items()},
                "done": frozenset(value["done"]),
            }
        )


def _typed(value: Mapping[str, Any]) -> bool:
    texts = all(isinstance(value[name], str) for name in ("journey", "at"))
    version = type(value["version"]) is int and value["version"] >= 1
    item = value["item_id"] is None or isinstance(value["item_id"], str)
    seen, sent, done = value["seen_s"], value["sent_s"], value["done"]
    return (
        texts
        and version
        and item
        and _time(value["entered_s"])
        and isinstance(seen, Mapping)
        and all(map(_time, seen.values()))
        and isinstance(sent, Mapping)
        and all(
            isinstance(times, list) and len(times) <= MAX_CAP and all(map(_time, times))
            for times in sent.values()
        )
        and isinstance(done, list)
        and all(isinstance(name, str) for name in done)
    )


def _time(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
