"""What items are called, as numbers: an item speaks for those that share its rare words.

It needs no model and nobody else's data: it is what a device can say about items that its person
never had, from the catalogue alone. Rules a reader can check line by line:

1. A word is a run of letters, three or more, in any case, or a described fact: ``brand=``,
   ``tag=`` or ``attribute:NAME=`` and its text, in any case. It must name at least two items. So a
   catalogue of names alone has the words of its names alone.
2. A word that names n_w of n items weighs log(n / n_w); an item is the unit-norm vector z of its
   words (TF-IDF with binary counts, Salton, Buckley 1988).
3. A person with weights o over their items leans to item j by z_j (sum_i o_i z_i), divided by
   sum_i o_i: a weighted mean of cosines, in [0, 1].
4. Values of z are multiples of 2^-22, and sums over a person's items of 2^-28 of their total. So
   the products with z and their sums are exact in float64, in any order: what is brought up to
   date word by word (`ItemWords.move`) is bit by bit what is summed anew.
5. Items added later (`ItemWords.extended`) are read with the words and weights that are there:
   nothing changes for the items before them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.history import IndexArray, WeightArray
from client_sdk.wire.release import Item
from client_sdk.wire.table import FloatArray

SumArray = npt.NDArray[np.float64]

_VALUE_BITS: Final = 22
_TASTE_BITS: Final = 28
_WORD: Final = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemWords:
    """The words of every item, as rows of a sparse matrix.

    Attributes:
        starts: intp[n + 1], where each item's words begin; every item has at least one entry.
        words: intp[e], word numbers; entries of an item without words have value 0.
        values: float32[e] >= 0; the values of an item have L2 norm 1 (to 1e-6), or 0 without words.
        names: the word of each number.
        rarity: float64[w] >= 0, log(n / n_w) of each word.

    Example:
        >>> words = ItemWords.from_names(["red tea cup", "blue tea cup", "garden spade"])
        >>> one = np.ones(1, np.float32)
        >>> [round(float(v), 2) for v in words.affinity(np.array([0], np.int32), one)]
        [1.0, 1.0, 0.0]
    """

    starts: npt.NDArray[np.intp]
    words: npt.NDArray[np.intp]
    values: FloatArray
    names: tuple[str, ...]
    rarity: npt.NDArray[np.float64]

    @property
    def n_items(self) -> int:
        """The number of items in the catalogue."""
        return len(self.starts) - 1

    @property
    def n_words(self) -> int:
        """The length of a vector over all words; 1 where there is no word."""
        return max(len(self.names), 1)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ItemWords:
        """Read the words of a catalogue, given one name or description an item."""
        return cls._from_words([_words_in(name) for name in names])

    @classmethod
    def from_items(cls, items: Sequence[Item]) -> ItemWords:
        """Read the words of a catalogue: of the names, and brand, tags and attributes.

        Example:
            >>> items = [Item(item_id=i, name="Cup", brand="Acme") for i in "ab"]
            >>> ItemWords.from_items(items).names
            ('brand=acme', 'cup')
        """
        return cls._from_words([words_of(item) for item in items])

    def extended(self, items: Sequence[Item]) -> ItemWords:
        """Give the words of these items and, after them, of more items; see rule 5."""
        number = self._number
        rows = [
            [number[word] for word in sorted(words_of(item)) if word in number] for item in items
        ]
        starts, words, values = _encode(rows, self.rarity)
        return ItemWords(
            starts=np.concatenate([self.starts, self.starts[-1] + starts[1:]]),
            words=np.concatenate([self.words, words]),
            values=np.concatenate([self.values, values]),
            names=self.names,
            rarity=self.rarity,
        )

    @classmethod
    def _from_words(cls, found: Sequence[set[str]]) -> ItemWords:
        frequency = Counter(word for row in found for word in row)
        shared = sorted(word for word, items in frequency.items() if items > 1)
        number = {word: at for at, word in enumerate(shared)}
        rarity = np.log([len(found) / frequency[word] for word in shared])
        rows = [[number[word] for word in sorted(row) if word in number] for row in found]
        starts, words, values = _encode(rows, rarity)
        return cls(starts=starts, words=words, values=values, names=tuple(shared), rarity=rarity)

    @cached_property
    def _number(self) -> dict[str, int]:
        """Word to number."""
        return {word: at for at, word in enumerate(self.names)}

    def affinity(self, items: IndexArray, weights: WeightArray) -> FloatArray:
        """Say how much a person leans to each item by its words.

        Args:
            items: int32[m], the person's items.
            weights: float[m] > 0, what each counts.

        Returns:
            float32[n] in [0, 1]; zeros for an empty history.
        """
        if not len(items):
            return np.zeros(self.n_items, np.float32)
        taste = self.taste(items, weights)
        leaning: FloatArray = (self.leaning(taste) / total_of(weights)).astype(np.float32)
        return leaning

    def affinity_of(
        self, wanted: npt.NDArray[np.intp], items: IndexArray, weights: WeightArray
    ) -> FloatArray:
        """Give the entries of `affinity` for some items only: float32[len(wanted)]."""
        if not len(items):
            return np.zeros(len(wanted), np.float32)
        entries, owner = self.entries(wanted)
        taste = self.taste(items, weights)
        parts = taste[self.words[entries]] * self.values[entries]
        leaning = np.bincount(owner, parts, len(wanted)) / total_of(weights)
        scores: FloatArray = leaning.astype(np.float32)
        return scores

    def taste(self, items: IndexArray, weights: WeightArray) -> SumArray:
        """Sum the word vectors of a person's items: float64[n_words], see rule 4.

        Args:
            items: int32[m], the person's items, m >= 1.
            weights: float[m] > 0, what each counts.
        """
        entries, owner = self.entries(items.astype(np.intp))
        parts = weights[owner].astype(np.float64) * self.values[entries]
        taste = np.bincount(self.words[entries], parts, self.n_words)
        unit = math.ldexp(1.0, math.frexp(total_of(weights))[1] - _TASTE_BITS)
        return np.rint(taste / unit) * unit

    def leaning(self, taste: SumArray) -> SumArray:
        """Give z times a taste: float64[n], exact."""
        entries = taste.take(self.words)
        entries *= self.values
        leaning: SumArray = np.add.reduceat(entries, self.starts[:-1])
        return leaning

    def move(self, leaning: SumArray, before: SumArray, after: SumArray) -> None:
        """Bring `leaning` of one taste up to another, in place, at the cost of what differs.

        Args:
            leaning: float64[n], of ``before``.
            before: float64[n_words], from `taste`.
            after: float64[n_words], from `taste`.
        """
        change = after - before
        changed = np.flatnonzero(change)
        rows, values, starts = self._by_word
        if 2 * int(np.sum(starts[changed + 1] - starts[changed])) > len(rows):
            leaning[:] = self.leaning(after)
            return
        for word in changed.tolist():
            entries = slice(int(starts[word]), int(starts[word + 1]))
            # An item has a word once, so no row is here twice; this is the faster way to add.
            np.add.at(leaning, rows[entries], change[word] * values[entries])

    @cached_property
    def _by_word(self) -> tuple[IndexArray, SumArray, npt.NDArray[np.intp]]:
        """The items and values of each word, and where each word's begin."""
        present = np.flatnonzero(self.values)
        owner = np.repeat(np.arange(self.n_items, dtype=np.int32), np.diff(self.starts))
        order = present[np.argsort(self.words[present], kind="stable")]
        counts = np.bincount(self.words[order], minlength=self.n_words)
        starts = np.concatenate([np.zeros(1, np.intp), np.cumsum(counts)])
        return owner[order], self.values[order].astype(np.float64), starts

    def cosines(self, items: IndexArray, item: int) -> FloatArray:
        """Give z_i z_j of each listed item with one item: float32[len(items)] in [0, 1]."""
        return self.cosines_of(items, np.array([item], np.intp))[:, 0]

    def cosines_of(self, items: IndexArray, wanted: npt.NDArray[np.intp]) -> FloatArray:
        """Give `cosines` with each of some items: float32[len(items), len(wanted)] in [0, 1]."""
        theirs, column = self.entries(wanted)
        asked, place = np.unique(self.words[theirs], return_inverse=True)
        targets = np.zeros((len(asked), len(wanted)), np.float32)
        targets[place, column] = self.values[theirs]
        entries, owner = self.entries(items.astype(np.intp))
        said = self.words[entries]
        at = np.searchsorted(asked, said)
        shared = np.flatnonzero(asked.take(at, mode="clip") == said)
        own = np.zeros((len(items), len(asked)), np.float32)
        own[owner[shared], at[shared]] = self.values[entries[shared]]
        cosines: FloatArray = own @ targets
        return cosines

    def entries(
        self, items: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Give the entries of some items, and for each entry the place of its item in the list."""
        firsts = self.starts[items]
        lengths = self.starts[items + 1] - firsts
        owner = np.repeat(np.arange(len(items)), lengths)
        # Where an item's entries begin in the catalogue, less where they begin in the answer.
        offsets = firsts - lengths.cumsum() + lengths
        entries = offsets[owner]
        entries += np.arange(len(owner))
        return entries, owner


def total_of(weights: WeightArray) -> float:
    """Sum what a person's items count, in float64."""
    return float(weights.sum(dtype=np.float64))


def words_of(item: Item) -> set[str]:
    """Give the words of one item: of its name, and of what else describes it.

    Example:
        >>> sorted(words_of(Item(item_id="1", name="Tea cup", tags=("New",))))
        ['cup', 'tag=new', 'tea']
    """
    words = _words_in(item.name)
    if item.brand:
        words.add(f"brand={item.brand.casefold()}")
    words.update(f"tag={tag.casefold()}" for tag in item.tags)
    words.update(
        f"attribute:{name.casefold()}={text.casefold()}" for name, text in item.attributes.items()
    )
    return words


def _words_in(name: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(name)}


def _encode(
    rows: Iterable[Sequence[int]], rarity: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    """Give starts, words and values of items, each with the numbers of its words."""
    starts, words = [0], list[int]()
    values: list[float] = []
    for row in rows:
        weight = rarity[list(row)] if row else np.zeros(0)
        norm = float(np.sqrt(np.sum(weight * weight)))
        words += row or [0]
        values += (weight / norm).tolist() if norm > 0 else [0.0] * max(len(row), 1)
        starts.append(len(words))
    rounded = np.rint(np.ldexp(np.array(values, np.float64), _VALUE_BITS))
    exact = np.ldexp(rounded, -_VALUE_BITS).astype(np.float32)
    return np.array(starts, np.intp), np.array(words, np.intp), exact
