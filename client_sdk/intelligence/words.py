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
4. Items added later (`ItemWords.extended`) are read with the words and weights that are there:
   nothing changes for the items before them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.history import IndexArray
from client_sdk.wire.release import Item
from client_sdk.wire.table import FloatArray

_WORD: Final = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemWords:
    """The words of every item, as rows of a sparse matrix.

    Attributes:
        starts: intp[n + 1], where each item's words begin; every item has at least one entry.
        words: intp[e], word numbers; entries of an item without words have value 0.
        values: float32[e] >= 0; the values of an item have L2 norm 1, or 0 without words.
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
        """Give the words of these items and, after them, of more items; see rule 4."""
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

    def affinity(self, items: IndexArray, weights: FloatArray) -> FloatArray:
        """Say how much a person leans to each item by its words.

        Args:
            items: int32[m], the person's items.
            weights: float32[m] > 0, what each counts.

        Returns:
            float32[n] in [0, 1]; zeros for an empty history.
        """
        if not len(items):
            return np.zeros(self.n_items, np.float32)
        taste = self._taste(items, weights)
        entries = taste.take(self.words)
        entries *= self.values
        scores: FloatArray = np.add.reduceat(entries, self.starts[:-1])
        return scores

    def affinity_of(
        self, wanted: npt.NDArray[np.intp], items: IndexArray, weights: FloatArray
    ) -> FloatArray:
        """Give the entries of `affinity` for some items only: float32[len(wanted)]."""
        scores = np.zeros(len(wanted), np.float32)
        if not len(items):
            return scores
        entries, owner = self.entries(wanted)
        taste = self._taste(items, weights)
        np.add.at(scores, owner, taste[self.words[entries]] * self.values[entries])
        return scores

    def cosines(self, items: IndexArray, item: int) -> FloatArray:
        """Give z_i z_j of each listed item with one item: float32[len(items)] in [0, 1]."""
        own = slice(int(self.starts[item]), int(self.starts[item + 1]))
        target = np.zeros(self.n_words, np.float32)
        target[self.words[own]] = self.values[own]
        entries, owner = self.entries(items.astype(np.intp))
        cosines = np.zeros(len(items), np.float32)
        np.add.at(cosines, owner, target[self.words[entries]] * self.values[entries])
        return cosines

    def _taste(self, items: IndexArray, weights: FloatArray) -> FloatArray:
        """Give the weighted mean of the items' word vectors: float32[n_words]."""
        entries, owner = self.entries(items.astype(np.intp))
        taste = np.zeros(self.n_words, np.float64)
        np.add.at(taste, self.words[entries], weights[owner] * self.values[entries])
        mean: FloatArray = (taste / weights.sum(dtype=np.float64)).astype(np.float32)
        return mean

    def entries(
        self, items: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Give the entries of some items, and for each entry the place of its item in the list."""
        lengths = self.starts[items + 1] - self.starts[items]
        owner = np.repeat(np.arange(len(items)), lengths)
        before = np.repeat(np.cumsum(lengths) - lengths, lengths)
        entries = np.arange(len(owner)) - before + np.repeat(self.starts[items], lengths)
        return entries, owner


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
    return np.array(starts, np.intp), np.array(words, np.intp), np.array(values, np.float32)
