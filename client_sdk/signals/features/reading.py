"""Reading: the state of P people at one moment, and the sums that features are made of.

Rules a reader can check line by line:

1. Nothing here changes the state. Everything is one array operation over people, or over rows of
   items, so one person and many take the same path.
2. A window of d days is today (UTC) and the d - 1 days before it; a time after the moment counts as
   now, a day after today is in no window.
3. Items that the catalogue does not have, or hides, are in no feature that looks at items.
4. An item is bought again and again if it was kept and bought on at least 3 days. Its cycle is the
   median gap of the kept purchase days. It is due by (days since the last one) / cycle; above
   `LAPSED_AFTER` cycles the habit counts as ended and the item is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from client_sdk.signals.features.catalogue import NO_CODE, CatalogueColumns
from client_sdk.signals.features.columns import DAY_S, FloatArray, IntArray
from client_sdk.signals.features.context import Context
from client_sdk.signals.features.counts import Counts
from client_sdk.signals.features.items import MAX_PURCHASE_DAYS, ItemTable
from client_sdk.signals.features.subkinds import CARTS, VIEWS

LAPSED_AFTER: Final = 3.0
REPEAT_DAYS: Final = 3
_NO_GAP: Final = np.iinfo(np.int32).max
# Ten times the ranker's weights of a purchase, a cart and a view: whole numbers add up exactly.
PURCHASE_TENTHS: Final = 10
CART_TENTHS: Final = 6
VIEW_TENTHS: Final = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Replenishment:
    """Items that are bought again and again, by person, then by row.

    Attributes:
        owners: int64[m], the person.
        rows: int64[m], the row of the catalogue.
        cycle_days: float64[m], the median gap, 1 or more.
        last_day: int64[m], the latest purchase day, days since 1970 (UTC).
        due: float64[m], days since then in cycles, from 0 to `LAPSED_AFTER`.
    """

    owners: IntArray
    rows: IntArray
    cycle_days: FloatArray
    last_day: IntArray
    due: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """The state of P people at one moment.

    Attributes:
        counts: Of the P people.
        items: Rows of items of all of them.
        owners: int64[n], the person of each row of ``items``.
        item_rows: int64[n], the catalogue's row of each row of ``items``; -1 for none.
        catalogue: The items that can be looked at.
        now_s: float64[P], the moment of each person, seconds since 1970 (UTC).
        contexts: One for each person, or one for all.
    """

    counts: Counts
    items: ItemTable
    owners: IntArray
    item_rows: IntArray
    catalogue: CatalogueColumns
    now_s: FloatArray
    contexts: Sequence[Context]

    def __post_init__(self) -> None:
        n = (len(self.items),)
        if self.owners.shape != n or self.item_rows.shape != n:
            raise ValueError("owners and item_rows: expected one number for each row of items")
        if self.now_s.shape != (self.n_people,) or not np.isfinite(self.now_s).all():
            raise ValueError("now_s: expected finite seconds since 1970, one for each person")
        if len(self.contexts) not in (1, self.n_people):
            raise ValueError("contexts: expected one for each person, or one for all")
        # The windows of one reading, each summed once.
        object.__setattr__(self, "_windows", {})

    @property
    def n_people(self) -> int:
        """P."""
        return len(self.counts.newest)

    @cached_property
    def today(self) -> IntArray:
        """int64[P]: the calendar day (UTC), days since 1970."""
        return (self.now_s // DAY_S).astype(np.int64)

    def in_window(self, days: int) -> IntArray:
        """int64[P, N_COUNTS]: the counts of a window."""
        windows: dict[int, IntArray] = self.__dict__["_windows"]
        if days not in windows:
            inside = self.counts.in_window(days, self.today)
            windows[days] = np.einsum(
                "pr,prc->pc", inside.astype(np.int64), self.counts.daily, dtype=np.int64
            )
        return windows[days]

    def age_s(self, subkinds: Sequence[int]) -> FloatArray:
        """float64[P]: seconds since the latest event of some subkinds; NaN for never."""
        last = self.counts.last_s[:, list(subkinds)].max(axis=1)
        return np.where(last < 0, np.nan, np.maximum(self.now_s - last, 0.0))

    def on_days_without(self, subkind: int, without: Sequence[int], days: int) -> IntArray:
        """int64[P]: events of a subkind in a window, on days that had none of others."""
        inside = self.counts.in_window(days, self.today)
        daily = self.counts.daily
        counted = inside & (daily[:, :, list(without)].sum(axis=2) == 0)
        stalled: IntArray = np.where(counted, daily[:, :, subkind], 0).sum(axis=1, dtype=np.int64)
        return stalled

    @cached_property
    def usable(self) -> IntArray:
        """int64[u]: the rows of items that the catalogue has and does not hide."""
        known = np.flatnonzero(self.item_rows >= 0)
        return known[~self.catalogue.hidden[self.item_rows[known]]]

    @cached_property
    def category_shares(self) -> FloatArray:
        """float64[P, K]: each category's share of the interest; zeros where there is none."""
        return self._shares(self.catalogue.category, len(self.catalogue.categories))

    @cached_property
    def brand_shares(self) -> FloatArray:
        """float64[P, B]: each brand's share of the interest; zeros where there is none."""
        return self._shares(self.catalogue.brand, len(self.catalogue.brands))

    @cached_property
    def price_position(self) -> FloatArray:
        """float64[P]: the mean position of the prices of what was bought and kept; NaN for none."""
        kept = self.items.kept()
        rows = self.usable[kept[self.usable] > 0]
        item = self.item_rows[rows]
        paid = self.items.mean_price(rows)
        price = np.where(np.isnan(paid), self.catalogue.price[item], paid)
        position = self.catalogue.price_positions(self.catalogue.category[item], price)
        known = ~np.isnan(position)
        weight = kept[rows[known]]
        owners = self.owners[rows[known]]
        total = np.bincount(owners, weights=weight, minlength=self.n_people)
        summed = np.bincount(owners, weights=weight * position[known], minlength=self.n_people)
        mean = np.full(self.n_people, np.nan)
        np.divide(summed, total, out=mean, where=total > 0)
        return mean

    def comparisons(self, days: int) -> IntArray:
        """int64[P]: for each day of a window, different items viewed less different categories."""
        first = self.today[self.owners] - days + 1
        recent = self.usable[(self.items.view_day[: len(first)] >= first)[self.usable]]
        category = self.catalogue.category[self.item_rows[recent]]
        recent, category = recent[category != NO_CODE], category[category != NO_CODE]
        window = first[recent, None] + np.arange(days)
        view, day = np.nonzero(self.items.viewed_on(recent, window))
        owner, category = self.owners[recent][view], category[view]
        place = (owner * len(self.catalogue.categories) + category) * days + day
        _, each = np.unique(place, return_index=True)
        items = np.bincount(owner, minlength=self.n_people)
        return items - np.bincount(owner[each], minlength=self.n_people)

    @cached_property
    def replenishment(self) -> Replenishment:
        """The items that are bought again and again."""
        items = self.items
        rows = self.usable[items.n_days[self.usable] >= REPEAT_DAYS]
        rows = rows[items.kept()[rows] > 0]
        rows = rows[np.lexsort((self.item_rows[rows], self.owners[rows]))]
        n_days = items.n_days[rows].astype(np.int64)
        gaps = np.diff(items.days[rows], axis=1)
        gaps[np.arange(1, MAX_PURCHASE_DAYS) >= n_days[:, None]] = _NO_GAP
        gaps.sort(axis=1)
        each, n_gaps = np.arange(len(rows)), n_days - 1
        middle = gaps[each, (n_gaps - 1) // 2], gaps[each, n_gaps // 2]
        cycle = (middle[0].astype(np.float64) + middle[1]) / 2.0
        last_day = items.days[rows, n_days - 1].astype(np.int64)
        due = np.maximum(self.today[self.owners[rows]] - last_day, 0) / cycle
        alive = due <= LAPSED_AFTER
        return Replenishment(
            owners=self.owners[rows[alive]],
            rows=self.item_rows[rows[alive]],
            cycle_days=cycle[alive],
            last_day=last_day[alive],
            due=due[alive],
        )

    @cached_property
    def most_due(self) -> tuple[FloatArray, FloatArray]:
        """float64[P] twice: the largest due, and its cycle (the shortest of equals); NaN: none."""
        repeated = self.replenishment
        due = np.full(self.n_people, -np.inf)
        np.maximum.at(due, repeated.owners, repeated.due)
        first = repeated.due == due[repeated.owners]
        cycle = np.full(self.n_people, np.inf)
        np.minimum.at(cycle, repeated.owners[first], repeated.cycle_days[first])
        none = np.isinf(due)
        return np.where(none, np.nan, due), np.where(none, np.nan, cycle)

    def _shares(self, code: IntArray, n: int) -> FloatArray:
        rows = self.usable
        codes = code[self.item_rows[rows]]
        rows, codes = rows[codes != NO_CODE], codes[codes != NO_CODE]
        counts = self.items.counts
        interest = PURCHASE_TENTHS * self.items.kept()[rows]
        interest += CART_TENTHS * counts[rows, CARTS] + VIEW_TENTHS * counts[rows, VIEWS]
        size = self.n_people * n
        place = self.owners[rows] * n + codes
        summed = np.bincount(place, weights=interest.astype(np.float64), minlength=size)
        totals = summed[:size].reshape(self.n_people, n)
        shares: FloatArray = totals / np.maximum(totals.sum(axis=1, keepdims=True), 1.0)
        return shares
