"""Vectors for items that nobody had yet: from what describes an item to what people taught of it.

A table says nothing of an item that is new, or that few people had. Its category, its words, its
brand, its tags and its attributes do: other items share them, and of those something was learned.
Rules a reader can check line by line:

1. A learned row stays as it is, bit by bit. A row is learned where its squared norm is more than
   1e-12 of the largest one.
2. An item's attributes a are its category and its words (see `words`), as far as at least two
   items share them: the ``columns`` most frequent ones. One that n_c of n items share weighs
   sqrt(log(n / n_c)); a has L2 norm 1, or is 0 where nothing known describes the item.
3. W minimises sum_i |a_i W - f_i|^2 + ridge |W|^2 over the learned rows: an attribute-to-factor
   map (Gantner, Drumond, Freudenthaler, Rendle, Schmidt-Thieme 2010). The guess is a W times a
   strength, never longer than the longest learned row.
4. The strength is ``strength`` where nobody was counted with the item (popularity 0), and
   ``counted_strength`` where some were and still nothing was learned: such an item is known to be
   rare, and a guess as long as an average item's would put it too high.
5. Where learned rows carry a self weight (EASE's form), so do guesses: self weight |f|^2 and
   scale 1 / (1 - |f|^2). Else 0 and 1. So a guess is a row like any other: bought, it speaks for
   other items too. Whose history holds learned items only, for them learned items score as before.
6. Only the release and the catalogue are read, and nothing of a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire.table import FloatArray, RankerTable

RowArray = npt.NDArray[np.intp]

_LEARNED: Final = 1e-12
_UNKNOWN: Final = -1
# 4,096 x 512 floats: 8 MiB at a time, whatever the size of the catalogue.
_BLOCK: Final = 4_096
_LARGEST_SELF_WEIGHT: Final = 0.999


@dataclass(frozen=True, kw_only=True)
class HybridSettings:
    """How guesses are made. The defaults were chosen on validation: `benchmarks.cold_items`.

    Attributes:
        columns: the most attributes that count, >= 1.
        ridge: penalty of the map, > 0.
        strength: of a guess for an item that nobody was counted with, >= 0; 0 makes no guess.
        counted_strength: of a guess for an item that was counted, but not learned, >= 0.
    """

    columns: int = 512
    ridge: float = 3.0
    strength: float = 1.0
    counted_strength: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what can't be a setting."""
        if self.columns < 1:
            raise ValueError(f"columns must be >= 1, got {self.columns}")
        if not 0 < self.ridge < np.inf:
            raise ValueError(f"ridge must be a number > 0, got {self.ridge}")
        for name in ("strength", "counted_strength"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} must be a number >= 0, got {value}")


DEFAULT_HYBRID: Final = HybridSettings()


@dataclass(frozen=True, kw_only=True, eq=False)
class AttributeMap:
    """What each attribute says about an item's factors; make one with `fit_attribute_map`.

    Attributes:
        word_columns: intp[w], the column of each word of the catalogue; -1 for none.
        category_columns: intp[g], the column of each category; -1 for none.
        rarity: float32[c] > 0, the weight of each column before the norm is taken.
        factors: float32[c, r], the map W.
    """

    word_columns: RowArray
    category_columns: RowArray
    rarity: FloatArray
    factors: FloatArray

    def guess(self, rows: RowArray, categories: ItemCategories, words: ItemWords) -> FloatArray:
        """Give a W for some items.

        Args:
            rows: intp[m], which items of ``categories`` and ``words``.
            categories: of the catalogue of the map, or extended ones of it.
            words: of the catalogue of the map, or extended ones of it.

        Returns:
            float32[m, r]; zeros where nothing known describes an item.
        """
        guesses = np.zeros((len(rows), self.factors.shape[1]), np.float32)
        for block in _blocks(len(rows)):
            attributes = self.attributes(rows[block], categories, words)
            np.matmul(attributes, self.factors, out=guesses[block])
        return guesses

    def attributes(
        self, rows: RowArray, categories: ItemCategories, words: ItemWords
    ) -> FloatArray:
        """Give a of some items: float32[m, c], rows of L2 norm 1 or 0."""
        dense = np.zeros((len(rows), len(self.rarity)), np.float32)
        entries, owner = words.entries(rows)
        # An item without words has one entry, of value 0, so that every item has one.
        said = words.values[entries] > 0
        column, owner = self.word_columns[words.words[entries[said]]], owner[said]
        known = column != _UNKNOWN
        dense[owner[known], column[known]] = self.rarity[column[known]]
        codes = categories.codes[rows]
        named = np.flatnonzero(codes < len(self.category_columns))
        column = self.category_columns[codes[named]]
        named, column = named[column != _UNKNOWN], column[column != _UNKNOWN]
        dense[named, column] = self.rarity[column]
        norms = np.sqrt(np.einsum("mc,mc->m", dense, dense))
        dense /= np.where(norms > 0, norms, 1.0)[:, None]
        return dense


def learned_rows(table: RankerTable) -> npt.NDArray[np.bool_]:
    """Say of which items the table says something: bool[n]; see rule 1."""
    squares = np.einsum("nr,nr->n", table.factors, table.factors)
    known: npt.NDArray[np.bool_] = squares > _LEARNED * squares.max(initial=0.0)
    return known


def fit_attribute_map(
    table: RankerTable,
    categories: ItemCategories,
    words: ItemWords,
    settings: HybridSettings = DEFAULT_HYBRID,
) -> AttributeMap:
    """Learn on the device what attributes say about factors: 0.3 s for 50,000 items of rank 128.

    Args:
        table: the release.
        categories: of the release's catalogue.
        words: of the release's catalogue.
        settings: how.

    Returns:
        The map; zeros where the table has no learned row.
    """
    mapped = _columns(categories, words, settings.columns, rank=table.rank)
    rows = np.flatnonzero(learned_rows(table))
    count = len(mapped.rarity)
    gram, target = np.zeros((count, count)), np.zeros((count, table.rank))
    for block in _blocks(len(rows)):
        attributes = mapped.attributes(rows[block], categories, words)
        gram += attributes.T @ attributes
        target += attributes.T @ table.factors[rows[block]]
    gram[np.diag_indices_from(gram)] += settings.ridge
    factors = np.linalg.solve(gram, target).astype(np.float32)
    return AttributeMap(
        word_columns=mapped.word_columns,
        category_columns=mapped.category_columns,
        rarity=mapped.rarity,
        factors=factors,
    )


def complete_table(
    table: RankerTable,
    mapped: AttributeMap,
    categories: ItemCategories,
    words: ItemWords,
    settings: HybridSettings = DEFAULT_HYBRID,
) -> RankerTable:
    """Give the table with a guess for every item of which nothing was learned.

    Args:
        table: the release, of n items.
        mapped: from `fit_attribute_map`.
        categories: of the release's catalogue, or extended by a items.
        words: of the same items.
        settings: how strong guesses are.

    Returns:
        A table of n + a items; the same table where everything was learned and nothing added.

    Example:
        >>> table = RankerTable.from_arrays(factors=[[0.5], [0.5], [0.0]])
        >>> kinds = ItemCategories.from_names(["tea", "tea", "tea"])
        >>> names = ItemWords.from_names(["green tea", "green mug", "green cup"])
        >>> mapped = fit_attribute_map(table, kinds, names)
        >>> complete_table(table, mapped, kinds, names).factors[:2, 0].tolist()
        [0.5, 0.5]
    """
    total, released = words.n_items, table.n_items
    if len(categories.codes) != total or total < released:
        raise ValueError(
            f"categories and words must name the same items, at least {released}; "
            f"got {len(categories.codes)} and {total}"
        )
    learned = learned_rows(table)
    rows = np.flatnonzero(~np.pad(learned, (0, total - released)))
    if not len(rows) or (not table.rank and total == released):
        return table
    factors = _longer(table.factors, total)
    popularity = _longer(table.popularity, total)
    self_weight = _longer(table.self_weight, total)
    scale = _longer(table.scale, total, neutral=1.0)
    if table.rank:
        guesses = mapped.guess(rows, categories, words)
        guesses *= np.where(popularity[rows] > 0, settings.counted_strength, settings.strength)[
            :, None
        ].astype(np.float32)
        squares = np.einsum("mr,mr->m", guesses, guesses)
        most = np.einsum("nr,nr->n", table.factors, table.factors).max(initial=0.0)
        most = min(float(most), _LARGEST_SELF_WEIGHT)
        guesses *= np.sqrt(np.minimum(1.0, most / np.maximum(squares, 1e-30)))[:, None]
        factors[rows] = guesses
        if table.self_weight.any():
            self_weight[rows] = np.minimum(squares, most)
            scale[rows] = 1.0 / (1.0 - self_weight[rows])
    columns = (factors, self_weight, scale, popularity)
    for column in columns:
        column.setflags(write=False)
    return RankerTable(
        factors=factors,
        self_weight=self_weight,
        scale=scale,
        bias=_longer(table.bias, total),
        popularity=popularity,
        settings=table.settings,
    )


def _columns(categories: ItemCategories, words: ItemWords, most: int, *, rank: int) -> AttributeMap:
    """Choose the columns and weigh them; the map itself is still zeros."""
    n_items = words.n_items
    of_words = np.bincount(words.words[words.values > 0], minlength=len(words.names))
    # "No category" says nothing: as if no item shared it.
    of_categories = categories.sizes * np.array([name != "" for name in categories.names], bool)
    frequency = np.concatenate([of_words, of_categories]).astype(np.float64)
    shared = np.flatnonzero((frequency >= 2) & (frequency < n_items))
    chosen = shared[np.argsort(-frequency[shared], kind="stable")][:most]
    column = np.full(len(frequency), _UNKNOWN, np.intp)
    column[chosen] = np.arange(len(chosen))
    return AttributeMap(
        word_columns=column[: len(of_words)],
        category_columns=column[len(of_words) :],
        rarity=np.sqrt(np.log(n_items / frequency[chosen])).astype(np.float32),
        factors=np.zeros((len(chosen), rank), np.float32),
    )


def _blocks(count: int) -> Iterator[slice]:
    """Cut a list of rows into blocks."""
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def _longer(column: FloatArray, total: int, *, neutral: float = 0.0) -> FloatArray:
    """Copy a column of the table, with neutral values for what comes after it."""
    longer = np.full((total, *column.shape[1:]), neutral, np.float32)
    longer[: len(column)] = column
    return longer
