"""Ranking a catalogue for one person, in numpy, on the device.

The score of item j for a person with unit-norm history x, own unit-norm frequency o and
category affinity a, under the settings' weights w:

    score_j = w_together (c_j (u f_j - x_j s_j) + b_j)
            + w_own o_j + w_category a_cat(j) + w_words z_j + w_popularity p_j
with z the affinity to the item's words. The word part is 0 where no words are given.

Rules a reader can check line by line:

1. u is `solve_private_vector`: x F in the project form (with s_j = |f_j|^2 and c_j = 1 / (1 - s_j)
   this is EASE, Steck 2019, arXiv 1905.03375, in factored form), a ridge solve on the history's
   rows in the ridge form. It never leaves the device.
2. x, o and a are non-zero for the person's few items and categories only: they are added at those
   places, and the one pass over the whole table is the product with u.
3. A device without a model uses `RankerTable.without_model`: u is empty and the rest stands.
4. Ties fall to the lower index: an order of the catalogue is an order of the answer.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History, IndexArray, own_frequency, statistics_vector
from client_sdk.intelligence.words import ItemWords
from client_sdk.wire.table import FloatArray, RankerSettings, RankerTable, ReleaseFormatError

_LOWEST: Final = np.finfo(np.float32).min

__all__ = [
    "RankerSettings",
    "RankerTable",
    "ReleaseFormatError",
    "check_catalogue",
    "history_vector",
    "ridge_inverse",
    "score_all",
    "score_items",
    "solve_private_vector",
    "top_k",
]


def history_vector(table: RankerTable, history: History) -> tuple[IndexArray, FloatArray]:
    """Give x as this table's settings weigh it: int32[m] items, float32[m] values of norm 1.

    Raises:
        ValueError: when the history names an item that the table does not have.
    """
    if len(history) and int(history.items[-1]) >= table.n_items:
        raise ValueError(
            f"the history names item {int(history.items[-1])}, the table has {table.n_items}; "
            "build the history for the catalogue of this release"
        )
    settings = table.settings
    return statistics_vector(
        history, weighting=settings.weighting, half_life_days=settings.half_life_days
    )


def solve_private_vector(table: RankerTable, history: History) -> FloatArray:
    """Place a person among the items: the private vector u.

    Args:
        table: the release.
        history: what the person did.

    Returns:
        float32[r]; zeros for an empty history. It is private: keep it on the device.
    """
    items, x = history_vector(table, history)
    rows = table.factors[items]
    projected: FloatArray = x @ rows
    if table.settings.form == "project" or not len(items):
        return projected
    solved: FloatArray = (ridge_inverse(table, items, x) @ projected).astype(np.float32)
    return solved


def ridge_inverse(table: RankerTable, items: IndexArray, x: FloatArray) -> npt.NDArray[np.float64]:
    """Give (F' diag(x) F + ridge I)^-1 over a history's rows, so that u = this times x F.

    It is the minimiser of sum_i x_i (u f_i - 1)^2 + ridge |u|^2 (Hu, Koren, Volinsky 2008,
    without the unseen items).

    Returns:
        float64[r, r].
    """
    rows = table.factors[items].astype(np.float64)
    gram = (rows * x[:, None].astype(np.float64)).T @ rows
    gram[np.diag_indices_from(gram)] += table.settings.ridge
    return np.linalg.inv(gram).astype(np.float64)


def score_all(
    table: RankerTable,
    settings: RankerSettings,
    u: FloatArray,
    history: History,
    categories: ItemCategories | None = None,
    *,
    words: ItemWords | None = None,
) -> FloatArray:
    """Score the whole catalogue for one person.

    Args:
        table: the release.
        settings: usually ``table.settings``.
        u: float32[r], from `solve_private_vector`.
        history: what the person did.
        categories: the catalogue's categories; without them that part is left out.
        words: the words of the catalogue's names; without them that part is left out.

    Returns:
        float32[n], higher is better.

    Raises:
        ValueError: when u, the history or the categories do not fit the table.

    Example:
        >>> table = RankerTable.without_model(3)
        >>> history = History.from_events(items=[2], times_s=[0.0], now_s=0.0)
        >>> u = solve_private_vector(table, history)
        >>> top_k(score_all(table, table.settings, u, history), 2).tolist()
        [2, 0]
    """
    _check(table, u, categories, words)
    items, x = history_vector(table, history)
    own = own_frequency(history, half_life_days=settings.own_half_life_days)
    scores = _table_scores(table, settings, u, None)
    itself = settings.together_weight * table.scale[items] * table.self_weight[items] * x
    scores[items] += own * np.float32(settings.own_weight) - itself
    if categories is not None and settings.category_weight:
        affinity = _affinity(settings, history, own, categories)
        scores += affinity.take(categories.codes)
    if words is not None and settings.word_weight:
        scores += words.affinity(history.items, own) * np.float32(settings.word_weight)
    return scores


def score_items(
    table: RankerTable,
    settings: RankerSettings,
    u: FloatArray,
    history: History,
    items: npt.NDArray[Any],
    *,
    categories: ItemCategories | None = None,
    words: ItemWords | None = None,
) -> FloatArray:
    """Score some candidates: the same numbers as `score_all`, at the cost of those items only.

    Args:
        table: the release.
        settings: usually ``table.settings``.
        u: float32[r], from `solve_private_vector`.
        history: what the person did.
        items: int[m], indices of the candidates, in any order.
        categories: the catalogue's categories.
        words: the words of the catalogue's names.

    Returns:
        float32[m], aligned with ``items``.
    """
    _check(table, u, categories, words)
    wanted = np.asarray(items)
    if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError(f"items must be int[m], got {wanted.dtype} of shape {wanted.shape}")
    if len(wanted) and (wanted.min() < 0 or wanted.max() >= table.n_items):
        raise ValueError(f"items must be from 0 to {table.n_items - 1}")
    had, x = history_vector(table, history)
    own = own_frequency(history, half_life_days=settings.own_half_life_days)
    scores = _table_scores(table, settings, u, wanted)
    if len(had):
        at = np.minimum(np.searchsorted(had, wanted), len(had) - 1)
        known = np.flatnonzero(had[at] == wanted)
        rows, at = wanted[known], at[known]
        itself = settings.together_weight * table.scale[rows] * table.self_weight[rows] * x[at]
        scores[known] += own[at] * np.float32(settings.own_weight) - itself
    if categories is not None and settings.category_weight:
        affinity = _affinity(settings, history, own, categories)
        scores += affinity.take(categories.codes[wanted])
    if words is not None and settings.word_weight:
        leaning = words.affinity_of(wanted.astype(np.intp), history.items, own)
        scores += leaning * np.float32(settings.word_weight)
    return scores


def top_k(scores: FloatArray, k: int, exclude: npt.ArrayLike | None = None) -> npt.NDArray[np.intp]:
    """Give the best k items, best first; ties fall to the lower index.

    Args:
        scores: float[n]; minus infinity means "never".
        k: how many, >= 0; fewer come back when there are fewer.
        exclude: int[m], items to leave out.

    Returns:
        intp[<= k], in descending order of score.

    Raises:
        ValueError: on NaN scores, or k < 0.

    Example:
        >>> top_k(np.array([0.1, 0.9, 0.9, 0.5], np.float32), 2, exclude=[1]).tolist()
        [2, 3]
    """
    if k < 0:
        raise ValueError(f"k must be >= 0, got {k}")
    left_out = np.zeros(0, np.intp) if exclude is None else np.asarray(exclude, np.intp)
    if len(left_out):
        scores = scores.copy()
        scores[left_out] = -np.inf
    k = min(k, len(scores))
    if k == 0:
        return np.zeros(0, np.intp)
    cut = len(scores) - k
    # Half the time of argpartition, and it shows where the ties are.
    best = np.partition(scores, cut)[cut:]
    # NaN sorts behind every number, so one NaN anywhere is among the best.
    if np.isnan(best).any():
        raise ValueError("scores must not be NaN")
    found = np.flatnonzero(scores >= max(best[0], _LOWEST))
    order: npt.NDArray[np.intp] = found[np.lexsort((found, -scores[found]))][:k]
    return order


def check_catalogue(
    table: RankerTable, categories: ItemCategories | None, words: ItemWords | None
) -> None:
    """Refuse categories or words of another catalogue than the table's."""
    for what, named in (
        ("categories", table.n_items if categories is None else len(categories.codes)),
        ("words", table.n_items if words is None else words.n_items),
    ):
        if named != table.n_items:
            raise ValueError(
                f"{what} must name {table.n_items} items, got {named}; "
                "use the catalogue of this release"
            )


def _check(
    table: RankerTable,
    u: FloatArray,
    categories: ItemCategories | None,
    words: ItemWords | None,
) -> None:
    """Refuse arguments that belong to another release."""
    if u.shape != (table.rank,):
        raise ValueError(f"u must be float32[{table.rank}] for this table, got shape {u.shape}")
    check_catalogue(table, categories, words)


def _table_scores(
    table: RankerTable, settings: RankerSettings, u: FloatArray, items: npt.NDArray[Any] | None
) -> FloatArray:
    """Score what does not depend on single history items; the table's prior is cached."""
    prior = table.prior if settings == table.settings else table.prior_for(settings)
    weighted = u.astype(np.float32) * np.float32(settings.together_weight)
    if items is None:
        scores: FloatArray = np.matmul(table.factors, weighted)
        scores *= table.scale
        scores += prior
        return scores
    scores = np.matmul(table.factors[items], weighted)
    scores *= table.scale[items]
    scores += prior[items]
    return scores


def _affinity(
    settings: RankerSettings, history: History, own: FloatArray, categories: ItemCategories
) -> FloatArray:
    """Give w_category a, float32[g]."""
    share = categories.affinity(history.items, own, settings.category_size_power)
    return share * np.float32(settings.category_weight)
