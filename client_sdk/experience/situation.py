"""The situation: everything about the moment and the person that a guardrail may look at.

Rules a reader can check line by line:

1. A guardrail sees an `ActionTable` and a `Situation` and nothing else, so what was logged of the
   two judges again to the same verdict.
2. Without consent to personalise nothing that was learned is in a situation: no purchases, no
   complaint, no shares. What the person asked for by hand is: channels, and what to show less of;
   it takes away and never adds. Counts of what was shown are, because a cap protects the person.
3. Only what concerns the actions of the question is in it: words, items and channels of the table.
4. A situation is a value: no set or mapping in it is changed, here or where it came from.
5. `Situation.from_json` of `Situation.to_json` is equal to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from client_sdk.experience.ledger import Counts

NO_COUNTS = Counts(0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known when a decision is made.

    Attributes:
        now_s: Seconds since 1970 (UTC).
        utc_offset_s: Local time minus UTC, seconds; None for unknown.
        personal: Whether there is a yes to personalise.
        paused: Whether the person asked for a pause that still lasts.
        opted_in: Channels that the person opened.
        less: Words (topics, tags) of which the person wants less.
        less_items: Items of which the person wants less.
        sold_out: Items that are out of stock.
        bought_s: When each item was last bought and kept, seconds since 1970.
        offers: Ids of actions and items whose offer is active.
        waiting: Ids of actions that wait for a person's approval.
        counts: What was shown on each channel.
        messages_7_days: Messages shown in the last 7 days, as the events say.
        dismissed_share: How many of the messages the person closed, 0 to 1; None for unknown.
        last_complaint_s: When the person last asked for support; None for never.
        last_return_s: When the person last returned something; None for never.
    """

    now_s: float
    utc_offset_s: int | None = None
    personal: bool = True
    paused: bool = False
    opted_in: frozenset[str] = frozenset()
    less: frozenset[str] = frozenset()
    less_items: frozenset[str] = frozenset()
    sold_out: frozenset[str] = frozenset()
    bought_s: Mapping[str, float] = field(default_factory=dict)
    offers: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    messages_7_days: int = 0
    dismissed_share: float | None = None
    last_complaint_s: float | None = None
    last_return_s: float | None = None

    def count(self, channel: str) -> Counts:
        """What was shown on a channel."""
        return self.counts.get(channel, NO_COUNTS)

    def to_json(self) -> dict[str, Any]:
        """Give it as plain JSON; what is empty is left out."""
        return {
            name: plain_of(name, given)
            for name, given in vars(self).items()
            if name == "personal" or given not in _EMPTY
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Situation:
        """Read what `to_json` gave, through JSON.

        >>> Situation.from_json(Situation(now_s=5.0, less=frozenset({"tea"})).to_json()).less
        frozenset({'tea'})
        """
        given = dict(value)
        for name in _SETS & given.keys():
            given[name] = frozenset(given[name])
        if "counts" in given:
            given["counts"] = {name: Counts(*row) for name, row in given["counts"].items()}
        return cls(**given)


def plain_of(name: str, given: object) -> object:
    """Give one field of a situation as plain JSON."""
    return sorted(cast("frozenset[str]", given)) if name in _SETS else given


_SETS = frozenset({"opted_in", "less", "less_items", "sold_out", "offers", "waiting"})
_EMPTY: tuple[object, ...] = (None, frozenset(), {})
