"""From what a person did to what they may need next: events in, `Anticipation` out.

Rules a reader can check line by line:

1. Nothing is read without a yes to personalise; nothing is stored, and nothing leaves.
2. A purchase is one `EventKind.PURCHASE`. A return takes back the latest purchase of its item that
   was not taken back yet.
3. The amount is price times quantity (1 where none is said); without a price it is not known. The
   catalogue's price is none: it is today's.
4. The category is the catalogue's, else the event's own property ``category``, else none.
5. What is anticipated changes with the events, the catalogue and the day only: it is computed once
   for these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

from client_sdk.intelligence.anticipation import (
    CDNOW,
    DAY_S,
    Anticipation,
    ChurnParameters,
    Purchase,
    churn_risk,
    next_category,
    replenishment_due,
    spend_insight,
)
from client_sdk.ports import Clock
from client_sdk.signals.events import Event, EventKind
from client_sdk.signals.signals import Signals
from client_sdk.wire import Catalogue, Purpose

_CHOICES = frozenset({EventKind.PRODUCT_VIEW, EventKind.CART, EventKind.PURCHASE})


def purchases_of(events: Iterable[Event], catalogue: Catalogue) -> tuple[Purchase, ...]:
    """Give what was bought and kept, oldest first.

    Args:
        events: In any order.
        catalogue: Says the categories.

    >>> bought = Event(kind="purchase", item_id="a", time_s=1.0, price=2.0, quantity=3)
    >>> back = Event(kind="return", item_id="b", time_s=3.0)
    >>> other = Event(kind="purchase", item_id="b", time_s=2.0)
    >>> [(p.item_id, p.amount) for p in purchases_of([back, other, bought], Catalogue(items=()))]
    [('a', 6.0)]
    """
    open_of: dict[str, list[int]] = {}
    kept: dict[int, Purchase] = {}
    for number, event in enumerate(sorted(events, key=lambda event: event.time_s)):
        if event.item_id is None:
            continue
        if event.kind == EventKind.PURCHASE:
            amount = None if event.price is None else event.price * (event.quantity or 1.0)
            kept[number] = Purchase(
                time_s=event.time_s,
                item_id=event.item_id,
                category=_category(event, catalogue),
                amount=amount,
            )
            open_of.setdefault(event.item_id, []).append(number)
        elif event.kind == EventKind.RETURN and open_of.get(event.item_id):
            del kept[open_of[event.item_id].pop()]
    return tuple(kept.values())


def anticipated(
    events: Iterable[Event],
    catalogue: Catalogue,
    *,
    now_s: float,
    utc_offset_s: int = 0,
    churn: ChurnParameters = CDNOW,
) -> tuple[Anticipation, ...]:
    """Say everything that is anticipated: first what is due, then the others.

    Args:
        events: What the person did, in any order.
        catalogue: Says names and categories.
        now_s: Now, seconds since 1970 (UTC).
        utc_offset_s: Local time minus UTC, seconds: where a month begins.
        churn: Of the shop's people.

    Returns:
        Replenishment, the surest first; the risk of churn; the next category; the spending of each
        category that changed, the largest change of money share first. None of what is not known.
    """
    done = sorted((event for event in events if event.time_s <= now_s), key=lambda e: e.time_s)
    bought = purchases_of(done, catalogue)
    names = {item.item_id: item.name for item in catalogue.items if item.name}
    visited = [_category(event, catalogue) for event in done if event.kind in _CHOICES]
    spent = (
        spend_insight(bought, category=category, now_s=now_s, utc_offset_s=utc_offset_s)
        for category in sorted({one.category for one in bought if one.category})
    )
    single = (churn_risk(bought, now_s=now_s, parameters=churn), next_category(visited))
    changed = sorted(
        (insight for insight in spent if insight is not None), key=lambda one: -abs(one.value)
    )
    due = replenishment_due(bought, now_s=now_s, names=names)
    return (*due, *(one for one in single if one is not None), *changed)


class Anticipator:
    """Anticipates for one person; ``home.anticipate`` asks it.

    Args:
        signals: Gives the events, after consent.
        catalogue: Gives the items in use.
        clock: Tells the time.
        lock: Shared with whoever else uses the vault.
    """

    def __init__(
        self,
        *,
        signals: Signals,
        catalogue: Callable[[], Catalogue],
        clock: Clock,
        lock: AbstractContextManager[object],
    ) -> None:
        self._signals = signals
        self._catalogue = catalogue
        self._clock = clock
        self._lock = lock
        self._known: tuple[object, Catalogue, tuple[Anticipation, ...]] | None = None

    def anticipate(
        self, *, utc_offset_s: int, churn: ChurnParameters = CDNOW
    ) -> tuple[Anticipation, ...]:
        """Say what is anticipated today; see `anticipated`.

        Raises:
            ConsentRequiredError: no yes to personalise.
        """
        with self._lock:
            now_s, catalogue = self._clock.now_s(), self._catalogue()
            key = (tuple(self._state()), int(now_s // DAY_S), utc_offset_s, churn)
            if self._known is None or self._known[0] != key or self._known[1] is not catalogue:
                found = anticipated(
                    self._signals.events(Purpose.PERSONALISE),
                    catalogue,
                    now_s=now_s,
                    utc_offset_s=utc_offset_s,
                    churn=churn,
                )
                self._known = key, catalogue, found
            return self._known[2]

    def forget(self) -> None:
        """Drop what is in memory."""
        with self._lock:
            self._known = None

    def _state(self) -> Iterator[Mapping[str, int] | float | None]:
        """Give what differs when the events differ; asked for a purpose, so that consent counts."""
        yield self._signals.count_by_kind()
        for kind in (*sorted(_CHOICES), EventKind.RETURN):
            yield self._signals.last_s(Purpose.PERSONALISE, kind)


def _category(event: Event, catalogue: Catalogue) -> str:
    row = catalogue.position.get(event.item_id or "")
    if row is not None and catalogue.items[row].category:
        return catalogue.items[row].category
    own = event.properties.get("category")
    return own if isinstance(own, str) else ""
