"""The assortment: the release's items brought up to date, and what the ranker needs of them. Pure.

Rules a reader can check line by line:

1. Rows 0 to n - 1 are the release's items in the release's order; items added since stand behind
   them. So a row of the release means the same here.
2. Of an item that nothing was learned of, the table holds a guess from what describes it
   (`intelligence.hybrid`). Learned rows are the release's.
3. A topic is a category, a brand or a tag, case folded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from client_sdk.catalogue_updates import CatalogueUpdates
from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.hybrid import (
    AttributeMap,
    complete_table,
    fit_attribute_map,
    learned_rows,
)
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire.release import Catalogue, Item
from client_sdk.wire.table import RankerTable

BoolArray = npt.NDArray[np.bool_]
RowArray = npt.NDArray[np.intp]
_NO_ROWS: Final = np.zeros(0, np.intp)


@dataclass(frozen=True, kw_only=True, eq=False)
class Assortment:
    """What can be shown; make one with `prepare`, and others from it with `bring_up_to_date`.

    Attributes:
        catalogue: The items as they are now; its SHA-256 is nobody's identity.
        position: Item id to row. The release's own object where nothing was added, so that a
            history folded for the one is folded for the other.
        released: The release's table, of the first n items.
        table: The table of all items.
        categories: Of all items.
        words: Of all items.
        withdrawn: intp[m], rows that are not to be shown.
        sold_out: intp[m], rows of stock 0.
    """

    catalogue: Catalogue
    position: Mapping[str, int]
    released: RankerTable
    table: RankerTable
    categories: ItemCategories
    words: ItemWords
    withdrawn: RowArray
    sold_out: RowArray

    @cached_property
    def unavailable(self) -> RowArray:
        """Rows that are withdrawn or sold out: intp[m], each once."""
        return np.union1d(self.withdrawn, self.sold_out)

    def hidden(self, *, in_stock_only: bool) -> RowArray:
        """Give the rows to leave out: what is withdrawn, and what is sold out unless asked for."""
        return self.unavailable if in_stock_only else self.withdrawn

    def rows_of(self, item_ids: Iterable[str]) -> RowArray:
        """Give the rows of those of the items that are here: intp[m], in the order given."""
        found = (self.position.get(item_id) for item_id in item_ids)
        return np.array([row for row in found if row is not None], np.intp)

    def about(self, topics: Iterable[str]) -> BoolArray:
        """Say which items have one of the topics: bool[n + a]."""
        found = np.zeros(len(self.catalogue.items), np.bool_)
        for topic in topics:
            found[self._about.get(topic, _NO_ROWS)] = True
        return found

    @cached_property
    def _about(self) -> Mapping[str, RowArray]:
        about: dict[str, list[int]] = defaultdict(list)
        for row, item in enumerate(self.catalogue.items):
            for topic in {name.casefold() for name in topics_of(item)}:
                about[topic].append(row)
        return {topic: np.array(rows, np.intp) for topic, rows in about.items()}


def topics_of(item: Item) -> list[str]:
    """Give an item's topics as the catalogue spells them.

    >>> topics_of(Item(item_id="1", category="Tea", tags=("Organic",)))
    ['Tea', 'Organic']
    """
    return [topic for topic in (item.category, item.brand, *item.tags) if topic]


def prepare(catalogue: Catalogue, table: RankerTable) -> Assortment:
    """Give the assortment of a release as it came.

    Args:
        catalogue: The release's.
        table: The release's, one row an item.
    """
    categories, words = _described(catalogue)
    return Assortment(
        catalogue=catalogue,
        position=catalogue.position,
        released=table,
        table=_completed(table, (categories, words), categories, words),
        categories=categories,
        words=words,
        withdrawn=_NO_ROWS,
        sold_out=_sold_out(catalogue.items),
    )


def bring_up_to_date(base: Assortment, updates: CatalogueUpdates) -> Assortment:
    """Put what changed on the assortment of a release.

    Args:
        base: From `prepare`.
        updates: What changed since the release.
    """
    added = [item for item in updates.added if item.item_id not in base.position]
    items = [*base.catalogue.items, *added]
    position = base.position
    if added:
        more = {item.item_id: row for row, item in enumerate(added, start=len(position))}
        position = {**position, **more}
    for item_id, price in updates.prices.items():
        if (row := position.get(item_id)) is not None:
            items[row] = replace(items[row], price=price)
    for item_id, pieces in updates.stock.items():
        if (row := position.get(item_id)) is not None:
            items[row] = replace(items[row], stock=pieces)
    changed = replace(
        base,
        catalogue=Catalogue(items=tuple(items)),
        position=position,
        sold_out=_sold_out(items),
    )
    if added:
        changed = _extended(changed, added)
    return replace(changed, withdrawn=np.sort(changed.rows_of(updates.withdrawn)))


def _extended(base: Assortment, added: list[Item]) -> Assortment:
    """Let the ranker know added items; nothing changes for the others."""
    categories = base.categories.extended([item.category for item in added])
    words = base.words.extended(added)
    table = _completed(base.released, (base.categories, base.words), categories, words)
    return replace(base, table=table, categories=categories, words=words)


def _completed(
    released: RankerTable,
    described: tuple[ItemCategories, ItemWords],
    categories: ItemCategories,
    words: ItemWords,
) -> RankerTable:
    """Complete the release's table; the map is fitted where there is something to guess."""
    nothing_added = words.n_items == released.n_items
    if nothing_added and (not released.rank or learned_rows(released).all()):
        return released
    return complete_table(released, _attribute_map(released, *described), categories, words)


# Pure functions of immutable values: homes of one process share one copy, as do all updates.
@lru_cache(maxsize=2)
def _described(catalogue: Catalogue) -> tuple[ItemCategories, ItemWords]:
    categories = ItemCategories.from_names([item.category for item in catalogue.items])
    return categories, ItemWords.from_items(catalogue.items)


@lru_cache(maxsize=2)
def _attribute_map(
    table: RankerTable, categories: ItemCategories, words: ItemWords
) -> AttributeMap:
    return fit_attribute_map(table, categories, words)


def _sold_out(items: Iterable[Item]) -> RowArray:
    return np.array([row for row, item in enumerate(items) if item.stock == 0], np.intp)
