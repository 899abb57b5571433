"""The ranker for many people at once: the same formula as `ranker`, for simulations.

A device never needs this file; it is here so that the formula lives in one room. The tests hold
`score_many` equal to `score_all` to 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History, own_frequency, taste_weights
from client_sdk.intelligence.ranker import check_catalogue, history_vector, solve_private_vector
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire.table import FloatArray, RankerSettings, RankerTable


def solve_many(table: RankerTable, histories: Sequence[History]) -> FloatArray:
    """Solve the private vector of each person: float32[P, r]."""
    vectors = np.zeros((len(histories), table.rank), np.float32)
    for row, history in enumerate(histories):
        vectors[row] = solve_private_vector(table, history)
    return vectors


def score_many(
    table: RankerTable,
    settings: RankerSettings,
    vectors: FloatArray,
    histories: Sequence[History],
    categories: ItemCategories | None = None,
    *,
    words: ItemWords | None = None,
) -> FloatArray:
    """Score the whole catalogue for P people.

    Args:
        table: the release.
        settings: usually ``table.settings``.
        vectors: float32[P, r], from `solve_many`.
        histories: the P people's histories.
        categories: the catalogue's categories.
        words: the words of the catalogue's names.

    Returns:
        float32[P, n]: 4 P n bytes, so pass people in blocks.
    """
    if vectors.shape != (len(histories), table.rank):
        raise ValueError(
            f"vectors must be float32[{len(histories)}, {table.rank}], got {vectors.shape}"
        )
    check_catalogue(table, categories, words)
    together = np.float32(settings.together_weight)
    scores: FloatArray = np.matmul(vectors * together, table.factors.T)
    scores *= table.scale
    scores += table.prior_for(settings)
    for row, history in enumerate(histories):
        _add_own(scores[row], table, settings, history, categories, words)
    return scores


def _add_own(  # noqa: PLR0917 -- one caller, in this file
    scores: FloatArray,
    table: RankerTable,
    settings: RankerSettings,
    history: History,
    categories: ItemCategories | None,
    words: ItemWords | None,
) -> None:
    """Add, in place, what depends on one person's items and categories."""
    items, x = history_vector(table, history)
    own = own_frequency(history, half_life_days=settings.own_half_life_days)
    itself = settings.together_weight * table.scale[items] * table.self_weight[items] * x
    scores[items] += own * np.float32(settings.own_weight) - itself
    weights = taste_weights(history, half_life_days=settings.own_half_life_days)
    if categories is not None and settings.category_weight and len(history):
        share = categories.affinity(history.items, weights, settings.category_size_power)
        scores += (share * np.float32(settings.category_weight)).take(categories.codes)
    if words is not None and settings.word_weight:
        scores += words.affinity(history.items, weights) * np.float32(settings.word_weight)
