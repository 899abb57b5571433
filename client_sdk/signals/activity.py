"""What the ranker needs of the events: per item, how often, in which way, and how lately.

Rules a reader can check line by line:

1. Folding is incremental and does not depend on the order of the events: counts add up, the last
   time is the latest one. One event or many at once give the same.
2. The weight of an item is ``1.0`` a purchase that was not returned, ``0.6`` a cart, ``0.3`` a
   view. Quantity does not count: ten of one thing are no ten wishes. An item whose weight is 0 is
   not in the history.
3. Items that a catalogue does not have are kept here, and left out of the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from client_sdk.intelligence.history import History
from client_sdk.signals.events import Event
from client_sdk.signals.features.columns import NO_ROW, EventColumns, IntArray
from client_sdk.signals.features.items import ItemTable
from client_sdk.signals.features.subkinds import CARTS, ITEM_COLUMNS, VIEWS, subkind_of

WEIGHT_OF_PURCHASE: Final = 1.0
WEIGHT_OF_CART: Final = 0.6
WEIGHT_OF_VIEW: Final = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemActivity:
    """What a person did with one item.

    Attributes:
        purchases: Those that were kept.
        carts: Times in the cart.
        views: Looks at it.
        first_purchase_s: When it was first bought, also if it was returned; None for never.
        last_purchase_s: When it was last bought.
    """

    purchases: int = 0
    carts: int = 0
    views: int = 0
    first_purchase_s: float | None = None
    last_purchase_s: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Folded:
    """The history for one catalogue, until the next event."""

    position: Mapping[str, int]
    history: History


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
        self._rows: dict[str, int] = {}
        self._table = ItemTable()
        self._folded: _Folded | None = None
        # The catalogue's row of each of our rows, for the last catalogue asked about.
        self._position: Mapping[str, int] | None = None
        self._item_rows: IntArray = np.zeros(0, np.int64)
        for event in events:
            self.add(event)

    @property
    def items(self) -> ItemTable:
        """What was done, a row an item; read it, don't change it."""
        return self._table

    @property
    def item_ids(self) -> list[str]:
        """The item of each row of `items`."""
        return list(self._rows)

    def add(self, event: Event) -> None:
        """Fold one more event; kinds that say nothing about an item change nothing."""
        column = ITEM_COLUMNS[subkind_of(event)]
        if column < 0 or event.item_id is None:
            return
        row = self._rows.get(event.item_id)
        if row is None:
            row = self._rows[event.item_id] = len(self._rows)
            self._table.grow(row + 1)
        self._folded = None
        self._table.add(row, column=column, time_s=event.time_s, price=event.price)

    def columns(self, events: Sequence[Event]) -> EventColumns:
        """Make columns of events, with a row for every item that they name; then `fold` them."""
        columns = EventColumns.of(events, self._rows)
        self._table.grow(len(self._rows))
        return columns

    def fold(self, columns: EventColumns) -> None:
        """Fold what `columns` made."""
        self._table.fold(columns)
        self._folded = None

    def of(self, item_id: str) -> ItemActivity:
        """Say what was done with one item; zeros for an item never seen."""
        row = self._rows.get(item_id)
        if row is None:
            return ItemActivity()
        table = self._table
        bought, returned, carts, views = table.counts[row].tolist()
        return ItemActivity(
            purchases=max(bought - returned, 0),
            carts=carts,
            views=views,
            first_purchase_s=float(table.first_purchase_s[row]) if bought else None,
            last_purchase_s=float(table.last_purchase_s[row]) if bought else None,
        )

    def purchase_days(self, item_id: str) -> tuple[int, ...]:
        """The latest days (at most 32) on which an item was bought, days since 1970 (UTC)."""
        row = self._rows.get(item_id)
        if row is None:
            return ()
        return tuple(self._table.days[row, : self._table.n_days[row]].tolist())

    def owned(self) -> frozenset[str]:
        """The items that were bought and not returned."""
        kept = self._table.kept().tolist()
        return frozenset(item_id for item_id, row in self._rows.items() if kept[row])

    def item_rows(self, position: Mapping[str, int]) -> IntArray:
        """int64[n]: the catalogue's row of each row of `items`; -1 for an item it does not have."""
        if self._position is not position:
            self._position, self._item_rows = position, np.zeros(0, np.int64)
        known = len(self._item_rows)
        if known < len(self._rows):
            new = list(self._rows)[known:]
            rows = [position.get(item_id, NO_ROW) for item_id in new]
            self._item_rows = np.concatenate([self._item_rows, np.array(rows, np.int64)])
        return self._item_rows

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
            folded = self._folded = self._fold(position, now_s)
        return folded.history.at(now_s)

    @classmethod
    def of_table(cls, item_ids: Sequence[str], table: ItemTable) -> Activity:
        """Put a table and the items of its rows together again.

        Raises:
            ValueError: they differ in number, or an item is there twice.
        """
        activity = cls()
        activity._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        if not len(activity._rows) == len(item_ids) == len(table):
            raise ValueError("items: expected one row for each of them, and each once")
        activity._table = table
        return activity

    def _fold(self, position: Mapping[str, int], now_s: float) -> _Folded:
        table, item_rows = self._table, self.item_rows(position)
        counts = table.counts[: len(table)]
        weights = (
            WEIGHT_OF_PURCHASE * table.kept()
            + WEIGHT_OF_CART * counts[:, CARTS]
            + WEIGHT_OF_VIEW * counts[:, VIEWS]
        )
        rows = np.flatnonzero((item_rows >= 0) & (weights > 0))
        rows = rows[np.argsort(item_rows[rows])]
        history = History(
            items=item_rows[rows].astype(np.int32),
            counts=weights[rows].astype(np.float32),
            last_time_s=table.last_s[rows],
            now_s=now_s,
        )
        return _Folded(position=position, history=history)
