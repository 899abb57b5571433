"""One person's reading after one more event: sums over items are kept, and changed by what changed.

Rules a reader can check line by line:

1. `PersonReading` gives what `Reading` gives of the same state, to the last bit: what is kept are
   sums of whole numbers, and single values of rows. A sum of other numbers is made anew, in order.
2. `ItemSums.update` takes back what a row had added, and adds what it adds now, for the rows that
   were touched since the last time. Where they are many, everything is made anew.
3. Nothing of it is stored: it is made from the items, for one catalogue, in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np

from client_sdk.signals.features.catalogue import NO_CODE, CatalogueColumns
from client_sdk.signals.features.columns import FloatArray, IntArray
from client_sdk.signals.features.counts import RING_DAYS
from client_sdk.signals.features.items import VIEW_DAYS, ItemTable
from client_sdk.signals.features.reading import (
    CART_TENTHS,
    LAPSED_AFTER,
    PURCHASE_TENTHS,
    REPEAT_DAYS,
    VIEW_TENTHS,
    Reading,
    Replenishment,
)
from client_sdk.signals.features.subkinds import CARTS, PURCHASES, RETURNS, VIEWS

# Above it, making everything anew is faster.
_MANY_ROWS: Final = 48
_BACK: Final = np.arange(VIEW_DAYS, dtype=np.uint32)


class ItemSums:
    """What the features of items add up, for one person and one catalogue.

    Args:
        items: The person's items; whoever makes the sums is the only one to ask what was touched.
        columns: The catalogue.
    """

    def __init__(self, items: ItemTable, columns: CatalogueColumns) -> None:
        self.items = items
        self.columns = columns
        self._forget()

    def _forget(self) -> None:
        columns = self.columns
        self._n = 0
        self._interest: IntArray = np.zeros(0, np.int64)
        self._view_day: IntArray = np.zeros(0, np.int64)
        self._view_mask: IntArray = np.zeros(0, np.int64)
        self._position: FloatArray = np.zeros(0)
        self._weight: FloatArray = np.zeros(0)
        self.of_category: FloatArray = np.zeros(len(columns.categories))
        self.of_brand: FloatArray = np.zeros(len(columns.brands))
        # Day -> different items viewed, different categories; (day, category) -> items.
        self._items_on: Counter[int] = Counter()
        self._categories_on: Counter[int] = Counter()
        self._on: Counter[tuple[int, int]] = Counter()
        # The catalogue's row of an item that is bought again and again -> cycle and last day.
        self._repeated: dict[int, tuple[float, int]] = {}
        self._repeated_columns: tuple[IntArray, FloatArray, IntArray] | None = None

    def update(self, item_rows: IntArray) -> None:
        """Take in what changed.

        Args:
            item_rows: int64[n], the catalogue's row of each row of the items; -1 for none.
        """
        touched = self.items.take_touched()
        if not self._n or touched is None or len(touched) > _MANY_ROWS:
            self._make(item_rows)
            return
        self._have(len(item_rows))
        for row in touched:
            item = int(item_rows[row])
            if item >= 0 and not self.columns.hidden[item]:
                self._change(row, item)

    def comparisons(self, first: int, days: int) -> int:
        """Different items viewed less different categories, for each of some days; their sum."""
        window = range(first, first + days)
        return sum(self._items_on[day] - self._categories_on[day] for day in window)

    def mean_price_position(self) -> FloatArray:
        """float64[1], see `Reading.price_position`."""
        rows = np.flatnonzero(~np.isnan(self._position))
        weight, owner = self._weight[rows], np.zeros(len(rows), np.int64)
        total = np.bincount(owner, weights=weight, minlength=1)
        summed = np.bincount(owner, weights=weight * self._position[rows], minlength=1)
        return summed / total if total[0] > 0 else np.array([np.nan])

    def repeated(self) -> tuple[IntArray, FloatArray, IntArray]:
        """Row of the catalogue, cycle and last day of what is bought again and again, by row."""
        if self._repeated_columns is None:
            rows = sorted(self._repeated)
            self._repeated_columns = (
                np.array(rows, np.int64),
                np.array([self._repeated[row][0] for row in rows], np.float64),
                np.array([self._repeated[row][1] for row in rows], np.int64),
            )
        return self._repeated_columns

    def _have(self, n: int) -> None:
        self._n = n
        room = max(n, 2 * len(self._interest)) - len(self._interest)
        if n > len(self._interest):
            for name in ("_interest", "_view_day", "_view_mask", "_position", "_weight"):
                column = getattr(self, name)
                empty = np.nan if name == "_position" else 0
                more = np.full(room, empty, column.dtype)
                setattr(self, name, np.concatenate((column, more)))

    def _change(self, row: int, item: int) -> None:
        items, columns = self.items, self.columns
        bought, returned, carts, views = items.counts[row].tolist()
        kept = max(bought - returned, 0)
        category, brand = int(columns.category[item]), int(columns.brand[item])
        interest = PURCHASE_TENTHS * kept + CART_TENTHS * carts + VIEW_TENTHS * views
        more = interest - int(self._interest[row])
        self._interest[row] = interest
        if category != NO_CODE:
            self.of_category[category] += more
            self._see(row, category)
        if brand != NO_CODE:
            self.of_brand[brand] += more
        if bought:
            # As for one of many rows: the same functions, so the same numbers.
            one = np.array([row])
            self._position[row] = self._positions(one, np.array([item]), np.array([kept]))[0]
            self._weight[row] = kept
            self._repeat(row, item, kept)

    def _see(self, row: int, category: int) -> None:
        before = int(self._view_day[row]), int(self._view_mask[row])
        now = int(self.items.view_day[row]), int(self.items.view_mask[row])
        if now == before:
            return
        self._view_day[row], self._view_mask[row] = now
        gone, come = _days(*before), _days(*now)
        for day in gone - come:
            self._items_on[day] -= 1
            self._on[day, category] -= 1
            self._categories_on[day] -= not self._on[day, category]
        for day in come - gone:
            self._items_on[day] += 1
            self._categories_on[day] += not self._on[day, category]
            self._on[day, category] += 1

    def _repeat(self, row: int, item: int, kept: int) -> None:
        self._repeated_columns = None
        n = int(self.items.n_days[row])
        if n < REPEAT_DAYS or not kept:
            self._repeated.pop(item, None)
            return
        days = self.items.days[row, :n].tolist()
        gaps = sorted(after - before for before, after in pairwise(days))
        middle = gaps[(n - 2) // 2] + gaps[(n - 1) // 2]
        self._repeated[item] = middle / 2.0, days[-1]

    def _positions(self, rows: IntArray, item: IntArray, kept: IntArray) -> FloatArray:
        paid = self.items.mean_price(rows)
        price = np.where(np.isnan(paid), self.columns.price[item], paid)
        position = self.columns.price_positions(self.columns.category[item], price)
        return np.where(kept > 0, position, np.nan)

    def _make(self, item_rows: IntArray) -> None:
        items, columns = self.items, self.columns
        self._forget()
        self._have(len(item_rows))
        usable = np.flatnonzero(item_rows >= 0)
        usable = usable[~columns.hidden[item_rows[usable]]]
        item = item_rows[usable]
        category, brand = columns.category[item], columns.brand[item]
        counts = items.counts[usable].astype(np.int64)
        kept = np.maximum(counts[:, PURCHASES] - counts[:, RETURNS], 0)
        interest = PURCHASE_TENTHS * kept
        interest += CART_TENTHS * counts[:, CARTS] + VIEW_TENTHS * counts[:, VIEWS]
        self._interest[usable] = interest
        self.of_category = _summed(category, interest, len(columns.categories))
        self.of_brand = _summed(brand, interest, len(columns.brands))
        self._position[usable] = self._positions(usable, item, kept)
        self._weight[usable] = kept
        known = category != NO_CODE
        self._make_views(usable[known], category[known])
        again = (items.n_days[usable] >= REPEAT_DAYS) & (kept > 0)
        for row, place, n_kept in zip(usable[again], item[again], kept[again], strict=True):
            self._repeat(int(row), int(place), int(n_kept))

    def _make_views(self, rows: IntArray, category: IntArray) -> None:
        view_day, mask = self.items.view_day[rows], self.items.view_mask[rows]
        self._view_day[rows], self._view_mask[rows] = view_day, mask
        row, back = np.nonzero((mask[:, None] >> _BACK) & 1)
        day = view_day[row].astype(np.int64) - back
        n = max(len(self.columns.categories), 1)
        cells, views = np.unique(day * n + category[row], return_counts=True)
        days, places = (cells // n).tolist(), (cells % n).tolist()
        self._on = Counter(dict(zip(zip(days, places, strict=True), views.tolist(), strict=True)))
        self._items_on = Counter(day.tolist())
        self._categories_on = Counter(days)


@dataclass(frozen=True, kw_only=True, eq=False)
class PersonReading(Reading):
    """The state of one person at one moment, with the sums over their items.

    Attributes:
        sums: Up to date with the items.
    """

    sums: ItemSums

    def in_window(self, days: int) -> IntArray:
        """int64[1, N_COUNTS], see `Reading.in_window`."""
        windows: dict[int, IntArray] = self.__dict__["_windows"]
        if days not in windows:
            daily = self.counts.daily[0, self._places(days)]
            windows[days] = np.add.reduce(daily, axis=0, dtype=np.int64)[None]
        return windows[days]

    def age_s(self, subkinds: Sequence[int]) -> FloatArray:
        """float64[1], see `Reading.age_s`."""
        last = max([self._last_s[subkind] for subkind in subkinds])
        return np.array([np.nan if last < 0 else max(float(self.now_s[0]) - last, 0.0)])

    def on_days_without(self, subkind: int, without: Sequence[int], days: int) -> IntArray:
        """int64[1], see `Reading.on_days_without`."""
        daily = self.counts.daily[0, self._places(days)].tolist()
        stalled = [day[subkind] for day in daily if not any(day[other] for other in without)]
        return np.array([sum(stalled)], np.int64)

    @cached_property
    def category_shares(self) -> FloatArray:
        """float64[1, K], see `Reading.category_shares`."""
        return _shares(self.sums.of_category)

    @cached_property
    def brand_shares(self) -> FloatArray:
        """float64[1, B], see `Reading.brand_shares`."""
        return _shares(self.sums.of_brand)

    @cached_property
    def price_position(self) -> FloatArray:
        """float64[1], see `Reading.price_position`."""
        return self.sums.mean_price_position()

    def comparisons(self, days: int) -> IntArray:
        """int64[1], see `Reading.comparisons`."""
        return np.array([self.sums.comparisons(int(self.today[0]) - days + 1, days)], np.int64)

    @cached_property
    def replenishment(self) -> Replenishment:
        """See `Reading.replenishment`."""
        rows, cycle, last_day = self.sums.repeated()
        due = np.maximum(self.today[0] - last_day, 0) / cycle
        alive = due <= LAPSED_AFTER
        return Replenishment(
            owners=np.zeros(int(np.count_nonzero(alive)), np.int64),
            rows=rows[alive],
            cycle_days=cycle[alive],
            last_day=last_day[alive],
            due=due[alive],
        )

    @cached_property
    def most_due(self) -> tuple[FloatArray, FloatArray]:
        """float64[1] twice, see `Reading.most_due`."""
        repeated = self.replenishment
        if not len(repeated.due):
            return np.array([np.nan]), np.array([np.nan])
        due = repeated.due.max()
        return np.array([due]), np.array([repeated.cycle_days[repeated.due == due].min()])

    @cached_property
    def _last_s(self) -> list[float]:
        last_s: list[float] = self.counts.last_s[0].tolist()
        return last_s

    def _places(self, days: int) -> list[int]:
        """The places in the ring of the days of a window."""
        today, newest = int(self.today[0]), int(self.counts.newest[0])
        if newest < 0:
            return []
        first = max(today - days, newest - RING_DAYS) + 1
        return [day % RING_DAYS for day in range(first, min(today, newest) + 1)]


def _days(view_day: int, mask: int) -> set[int]:
    return {view_day - back for back in range(mask.bit_length()) if mask >> back & 1}


def _summed(codes: IntArray, interest: IntArray, n: int) -> FloatArray:
    known = codes != NO_CODE
    weights = interest[known].astype(np.float64)
    return np.bincount(codes[known], weights=weights, minlength=n).astype(np.float64, copy=False)


def _shares(totals: FloatArray) -> FloatArray:
    row = totals[None]
    shares: FloatArray = row / np.maximum(row.sum(axis=1, keepdims=True), 1.0)
    return shares
