"""What the ranker needs of the events: per item, how often, in which way, and how lately.

Rules a reader can check line by line:

1. Folding is incremental and does not depend on the order of the events: counts add up, the last
   time is the latest one.
2. The weight of an item is ``1.0`` a purchase that was not returned, ``0.6`` a cart, ``0.3`` a
   view. Quantity does not count: ten of one thing are no ten wishes. An item whose weight is 0 is
   not in the history.
3. Items that a catalogue does not have are kept here, and left out of the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.history import History
from client_sdk.signals.events import Event, EventKind

WEIGHT_OF_PURCHASE: Final = 1.0
WEIGHT_OF_CART: Final = 0.6
WEIGHT_OF_VIEW: Final = 0.3

_PURCHASES, _RETURNS, _CARTS, _VIEWS = range(4)
_COLUMN: Final[Mapping[EventKind | str, int]] = {
    EventKind.PURCHASE: _PURCHASES,
    EventKind.RETURN: _RETURNS,
    EventKind.CART: _CARTS,
    EventKind.PRODUCT_VIEW: _VIEWS,
    EventKind.CONTENT_VIEW: _VIEWS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemActivity:
    """What a person did with one item: purchases that were kept, times in the cart, views."""

    purchases: int = 0
    carts: int = 0
    views: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Folded:
    """The history's columns for one catalogue, until the next event."""

    position: Mapping[str, int]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    times: NDArray[np.float64]


class Activity:
    """The folded events of one person.

    >>> activity = Activity()
    >>> activity.add(Event(kind="purchase", item_id="tea", time_s=5.0))
    >>> activity.history({"cup": 0, "tea": 1}, now_s=9.0).items.tolist()
    [1]
    >>> activity.of("tea").purchases
    1
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        # item id -> ([purchases, returns, carts, views], last time)
        self._counts: dict[str, list[int]] = {}
        self._last_time_s: dict[str, float] = {}
        self._folded: _Folded | None = None
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Fold one more event; kinds that say nothing about an item change nothing."""
        column = _COLUMN.get(event.kind)
        item_id = event.item_id
        if column is None or item_id is None:
            return
        counts = self._counts.get(item_id)
        if counts is None:
            counts = self._counts[item_id] = [0, 0, 0, 0]
        counts[column] += 1
        self._folded = None
        if column != _RETURNS and event.time_s > self._last_time_s.get(item_id, -1.0):
            self._last_time_s[item_id] = event.time_s

    def of(self, item_id: str) -> ItemActivity:
        """Say what was done with one item; zeros for an item never seen."""
        counts = self._counts.get(item_id)
        if counts is None:
            return ItemActivity()
        return ItemActivity(purchases=_kept(counts), carts=counts[_CARTS], views=counts[_VIEWS])

    def owned(self) -> frozenset[str]:
        """The items that were bought and not returned."""
        return frozenset(item_id for item_id, counts in self._counts.items() if _kept(counts))

    def history(self, position: Mapping[str, int], *, now_s: float) -> History:
        """Give the history for one catalogue.

        Args:
            position: Item id to row of the catalogue.
            now_s: The moment at which recency is measured.

        Returns:
            The items that the catalogue has, with weights above 0.
        """
        folded = self._folded
        if folded is None or folded.position is not position:
            folded = self._folded = self._fold(position)
        return History(
            items=folded.items, counts=folded.weights, last_time_s=folded.times, now_s=now_s
        )

    def _fold(self, position: Mapping[str, int]) -> _Folded:
        rows: list[int] = []
        weights: list[float] = []
        times: list[float] = []
        for item_id, counts in self._counts.items():
            row = position.get(item_id)
            weight = _weight(counts)
            if row is not None and weight > 0:
                rows.append(row)
                weights.append(weight)
                times.append(self._last_time_s[item_id])
        order = np.argsort(np.array(rows, np.int32))
        folded = _Folded(
            position=position,
            items=np.array(rows, np.int32)[order],
            weights=np.array(weights, np.float32)[order],
            times=np.array(times, np.float64)[order],
        )
        for array in (folded.items, folded.weights, folded.times):
            array.setflags(write=False)
        return folded


def _kept(counts: list[int]) -> int:
    return max(counts[_PURCHASES] - counts[_RETURNS], 0)


def _weight(counts: list[int]) -> float:
    return (
        WEIGHT_OF_PURCHASE * _kept(counts)
        + WEIGHT_OF_CART * counts[_CARTS]
        + WEIGHT_OF_VIEW * counts[_VIEWS]
    )
