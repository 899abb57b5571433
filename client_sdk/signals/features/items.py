"""Items: what was done with each item, as one row of columns; for one person or many.

Rules a reader can check line by line:

1. A row is one item of one person. Counts add up, times are the latest (or the first), so the order
   of the events does not matter.
2. Days are calendar days (UTC). Of the purchases at most the 32 latest different days are kept, of
   the views which of the 32 days up to the latest view had one.
3. Prices are summed in whole 1/10,000 of the currency, so the sum is exact below 9e11 in all.
4. A return changes the count of returns and nothing else.
5. `ItemTable.add` is `ItemTable.fold` of one event; a test holds them equal bit for bit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.signals.features.columns import (
    DAY_S,
    BoolArray,
    EventColumns,
    FloatArray,
    IntArray,
)
from client_sdk.signals.features.subkinds import ITEM_COLUMN, PURCHASES, RETURNS, VIEWS

MAX_PURCHASE_DAYS: Final = 32
VIEW_DAYS: Final = 32
PRICE_UNITS: Final = 10_000.0
NEVER_S: Final = -1.0
NO_DAY: Final = -1

# Name, type, width and the value of a row that nothing happened to.
_LAYOUT: Final = (
    ("counts", np.dtype("<i4"), 4, 0),
    ("last_s", np.dtype("<f8"), 0, NEVER_S),
    ("first_purchase_s", np.dtype("<f8"), 0, NEVER_S),
    ("last_purchase_s", np.dtype("<f8"), 0, NEVER_S),
    ("paid", np.dtype("<f8"), 0, 0.0),
    ("n_priced", np.dtype("<i4"), 0, 0),
    ("view_day", np.dtype("<i4"), 0, NO_DAY),
    ("view_mask", np.dtype("<u4"), 0, 0),
    ("n_days", np.dtype("<i4"), 0, 0),
)
_DAY_TYPE: Final = np.dtype("<i4")
_FIRST_CAPACITY: Final = 64


class ItemTable:
    """Rows of what was done with items; it grows as rows come.

    Attributes (the first `len` rows of each are in use):
        counts: int32[n, 4], purchases, returns, carts, views.
        last_s: float64[n], the latest event that is no return; -1 for never.
        first_purchase_s: float64[n], -1 for never.
        last_purchase_s: float64[n], -1 for never.
        paid: float64[n], the sum of known prices of one piece, in 1/10,000 of the currency.
        n_priced: int32[n], how many purchases had a known price.
        view_day: int32[n], the day of the latest view; -1 for never.
        view_mask: uint32[n], bit b: there was a view b days before ``view_day``.
        n_days: int32[n], how many purchase days are kept.
        days: int32[n, 32], those days, the earliest first, then -1.
    """

    counts: npt.NDArray[np.int32]
    last_s: FloatArray
    first_purchase_s: FloatArray
    last_purchase_s: FloatArray
    paid: FloatArray
    n_priced: npt.NDArray[np.int32]
    view_day: npt.NDArray[np.int32]
    view_mask: npt.NDArray[np.uint32]
    n_days: npt.NDArray[np.int32]
    days: npt.NDArray[np.int32]

    def __init__(self, n_rows: int = 0) -> None:
        self._n = 0
        self._capacity = 0
        self._touched: set[int] | None = None
        self.grow(n_rows)

    def __len__(self) -> int:
        """The number of rows in use."""
        return self._n

    def grow(self, n_rows: int) -> None:
        """Have at least so many rows; new ones are empty."""
        if n_rows > self._capacity or not self._capacity:
            capacity = max(n_rows, 2 * self._capacity, _FIRST_CAPACITY)
            for name, dtype, width, empty in (*_LAYOUT, _DAYS):
                shape = (capacity, width) if width else (capacity,)
                array = np.full(shape, empty, dtype)
                if self._n:
                    array[: self._n] = getattr(self, name)[: self._n]
                setattr(self, name, array)
            self._capacity = capacity
        self._n = max(self._n, n_rows)

    def add(self, row: int, *, column: int, time_s: float, price: float | None) -> None:
        """Count one event.

        Args:
            row: Below `len`.
            column: `PURCHASES`, `RETURNS`, `CARTS` or `VIEWS`.
            time_s: Seconds since 1970 (UTC).
            price: Of one piece, or None.
        """
        if self._touched is not None:
            self._touched.add(row)
        self.counts[row, column] += 1
        if column == RETURNS:
            return
        self.last_s[row] = max(time_s, self.last_s[row])
        if column == PURCHASES:
            self._add_purchase(row, time_s, price)
        elif column == VIEWS:
            self._add_view(row, int(time_s // DAY_S))

    def fold(self, columns: EventColumns) -> None:
        """Count many events; those without an item, or of a kind without a column, do nothing."""
        column = ITEM_COLUMN[columns.subkinds]
        chosen = (columns.rows >= 0) & (column >= 0)
        rows, column, times_s = columns.rows[chosen], column[chosen], columns.times_s[chosen]
        if not len(rows):
            return
        self._touched = None
        counts = np.bincount(rows * 4 + column, minlength=self._n * 4).reshape(self._n, 4)
        self.counts[: self._n] += counts
        lasting = column != RETURNS
        np.maximum.at(self.last_s, rows[lasting], times_s[lasting])
        days = columns.days[chosen]
        bought, viewed = column == PURCHASES, column == VIEWS
        if bought.any():
            self._fold_purchases(
                rows[bought], times_s[bought], days[bought], columns.prices[chosen][bought]
            )
        if viewed.any():
            self._fold_views(rows[viewed], days[viewed])

    def kept(self) -> IntArray:
        """int64[n]: purchases that were not returned."""
        counts = self.counts[: self._n]
        kept: IntArray = np.maximum(counts[:, PURCHASES] - counts[:, RETURNS], 0).astype(np.int64)
        return kept

    def kept_of(self, rows: IntArray) -> IntArray:
        """int64[r]: `kept` of some rows, without the others."""
        counts = self.counts[rows]
        kept: IntArray = np.maximum(counts[:, PURCHASES] - counts[:, RETURNS], 0).astype(np.int64)
        return kept

    def mean_price(self, rows: IntArray) -> FloatArray:
        """float64[r]: what was paid for one piece, whole 1/10,000 of the currency; NaN: unknown."""
        n_priced = self.n_priced[rows]
        paid = np.rint(self.paid[rows] / np.maximum(n_priced, 1))
        return np.where(n_priced > 0, paid, np.nan)

    def take_touched(self) -> set[int] | None:
        """Give the rows that changed since this was asked last; None for any of them."""
        touched, self._touched = self._touched, set()
        return touched

    def viewed_on(self, rows: IntArray, days: IntArray) -> BoolArray:
        """bool[r, d]: which of some rows had a view on which of some days, int64[r, d]."""
        back = self.view_day[rows, None] - days
        seen = (back >= 0) & (back < VIEW_DAYS)
        bit = self.view_mask[rows, None] >> np.where(seen, back, 0).astype(np.uint32)
        viewed: BoolArray = seen & ((bit & 1) == 1)
        return viewed

    def to_arrays(self, order: IntArray) -> list[npt.NDArray[Any]]:
        """Give the rows in an order, as columns; purchase days run on, without gaps."""
        arrays = [getattr(self, name)[order] for name, *_ in _LAYOUT]
        days = self.days[order]
        return [*arrays, days[days != NO_DAY]]

    @classmethod
    def from_arrays(cls, n_rows: int, arrays: list[npt.NDArray[Any]]) -> ItemTable:
        """Read what `to_arrays` gave.

        Raises:
            ValueError: the columns contradict each other.
        """
        table = cls(n_rows)
        *columns, days = arrays
        for (name, *_), column in zip(_LAYOUT, columns, strict=True):
            getattr(table, name)[:n_rows] = column
        table._check(days)
        held = np.arange(MAX_PURCHASE_DAYS) < table.n_days[:n_rows, None]
        table.days[:n_rows][held] = days
        if bool((np.diff(table.days[:n_rows], axis=1)[held[:, 1:]] <= 0).any()):
            raise ValueError("items: expected purchase days from the earliest to the latest")
        return table

    def _check(self, days: npt.NDArray[Any]) -> None:
        n = self._n
        for name in ("last_s", "first_purchase_s", "last_purchase_s", "paid"):
            column = getattr(self, name)[:n]
            low = 0.0 if name == "paid" else NEVER_S
            if not bool(((column >= low) & (column < np.inf)).all()):
                raise ValueError(f"items: expected finite numbers in {name}")
        bought = self.counts[:n, PURCHASES] > 0
        n_days = self.n_days[:n]
        consistent = (
            (self.counts[:n] >= 0).all(axis=1)
            & (self.n_priced[:n] >= 0)
            & (self.n_priced[:n] <= self.counts[:n, PURCHASES])
            & (n_days >= 0)
            & (n_days <= MAX_PURCHASE_DAYS)
            & ((n_days > 0) == bought)
            & ((self.view_mask[:n] & 1) == (self.counts[:n, VIEWS] > 0))
            & (self.view_day[:n] >= NO_DAY)
        )
        if not bool(consistent.all()):
            raise ValueError("items: expected counts and days that agree")
        if int(n_days.sum()) != len(days) or (len(days) and int(days.min()) < 0):
            raise ValueError("items: expected as many purchase days as were counted")

    def _add_purchase(self, row: int, time_s: float, price: float | None) -> None:
        first = self.first_purchase_s[row]
        if first < 0 or time_s < first:
            self.first_purchase_s[row] = time_s
        self.last_purchase_s[row] = max(time_s, self.last_purchase_s[row])
        if price is not None:
            self.paid[row] += np.rint(price * PRICE_UNITS)
            self.n_priced[row] += 1
        day, n = int(time_s // DAY_S), int(self.n_days[row])
        known = self.days[row, :n].tolist()
        if day not in known:
            known = sorted([*known, day])[-MAX_PURCHASE_DAYS:]
            self.days[row, : len(known)] = known
            self.n_days[row] = len(known)

    def _add_view(self, row: int, day: int) -> None:
        newest = int(self.view_day[row])
        mask = int(self.view_mask[row])
        if day > newest:
            mask = mask << (day - newest) if day - newest < VIEW_DAYS else 0
            self.view_day[row] = newest = day
        if newest - day < VIEW_DAYS:
            self.view_mask[row] = (mask | 1 << (newest - day)) & 0xFFFF_FFFF

    def _fold_purchases(
        self, rows: IntArray, times_s: FloatArray, days: IntArray, prices: FloatArray
    ) -> None:
        np.maximum.at(self.last_purchase_s, rows, times_s)
        first = np.where(self.first_purchase_s < 0, np.inf, self.first_purchase_s)
        np.minimum.at(first, rows, times_s)
        self.first_purchase_s[:] = np.where(np.isinf(first), NEVER_S, first)
        priced = ~np.isnan(prices)
        np.add.at(self.paid, rows[priced], np.rint(prices[priced] * PRICE_UNITS))
        np.add.at(self.n_priced, rows[priced], 1)
        touched = np.unique(rows)
        old = self.days[touched]
        held = old != NO_DAY
        pairs = np.unique(
            np.concatenate(
                [
                    _pair(rows, days),
                    _pair(np.repeat(touched, held.sum(axis=1)), old[held].astype(np.int64)),
                ]
            )
        )
        rows, days = pairs >> _DAY_BITS, pairs & ((1 << _DAY_BITS) - 1)
        start, end = (np.searchsorted(rows, rows, side) for side in ("left", "right"))
        place = np.arange(len(rows)) - np.maximum(start, end - MAX_PURCHASE_DAYS)
        latest = place >= 0
        self.days[rows[latest], place[latest]] = days[latest]
        np.maximum.at(self.n_days, rows[latest], place[latest].astype(np.int32) + 1)

    def _fold_views(self, rows: IntArray, days: IntArray) -> None:
        touched = np.unique(rows)
        before = self.view_day[touched].astype(np.int64)
        np.maximum.at(self.view_day, rows, days.astype(np.int32))
        passed = self.view_day[touched] - before
        stays = passed < VIEW_DAYS
        shift = np.where(stays, passed, 0).astype(np.uint32)
        self.view_mask[touched] = np.where(stays, self.view_mask[touched] << shift, 0)
        back = self.view_day[rows] - days
        near = back < VIEW_DAYS
        bits = np.uint32(1) << back[near].astype(np.uint32)
        np.bitwise_or.at(self.view_mask, rows[near], bits)


_DAYS: Final = ("days", _DAY_TYPE, MAX_PURCHASE_DAYS, NO_DAY)
# The year 9999 is day 2,932,896.
_DAY_BITS: Final = 22


def _pair(rows: IntArray, days: IntArray) -> IntArray:
    """One whole number for a row and a day, in the order of both."""
    return (rows << _DAY_BITS) | days


def columns_of_items(n_rows: int) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
    """The types and shapes of `ItemTable.to_arrays`, all but the purchase days."""
    return [(dtype, (n_rows, width) if width else (n_rows,)) for _, dtype, width, _ in _LAYOUT]
