"""Ranking a catalogue for one person, in numpy, on the device.

The score of item j for a person with unit-norm history x, own unit-norm frequency o and
category affinity a, under the settings' weights w:

    score_j = w_together (c_j (u f_j - x_j s_j) + b_j)
            + w_own o_j + w_category a_cat(j) + w_words z_j + w_popularity p_j
with z the affinity to the item's words. The word part is 0 where no words are given. a and z are
means over the person's items; those of a session that lasts count for more (`taste_weights`).

Rules a reader can check line by line:

1. u is `solve_private_vector`: x F in the project form (with s_j = |f_j|^2 and c_j = 1 / (1 - s_j)
   this is EASE, Steck 2019, arXiv 1905.03375, in factored form), a ridge solve on the history's
   rows in the ridge form. It never leaves the device.
2. x, o and a are non-zero for the person's few items and categories only: they are added at those
   places, and the one pass over the whole table is the product with u.
3. A device without a model uses `RankerTable.without_model`: u is empty and the rest stands.
4. Ties fall to the lower index: an order of the catalogue is an order of the answer.
5. So a list becomes personal step by step: popularity for somebody new, what they did in the first
   minutes at once, and then their history, in which a session still shows.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import (
    History,
    IndexArray,
    own_frequency,
    statistics_vector,
    taste_weights,
)
from client_sdk.intelligence.words import ItemWords, total_of
from client_sdk.wire.table import FloatArray, RankerSettings, RankerTable, ReleaseFormatError

_LOWEST: Final = float(np.finfo(np.float32).min)
# Groups of the items i, i + 512, i + 1024, ...: their maxima are whole-row operations.
_GROUPS: Final = 512

__all__ = [
    "RankerSettings",
    "RankerTable",
    "ReleaseFormatError",
    "check_catalogue",
    "history_vector",
    "ridge_inverse",
    "score_all",
    "score_into",
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
    leaning = None
    if words is not None and settings.word_weight and len(history):
        weights = taste_weights(history, half_life_days=settings.own_half_life_days)
        leaning = words.leaning(words.taste(history.items, weights))
    return score_into(
        table,
        settings,
        u,
        history,
        categories=categories,
        leaning=leaning,
        scores=np.empty(table.n_items, np.float32),
        spare=np.empty(table.n_items, np.float32),
    )


def score_into(
    table: RankerTable,
    settings: RankerSettings,
    u: FloatArray,
    history: History,
    *,
    categories: ItemCategories | None,
    leaning: npt.NDArray[np.float64] | None,
    scores: FloatArray,
    spare: FloatArray,
) -> FloatArray:
    """Score the whole catalogue as `score_all` does, without a check and without new memory.

    Args:
        table: the release.
        settings: usually ``table.settings``.
        u: float32[r], from `solve_private_vector`.
        history: what the person did.
        categories: the catalogue's categories.
        leaning: float64[n], `ItemWords.leaning` of the person's taste; None leaves words out.
        scores: float32[n], filled.
        spare: float32[n], left with anything.

    Returns:
        ``scores``.
    """
    items, x = history_vector(table, history)
    own = own_frequency(history, half_life_days=settings.own_half_life_days)
    prior = table.prior if settings == table.settings else table.prior_for(settings)
    np.matmul(table.factors, _weighted(settings, u), out=scores)
    scores *= table.scale
    scores += prior
    itself = settings.together_weight * table.scale[items] * table.self_weight[items] * x
    scores[items] += own * np.float32(settings.own_weight) - itself
    if categories is not None and settings.category_weight:
        affinity = _affinity(settings, history, categories)
        # Codes were checked when the categories were made; "clip" spares numpy's own copy.
        scores += affinity.take(categories.codes, out=spare, mode="clip")
    if leaning is not None:
        weights = taste_weights(history, half_life_days=settings.own_half_life_days)
        np.multiply(leaning, settings.word_weight / total_of(weights), out=spare)
        scores += spare
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
    prior = table.prior if settings == table.settings else table.prior_for(settings)
    scores: FloatArray = np.matmul(table.factors[wanted], _weighted(settings, u))
    scores *= table.scale[wanted]
    scores += prior[wanted]
    if len(had):
        at = np.minimum(np.searchsorted(had, wanted), len(had) - 1)
        known = np.flatnonzero(had[at] == wanted)
        rows, at = wanted[known], at[known]
        itself = settings.together_weight * table.scale[rows] * table.self_weight[rows] * x[at]
        scores[known] += own[at] * np.float32(settings.own_weight) - itself
    if categories is not None and settings.category_weight:
        affinity = _affinity(settings, history, categories)
        scores += affinity.take(categories.codes[wanted])
    if words is not None and settings.word_weight:
        weights = taste_weights(history, half_life_days=settings.own_half_life_days)
        leaning = words.affinity_of(wanted.astype(np.intp), history.items, weights)
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
    found = np.flatnonzero(scores >= max(_at_most_kth(scores, k), _LOWEST))
    values = scores[found]
    if len(found) > k:
        # What ties with the last place comes in by its index, however much ties.
        last = np.partition(values, len(values) - k)[len(values) - k]
        above = values > last
        above[np.flatnonzero(values == last)[: k - int(np.count_nonzero(above))]] = True
        found, values = found[above], values[above]
    # Stable: indices ascend, so ties stay in their order.
    order: npt.NDArray[np.intp] = found[np.argsort(-values, kind="stable")]
    return order


def _at_most_kth(scores: FloatArray, k: int) -> float:
    """Give a number that k scores reach: the k-th best, or a little less where that is cheaper.

    The k-th best of the maxima of disjoint groups is one: k groups reach it.

    Raises:
        ValueError: on NaN scores.
    """
    groups = _GROUPS if len(scores) >= 2 * _GROUPS and k <= _GROUPS // 4 else len(scores)
    whole = len(scores) // groups * groups
    maxima = scores[:whole].reshape(-1, groups).max(axis=0) if groups < len(scores) else scores
    if whole < len(scores):
        np.maximum(maxima[: len(scores) - whole], scores[whole:], out=maxima[: len(scores) - whole])
    # NaN sorts behind every number, and is the maximum of its group: one anywhere is the last.
    best = np.partition(maxima, groups - k)[groups - k :]
    if np.isnan(best).any():
        raise ValueError("scores must not be NaN")
    return float(best[0])


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


def _weighted(settings: RankerSettings, u: FloatArray) -> FloatArray:
    """Give w_together u, float32[r]."""
    return u.astype(np.float32) * np.float32(settings.together_weight)


def _affinity(settings: RankerSettings, history: History, categories: ItemCategories) -> FloatArray:
    """Give w_category a, float32[g]."""
    weights = taste_weights(history, half_life_days=settings.own_half_life_days)
    share = categories.affinity(history.items, weights, settings.category_size_power)
    return share * np.float32(settings.category_weight)
