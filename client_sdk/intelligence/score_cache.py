"""The scores of one person for a whole catalogue, kept in memory until something changes.

Rules a reader can check line by line:

1. The answer is bit by bit that of `score_all`: what is kept is used again only where it is the
   same (`same_taste`), and the words are brought up to date exactly (`ItemWords.move`). After an
   event the one product with the whole table is made anew; it cannot be had for less, as every
   score depends on the norm of the history.
2. It is private, as the history is, and lies nowhere but in memory. `ScoreCache.forget` drops it:
   whoever owns one calls that when consent ends.
3. Another release, catalogue or settings is another table, and begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History, same_taste, taste_weights
from client_sdk.intelligence.ranker import check_catalogue, score_into, solve_private_vector
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire.table import FloatArray, RankerTable

_SumArray = npt.NDArray[np.float64]


@dataclass(kw_only=True, slots=True, eq=False)
class _Kept:
    """What is kept for one person and one catalogue."""

    table: RankerTable
    categories: ItemCategories | None
    words: ItemWords | None
    history: History | None
    scores: FloatArray
    spare: FloatArray
    leaning: _SumArray
    taste: _SumArray

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.scores, self.spare, self.leaning, self.taste


class ScoreCache:
    """Scores a catalogue for one person, again and again.

    Example:
        >>> table = RankerTable.without_model(3)
        >>> history = History.from_events(items=[2], times_s=[0.0], now_s=0.0)
        >>> cache = ScoreCache()
        >>> scores = cache.scores(table, history)
        >>> scores.tolist(), cache.scores(table, history.at(60.0)) is scores
        ([0.0, 0.0, 1.0], True)
        >>> cache.forget()
        >>> cache.n_bytes
        0
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    @property
    def n_bytes(self) -> int:
        """How much memory the kept scores take: 16 an item and 8 a word of the catalogue."""
        return 0 if self._kept is None else sum(array.nbytes for array in self._kept.arrays())

    def scores(
        self,
        table: RankerTable,
        history: History,
        categories: ItemCategories | None = None,
        *,
        words: ItemWords | None = None,
    ) -> FloatArray:
        """Give what `score_all` gives under the table's own settings.

        Args:
            table: the release.
            history: what the person did.
            categories: the catalogue's categories.
            words: the words of the catalogue's names.

        Returns:
            float32[n]; read it, don't change it, and not after the next call.

        Raises:
            ValueError: when the history or the catalogue does not fit the table.
        """
        kept = self._kept
        if (
            kept is None
            or kept.table is not table
            or kept.categories is not categories
            or kept.words is not words
        ):
            kept = self._kept = _empty(table, categories, words)
        if kept.history is None or not same_taste(kept.history, history):
            vector = solve_private_vector(table, history)
            # Where anything below fails, nothing half done is kept.
            self._kept = None
            score_into(
                table,
                table.settings,
                vector,
                history,
                categories=categories,
                leaning=_leaning(kept, history),
                scores=kept.scores,
                spare=kept.spare,
            )
            kept.history, self._kept = history, kept
        return kept.scores

    def forget(self) -> None:
        """Drop everything."""
        self._kept = None


def _empty(table: RankerTable, categories: ItemCategories | None, words: ItemWords | None) -> _Kept:
    check_catalogue(table, categories, words)
    spoken = words if table.settings.word_weight else None
    n = table.n_items
    return _Kept(
        table=table,
        categories=categories,
        words=words,
        history=None,
        scores=np.zeros(n, np.float32),
        spare=np.zeros(n, np.float32),
        leaning=np.zeros(0 if spoken is None else n),
        taste=np.zeros(0 if spoken is None else spoken.n_words),
    )


def _leaning(kept: _Kept, history: History) -> _SumArray | None:
    """Bring what the words say up to date; None where they say nothing."""
    if kept.words is None or not len(kept.taste) or not len(history):
        return None
    weights = taste_weights(history, half_life_days=kept.table.settings.own_half_life_days)
    taste = kept.words.taste(history.items, weights)
    kept.words.move(kept.leaning, kept.taste, taste)
    kept.taste = taste
    return kept.leaning
