"""Ranking a catalogue for one person, in numpy, on the device.

The score of item j for a person with unit-norm history x, own unit-norm frequency o and
category affinity a, under the settings' weights w:

    score_j = w_together (c_j (u f_j - x_j s_j) + b_j) + w_own o_j + w_category a_cat(j) + w_popularity p_j

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

from typing import Any

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import (
    FloatArray,
    History,
    IndexArray,
    own_frequency,
    statistics_vector,
)
from client_sdk.intelligence.table import RankerSettings, RankerTable, ReleaseFormatError

__all__ = [
    "RankerSettings",
    "RankerTable",
    "ReleaseFormatError",
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
) -> FloatArray:
    """Score the whole catalogue for one person.

    Args:
        table: the release.
        settings: usually ``table.settings``.
        u: float32[r], from `solve_private_vector`.
        history: what the person did.
        categories: the catalogue's categories; without them that part is left out.

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
    _check(table, u, categories)
    items, x = history_vector(table, history)
    scores = _table_scores(table, settings, u, None)
    together = settings.together_weight * table.scale[items] * table.self_weight[items] * x
    scores[items] += _own(settings, history) - together
    if (
        affinity := _affinity(settings, history, categories)
    ) is not None and categories is not None:
        scores += affinity[categories.codes]
    return scores


def score_items(
    table: RankerTable,
    settings: RankerSettings,
    u: FloatArray,
    history: History,
    items: npt.NDArray[Any],
    categories: ItemCategories | None = None,
) -> FloatArray:
    """Score some candidates: the same numbers as `score_all`, at the cost of those items only.

    Args:
        table: the release.
        settings: usually ``table.settings``.
        u: float32[r], from `solve_private_vector`.
        history: what the person did.
        items: int[m], indices of the candidates, in any order.
        categories: the catalogue's categories.

    Returns:
        float32[m], aligned with ``items``.
    """
    _check(table, u, categories)
    wanted = np.asarray(items)
    if wanted.ndim != 1 or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError(f"items must be int[m], got {wanted.dtype} of shape {wanted.shape}")
    if len(wanted) and (wanted.min() < 0 or wanted.max() >= table.n_items):
        raise ValueError(f"items must be from 0 to {table.n_items - 1}")
    had, x = history_vector(table, history)
    scores = _table_scores(table, settings, u, wanted)
    if len(had):
        at = np.minimum(np.searchsorted(had, wanted), len(had) - 1)
        known = np.flatnonzero(had[at] == wanted)
        rows = wanted[known]
        together = (
            settings.together_weight * table.scale[rows] * table.self_weight[rows] * x[at[known]]
        )
        scores[known] += _own(settings, history)[at[known]] - together
    if (
        affinity := _affinity(settings, history, categories)
    ) is not None and categories is not None:
        scores += affinity[categories.codes[wanted]]
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
    best = np.argpartition(scores, cut)[cut:]
    threshold = scores[best].min()
    # NaN sorts behind every number, so one NaN anywhere shows up here.
    if np.isnan(threshold):
        raise ValueError("scores must not be NaN")
    above = best[scores[best] > threshold]
    if threshold > -np.inf:
        # argpartition keeps an arbitrary few of the items that tie at the threshold.
        tied = np.flatnonzero(scores == threshold)[: k - len(above)]
        above = np.concatenate([above, tied])
    order: npt.NDArray[np.intp] = above[np.lexsort((above, -scores[above]))]
    return order


def _check(table: RankerTable, u: FloatArray, categories: ItemCategories | None) -> None:
    """Refuse arguments that belong to another release."""
    if u.shape != (table.rank,):
        raise ValueError(f"u must be float32[{table.rank}] for this table, got shape {u.shape}")
    if categories is not None and len(categories.codes) != table.n_items:
        raise ValueError(
            f"categories must name {table.n_items} items, got {len(categories.codes)}; "
            "use the catalogue of this release"
        )


def _table_scores(
    table: RankerTable, settings: RankerSettings, u: FloatArray, items: npt.NDArray[Any] | None
) -> FloatArray:
    """Score what does not depend on single history items, in one new array and one scratch array."""
    chosen: Any = slice(None) if items is None else items
    weighted = np.asarray(u, np.float32) * np.float32(settings.together_weight)
    scores: FloatArray = table.factors[chosen] @ weighted
    scores *= table.scale[chosen]
    prior = table.popularity[chosen] * np.float32(settings.popularity_weight)
    scores += prior
    np.multiply(table.bias[chosen], np.float32(settings.together_weight), out=prior)
    scores += prior
    return scores


def _own(settings: RankerSettings, history: History) -> FloatArray:
    """Give w_own o over the history's items."""
    own = own_frequency(history, half_life_days=settings.own_half_life_days)
    return own * np.float32(settings.own_weight)


def _affinity(
    settings: RankerSettings, history: History, categories: ItemCategories | None
) -> FloatArray | None:
    """Give w_category a, float32[g], or nothing when it cannot matter."""
    if categories is None or settings.category_weight == 0 or not len(history):
        return None
    own = own_frequency(history, half_life_days=settings.own_half_life_days)
    share = categories.affinity(history.items, own, settings.category_size_power)
    return share * np.float32(settings.category_weight)
