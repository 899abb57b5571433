"""The scores that many people's devices would rank by, in blocks, and where targets stand in them.

Rules a reader can check line by line:

1. A block of scores has the formula of `client_sdk.intelligence.ranker.score_all`: what a table
   taught, own frequency, categories, words and popularity, mixed by the settings' weights. Its
   floats are added in another order, so they may differ in their last digits.
2. A digit decides nothing: where a candidate comes so close to the target that rounding could put
   it on the other side (`Scores.rounding`), and the list's first places hang on it, that person is
   scored again by the device's own `score_all`, and that counts. So a rank is the device's.
3. Ties are worth their mean, as in `simulations.evaluation.metrics`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence import (
    ItemCategories,
    ItemWords,
    score_all,
    solve_many,
    solve_private_vector,
)
from client_sdk.intelligence.history import DAY_S, SESSION_GAP_S, SESSION_WEIGHT
from client_sdk.intelligence.words import total_of
from client_sdk.wire.table import RankerTable
from simulations.engines.columns import HistoryColumns
from simulations.evaluation.metrics import CUT, Standing, stand
from simulations.evaluation.split import NO_ITEM
from simulations.kernel.binding import MAX_RANK, Rows, private_vectors

_CELLS: Final = 2_000_000
# Some thirty float32 roundings of the largest term: measured 1e-6 at most on the bundled customers.
_ROUNDING: Final = 1e-5
# As in `client_sdk.intelligence.history`.
_LOWEST_EXPONENT: Final = -60.0

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranker:
    """What every device ranks with.

    Attributes:
        table: The release's, with its settings.
        categories: The catalogue's; without them that part is left out.
        words: The catalogue's; without them that part is left out.
    """

    table: RankerTable
    categories: ItemCategories | None = None
    words: ItemWords | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """A block of people's scores.

    Attributes:
        held: Their histories.
        ranker: What scored them.
        values: float32[people, n_items].
        rounding: float32[people], by how much a score may differ from the device's.
    """

    held: HistoryColumns
    ranker: Ranker
    values: FloatArray
    rounding: FloatArray

    def never_had(self) -> NDArray[np.bool_]:
        """What `discover` ranks: bool[people, n_items]."""
        candidates = np.ones(self.values.shape, np.bool_)
        candidates[_owners(self.held), self.held.items] = False
        return candidates

    def stand(
        self,
        people: NDArray[np.int64],
        targets: NDArray[np.int32],
        candidates: NDArray[np.bool_] | None = None,
    ) -> Standing:
        """Find where targets stand; see rules 2 and 3.

        Args:
            people: int64[b], rows of this block.
            targets: int32[b].
            candidates: bool[b, n_items]; the whole catalogue when left out.
        """
        return self._settled(people, self.values[people], targets, candidates, self._of_device)

    def stand_sampled(
        self,
        people: NDArray[np.int64],
        targets: NDArray[np.int32],
        negatives: NDArray[np.int32],
    ) -> Standing:
        """Find where targets stand among some negatives.

        Args:
            people: int64[b], rows of this block.
            targets: int32[b].
            negatives: int32[b, m]; `NO_ITEM` fills a row that has fewer.
        """
        columns = np.concatenate([targets[:, None], negatives], axis=1)
        chosen = np.maximum(columns, 0)
        again = dict(zip(people.tolist(), chosen, strict=True))
        return self._settled(
            people,
            self.values[people[:, None], chosen],
            np.zeros(len(people), np.int32),
            columns != NO_ITEM,
            lambda row: self._of_device(row)[again[row]],
        )

    def _settled(
        self,
        people: NDArray[np.int64],
        values: FloatArray,
        targets: NDArray[np.int32],
        candidates: NDArray[np.bool_] | None,
        of_device: Callable[[int], FloatArray],
    ) -> Standing:
        standing = stand(values, targets, candidates)
        rows = np.arange(len(people))
        wanted, rounding = values[rows, targets][:, None], self.rounding[people][:, None]
        near = np.abs(values - wanted) <= rounding
        ahead = values > wanted + rounding
        if candidates is not None:
            near &= candidates
            ahead &= candidates
        near[rows, targets] = False
        doubtful = near.any(axis=1) & (ahead.sum(axis=1) < CUT)
        for row in np.flatnonzero(doubtful):
            mine = None if candidates is None else candidates[row : row + 1]
            again = stand(of_device(int(people[row]))[None], targets[row : row + 1], mine)
            standing.ahead[row], standing.tied[row] = again.ahead[0], again.tied[0]
        return standing

    def _of_device(self, row: int) -> FloatArray:
        history, table = self.held.history(row), self.ranker.table
        return score_all(
            table,
            table.settings,
            solve_private_vector(table, history),
            history,
            self.ranker.categories,
            words=self.ranker.words,
        )


def scored_blocks(
    histories: HistoryColumns,
    people: NDArray[np.int64],
    *,
    ranker: Ranker,
    library: ctypes.CDLL | None = None,
) -> Iterator[tuple[slice, Scores]]:
    """Score some people, so many at a time that memory stays bounded.

    Args:
        histories: Everybody's.
        people: int64[m], by number.
        ranker: What scores them.
        library: From `simulations.kernel.compiled.load`; by default this package's.

    Yields:
        Which of ``people``, and their scores.
    """
    size = max(1, _CELLS // max(1, ranker.table.n_items))
    for start in range(0, len(people), size):
        block = slice(start, min(start + size, len(people)))
        yield block, score_block(histories.of(people[block]), ranker=ranker, library=library)


def place_targets(
    held: HistoryColumns,
    targets: NDArray[np.int32],
    *,
    ranker: Ranker,
    library: ctypes.CDLL | None = None,
) -> Standing:
    """Rank what each person never had, and find their target in it.

    Args:
        held: People's histories, without the targets.
        targets: int32[people].
        ranker: What ranks.
        library: From `simulations.kernel.compiled.load`; by default this package's.
    """
    found = [Standing(ahead=np.zeros(0, np.int64), tied=np.zeros(0, np.int64))]
    everyone = np.arange(held.people)
    for block, scores in scored_blocks(held, everyone, ranker=ranker, library=library):
        rows = np.arange(scores.held.people)
        found.append(scores.stand(rows, targets[block], scores.never_had()))
    return Standing(
        ahead=np.concatenate([each.ahead for each in found]),
        tied=np.concatenate([each.tied for each in found]),
    )


def score_block(
    held: HistoryColumns, *, ranker: Ranker, library: ctypes.CDLL | None = None
) -> Scores:
    """Score the whole catalogue for some people.

    Args:
        held: Their histories; items of the table.
        ranker: What scores them.
        library: From `simulations.kernel.compiled.load`; by default this package's.

    Returns:
        4 people n_items bytes, so pass people in blocks.
    """
    table, settings = ranker.table, ranker.table.settings
    rows = held.weigh(settings)
    own = held.weigh(replace(settings, weighting="log", half_life_days=settings.own_half_life_days))
    vectors = _vectors(held, rows, table, library) * np.float32(settings.together_weight)
    values: FloatArray = np.matmul(vectors, table.factors.T)
    values *= table.scale
    values += table.prior
    reach = np.linalg.norm(vectors, axis=1) * _longest(table)
    person, items = _owners(held), held.items
    itself = settings.together_weight * table.scale[items] * table.self_weight[items]
    values[person, items] += own.weights * np.float32(settings.own_weight) - itself * rows.weights
    by_words = ranker.words is not None and settings.word_weight > 0
    by_category = ranker.categories is not None and settings.category_weight > 0
    taste = np.zeros(0)
    if by_words or by_category:
        taste = taste_weights(held, half_life_days=settings.own_half_life_days)
    if ranker.categories is not None and by_category:
        values += _leanings(held, taste, ranker.categories, ranker)[:, ranker.categories.codes]
    if ranker.words is not None and by_words:
        _add_words(values, held, taste, ranker.words, settings.word_weight)
    largest = np.maximum(np.abs(values).max(axis=1, initial=0.0), reach)
    return Scores(
        held=held,
        ranker=ranker,
        values=values,
        rounding=(_ROUNDING * largest).astype(np.float32),
    )


def taste_weights(held: HistoryColumns, *, half_life_days: float) -> NDArray[np.float64]:
    """Give `client_sdk.intelligence.history.taste_weights` of many people, entry by entry.

    Args:
        held: Their histories.
        half_life_days: As on the device, > 0.

    Returns:
        float64[entries] > 0; the entries of the latest session count for more while it lasts.
    """
    person = _owners(held)
    latest_s = np.full(held.people, -np.inf)
    np.maximum.at(latest_s, person, held.last_time_s)
    as_of_s = np.minimum(held.now_s, latest_s)
    half_life_s = half_life_days * DAY_S
    with np.errstate(invalid="ignore"):  # an empty history has no start, and no entry to weigh
        start_s = as_of_s - np.fmod(as_of_s, half_life_s)
    times_s = np.minimum(held.last_time_s, as_of_s[person])
    weight = np.log1p(held.counts.astype(np.float64))
    weight *= np.exp2(np.maximum((times_s - start_s[person]) / half_life_s, _LOWEST_EXPONENT))
    order = np.lexsort((times_s, person))
    sorted_s, owner = times_s[order], person[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (np.diff(sorted_s) >= SESSION_GAP_S) | (owner[1:] != owner[:-1])
    session_s = np.full(held.people, np.inf)
    # The last of a person's sessions is written last.
    session_s[owner[begins]] = sorted_s[begins]
    lasts = held.now_s - latest_s < SESSION_GAP_S
    weight[lasts[person] & (times_s >= session_s[person])] *= SESSION_WEIGHT
    return weight


def _owners(held: HistoryColumns) -> NDArray[np.int64]:
    return np.repeat(np.arange(held.people), held.lengths)


def _longest(table: RankerTable) -> float:
    """Give the largest |f| c of an item."""
    squares = np.einsum("nr,nr->n", table.factors, table.factors)
    return float((np.sqrt(squares) * table.scale).max(initial=0.0))


def _vectors(
    held: HistoryColumns, rows: Rows, table: RankerTable, library: ctypes.CDLL | None
) -> FloatArray:
    if not table.rank:
        return np.zeros((held.people, 0), np.float32)
    project = table.settings.form == "project"
    if not project and table.rank > MAX_RANK:
        return solve_many(table, [held.history(row) for row in range(held.people)])
    return private_vectors(
        rows,
        np.arange(held.people),
        factors=table.factors,
        ridge=table.settings.ridge,
        project=project,
        library=library,
    )


def _leanings(
    held: HistoryColumns, taste: NDArray[np.float64], categories: ItemCategories, ranker: Ranker
) -> FloatArray:
    """Give `ItemCategories.affinity` of each person times its weight: float32[people, g]."""
    settings, groups = ranker.table.settings, len(categories.names)
    cells = _owners(held) * groups + categories.codes[held.items]
    flat = np.bincount(cells, taste, held.people * groups).astype(np.float64)
    total = flat.reshape(held.people, groups)
    if "" in categories.names:
        total[:, categories.names.index("")] = 0.0
    total = total / categories.sizes**settings.category_size_power
    top = total.sum(axis=1, keepdims=True)
    np.divide(total, top, out=total, where=top > 0)
    share: FloatArray = total.astype(np.float32)
    return share * np.float32(settings.category_weight)


def _add_words(
    values: FloatArray,
    held: HistoryColumns,
    taste: NDArray[np.float64],
    words: ItemWords,
    weight: float,
) -> None:
    """Add, in place, the affinity to words, person by person: its sums are exact in any order."""
    for row in range(held.people):
        entries = slice(int(held.offsets[row]), int(held.offsets[row + 1]))
        if entries.start == entries.stop:
            continue
        leaning = words.leaning(words.taste(held.items[entries], taste[entries]))
        values[row] += (leaning * (weight / total_of(taste[entries]))).astype(np.float32)
