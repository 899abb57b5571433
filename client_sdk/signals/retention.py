"""How long events are kept, and which go first when there are too many. Nothing here is deleted.

Rules a reader can check line by line:

1. An event older than its kind may be kept is expired. An event from the future is not.
2. The bound of the store is a number of events. Where it is passed, events go until
   ``keep_share`` of it is left, so that this happens once in a while and not with every event.
3. First go the kinds that say least, in the order of `EVICTION_ORDER`; within a kind the oldest
   first; of events of one time the one stored first. The app's own kinds go after ``support``.

=================================  ======  ======================================================
kinds                              days    why
=================================  ======  ======================================================
purchase, return                   730     what is bought again may come back once in two years
product_view, cart, content_view,  365     taste has seasons: one year has each of them once
support
search, checkout_step,             90      what somebody looked for, or stumbled over, is
form_error, message_*, screen              answered, solved or forgotten within weeks
the app's own                      365     as taste, unless the app says otherwise
=================================  ======  ======================================================
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from client_sdk.signals.events import Event

DAY_S: Final = 86_400.0
MAX_DAYS: Final = 36_500
MAX_EVENTS: Final = 2**53
STANDARD_DAYS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "purchase": 730,
        "return": 730,
        "product_view": 365,
        "cart": 365,
        "content_view": 365,
        "support": 365,
        "search": 90,
        "checkout_step": 90,
        "form_error": 90,
        "message_shown": 90,
        "message_opened": 90,
        "message_dismissed": 90,
        "screen": 90,
    }
)
CUSTOM: Final = "the app's own"
EVICTION_ORDER: Final = (
    "screen",
    "message_shown",
    "form_error",
    "checkout_step",
    "message_opened",
    "message_dismissed",
    "search",
    "content_view",
    "product_view",
    "support",
    CUSTOM,
    "cart",
    "return",
    "purchase",
)
"""From the kind that says least to the one that says most."""

_TURN: Final = {kind: turn for turn, kind in enumerate(EVICTION_ORDER)}
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


def _expect_whole(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        came = type(value).__name__ if not isinstance(value, int) else repr(value)
        raise ValueError(f"{name}: expected a whole number from 1 to {most}; got {came}")


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """How long each kind is kept, and how many events at most.

    Attributes:
        days: For some kinds how many days, 1 to 36,500; the others have those of `STANDARD_DAYS`.
        default_days: For kinds that neither names, 1 to 36,500.
        max_events: The bound of the store, 1 or more.
        keep_share: How much of the bound is left when it was passed; above 0, at most 1.

    Raises:
        ValueError: a field is not as promised; the message names it.

    >>> policy = RetentionPolicy(days={"search": 30})
    >>> policy.days_of("search"), policy.days_of("purchase"), policy.days_of("tasting_booked")
    (30, 730, 365)
    >>> policy.expired(Event(kind="search", time_s=0.0), now_s=31 * DAY_S)
    True
    """

    days: Mapping[str, int] = field(default_factory=dict)
    default_days: int = 365
    max_events: int = 200_000
    keep_share: float = 0.9

    def __post_init__(self) -> None:
        if not isinstance(self.days, Mapping):
            raise ValueError(f"days: expected kinds with days; got {type(self.days).__name__}")  # noqa: TRY004 - a policy's every mistake is a ValueError
        for kind, days in self.days.items():
            if not isinstance(kind, str) or not _KIND.match(kind):
                raise ValueError(
                    "days: expected kinds as 1 to 64 of a-z, 0-9 and _; got another name"
                )
            _expect_whole(f"days.{kind}", days, MAX_DAYS)
        _expect_whole("default_days", self.default_days, MAX_DAYS)
        _expect_whole("max_events", self.max_events, MAX_EVENTS)
        share = self.keep_share
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"keep_share: expected a number above 0, at most 1; got {share!r}")
        object.__setattr__(self, "days", MappingProxyType(dict(self.days)))

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Read a policy from plain values; what is left out has its default.

        Raises:
            ValueError: a key is unknown, or a value is not as promised.
        """
        known = sorted(each.name for each in fields(cls))
        unknown = sorted(value.keys() - set(known))
        if unknown:
            raise ValueError(
                f"expected the keys {known}; got {unknown} as well: check the spelling"
            )
        return cls(**value)

    @classmethod
    def from_toml(cls, source: Path | str) -> Self:
        r"""Read a policy from TOML.

        Args:
            source: A file, or the text itself: the fields of this class, ``days`` as a table.

        Raises:
            ValueError: it is no TOML, a key is unknown, or a value is not as promised; the message
                names the file and the key.
            OSError: the file cannot be read.

        >>> RetentionPolicy.from_toml('max_events = 5000\n[days]\nsearch = 7').days_of("search")
        7
        """
        name = str(source) if isinstance(source, Path) else "retention"
        try:
            # Bytes that are no UTF-8 are a ValueError, as is text that is no TOML.
            text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
            return cls.from_mapping(tomllib.loads(text))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def days_of(self, kind: str) -> int:
        """How many days events of a kind are kept."""
        return self.days.get(kind) or STANDARD_DAYS.get(kind) or self.default_days

    def oldest_s(self, kind: str, now_s: float) -> float:
        """The time of the oldest events of a kind that are kept, seconds since 1970."""
        return now_s - self.days_of(kind) * DAY_S

    def expired(self, event: Event, now_s: float) -> bool:
        """Say whether an event is older than its kind may be kept."""
        return event.time_s < self.oldest_s(event.kind, now_s)


KEEP_ALL: Final = RetentionPolicy(
    days=dict.fromkeys(STANDARD_DAYS, MAX_DAYS),
    default_days=MAX_DAYS,
    max_events=MAX_EVENTS,
)
"""Lets go of nothing: for a look into a store whose app has a policy of its own."""


def choose_evicted(events: Iterable[Event], policy: RetentionPolicy) -> frozenset[str]:
    """Choose what goes when there are more events than the store's bound.

    Args:
        events: All that are stored, in stored order.
        policy: Says the bound.

    Returns:
        The ids of the events that go; none where the bound is kept.

    >>> kept = [Event(kind=kind, time_s=float(n), event_id=f"{kind} {n}")
    ...         for kind in ("search", "screen") for n in range(3)]
    >>> sorted(choose_evicted(kept, RetentionPolicy(max_events=5, keep_share=0.4)))
    ['screen 0', 'screen 1', 'screen 2', 'search 0']
    """
    custom = _TURN[CUSTOM]
    in_turn = [
        (_TURN.get(event.kind, custom), event.time_s, place, event.event_id)
        for place, event in enumerate(events)
    ]
    if len(in_turn) <= policy.max_events:
        return frozenset()
    in_turn.sort()
    going = len(in_turn) - max(1, int(policy.max_events * policy.keep_share))
    return frozenset(event_id for _, _, _, event_id in in_turn[:going])
