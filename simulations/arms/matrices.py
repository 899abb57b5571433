"""Everyone's histories as one sparse matrix: what a server that sees everything learns from.

Rules a reader can check line by line:

1. One row a person, one column an item of the catalogue; a person without a history is a row of
   zeros.
2. A row has the same weights as the vector that the person's device would use
   (`client_sdk.intelligence.statistics_vector`): unit norm, so that no person counts for more than
   another. `holdings` holds ones instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from client_sdk.intelligence import History, statistics_vector
from client_sdk.wire.table import Weighting

Matrix = Any
"""A ``scipy.sparse.csr_matrix``, float64[people, items]; scipy has no types."""


def unit_rows(
    histories: Sequence[History],
    n_items: int,
    *,
    weighting: Weighting = "binary",
    half_life_days: float = np.inf,
) -> Matrix:
    """Stack the unit-norm history vectors.

    Args:
        histories: One a person.
        n_items: Size of the catalogue.
        weighting: What a count is worth.
        half_life_days: How fast a history forgets.

    Returns:
        csr float64[people, n_items].

    >>> history = History.from_events(items=[1, 2], times_s=[0.0, 0.0], now_s=0.0)
    >>> unit_rows([history], 3).toarray().round(3).tolist()
    [[0.0, 0.707, 0.707]]
    """
    rows = [
        statistics_vector(history, weighting=weighting, half_life_days=half_life_days)
        for history in histories
    ]
    return _stack([items for items, _ in rows], [values for _, values in rows], n_items)


def holdings(histories: Sequence[History], n_items: int) -> Matrix:
    """Say who had what: csr float64[people, n_items] of ones.

    >>> history = History.from_events(items=[1, 1], times_s=[0.0, 9.0], now_s=9.0)
    >>> holdings([history], 3).toarray().tolist()
    [[0.0, 1.0, 0.0]]
    """
    items = [history.items for history in histories]
    return _stack(items, [np.ones(len(row)) for row in items], n_items)


def _stack(items: Sequence[Any], values: Sequence[Any], n_items: int) -> Matrix:
    from scipy.sparse import csr_matrix

    starts = np.concatenate([[0], np.cumsum([len(row) for row in items], dtype=np.int64)])
    data = np.concatenate([np.zeros(0), *values]).astype(np.float64)
    columns = np.concatenate([np.zeros(0, np.int32), *items]).astype(np.int32)
    return csr_matrix((data, columns, starts), shape=(len(items), n_items))
