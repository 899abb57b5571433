"""The catalogue as columns: what features need of items, made once for each catalogue.

Rules a reader can check line by line:

1. An item without a category (or brand) has the code -1 and is in no share.
2. An item tagged ``sensitive`` or ``sensitive:<topic>`` is as if it were not in the catalogue: it
   is in no feature that looks at items, unless the policy allows that tag by name.
3. The position of a price is the share of priced items of its category that are cheaper, equal
   ones counting half: a step function of whole 1/10,000 of the currency, so nothing depends on the
   last bit of a price.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from client_sdk.signals.features.columns import BoolArray, FloatArray, IntArray
from client_sdk.signals.features.items import PRICE_UNITS
from client_sdk.wire import Catalogue

NO_CODE: Final = -1
SENSITIVE_TAG: Final = "sensitive"
_MIN_PRICES: Final = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogueColumns:
    """What features need of I items; make it with `CatalogueColumns.of`.

    Attributes:
        item_ids: The ids, in the catalogue's order.
        categories: The names of the K categories, sorted.
        brands: The names of the B brands, sorted.
        category: int64[I], the place in ``categories``, or -1.
        brand: int64[I], the place in ``brands``, or -1.
        price: float64[I], in 1/10,000 of the currency; NaN where unknown.
        hidden: bool[I], items that no feature may look at.
        ladder: complex128[priced items]: category + price·i, sorted by both.
        starts: int64[K + 1], where the prices of each category begin in the ladder, and the end.
    """

    item_ids: tuple[str, ...]
    categories: tuple[str, ...]
    brands: tuple[str, ...]
    category: IntArray
    brand: IntArray
    price: FloatArray
    hidden: BoolArray
    ladder: npt.NDArray[np.complex128]
    starts: IntArray

    @classmethod
    def of(cls, catalogue: Catalogue, *, allowed: Collection[str] = ()) -> CatalogueColumns:
        """Make the columns of a catalogue.

        Args:
            catalogue: The items.
            allowed: Tags that a policy allows by name, such as ``"sensitive:health"``.
        """
        items = catalogue.items
        categories, category = _coded([item.category for item in items])
        brands, brand = _coded([item.brand for item in items])
        prices = [np.nan if item.price is None else item.price for item in items]
        price = np.rint(np.array(prices, np.float64) * PRICE_UNITS)
        hidden = np.array([_is_hidden(item.tags, allowed) for item in items], np.bool_)
        priced = ~np.isnan(price) & (category != NO_CODE) & ~hidden
        return cls(
            item_ids=tuple(item.item_id for item in items),
            categories=categories,
            brands=brands,
            category=category,
            brand=brand,
            price=price,
            hidden=hidden,
            ladder=np.sort(_steps(category[priced], price[priced])),
            starts=np.searchsorted(np.sort(category[priced]), np.arange(len(categories) + 1)),
        )

    def price_positions(self, category: IntArray, price: FloatArray) -> FloatArray:
        """Say where prices stand among the catalogue's prices of a category.

        Args:
            category: int64[r], codes; -1 gives NaN.
            price: float64[r], in 1/10,000 of the currency; NaN gives NaN.

        Returns:
            float64[r]: 0 for cheaper than everything, 1 for dearer than everything; NaN where the
            category has fewer than two priced items.
        """
        start, end = self.starts[category], self.starts[category + 1]
        step = _steps(category, np.where(np.isnan(price), 0.0, price))
        cheaper = np.searchsorted(self.ladder, step, "left") - start
        not_dearer = np.searchsorted(self.ladder, step, "right") - start
        many = end - start
        # A category of -1 has made numbers without meaning, which are left out below.
        position = (cheaper + not_dearer) / 2.0 / np.maximum(many, 1)
        known = (many >= _MIN_PRICES) & (category != NO_CODE) & ~np.isnan(price)
        return np.where(known, position, np.nan)


def _coded(names: Sequence[str]) -> tuple[tuple[str, ...], IntArray]:
    known = tuple(sorted(set(names) - {""}))
    code = {name: place for place, name in enumerate(known)}
    return known, np.array([code.get(name, NO_CODE) for name in names], np.int64)


def _steps(category: IntArray, price: FloatArray) -> npt.NDArray[np.complex128]:
    # Complex numbers sort by their real part, then by the other: two keys in one array.
    steps = np.empty(len(price), np.complex128)
    steps.real, steps.imag = category, price
    return steps


def _is_hidden(tags: Sequence[str], allowed: Collection[str]) -> bool:
    marks = [
        tag
        for tag in tags
        if tag.casefold() == SENSITIVE_TAG or tag.casefold().startswith(f"{SENSITIVE_TAG}:")
    ]
    return any(tag not in allowed for tag in marks)
