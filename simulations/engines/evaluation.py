"""How well a table ranks what many people take next: the whole catalogue, everyone, in blocks.

The rank of a target is found among the items that the person does not have (``discover``); ties are
worth their mean, as in `simulations.evaluation.metrics`. Scores are those of the table alone, u f:
own frequency and categories, which a device mixes in, say nothing about items it never had.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.table import RankerSettings
from simulations.engines.columns import HistoryColumns
from simulations.evaluation.metrics import CUT, stand
from simulations.kernel.binding import private_vectors

_CELLS: Final = 2_000_000


def evaluate_table(
    histories: HistoryColumns,
    targets: NDArray[np.int32],
    people: NDArray[np.int64],
    *,
    factors: NDArray[np.float32],
    settings: RankerSettings,
) -> dict[str, float]:
    """Rank the catalogue for some people, and see where their targets stand.

    Args:
        histories: What people have.
        targets: int32[everyone], what each takes next; not in their history.
        people: int64[m], whom to ask, at least one.
        factors: float32[n_items, rank].
        settings: How the release weighs histories; its ridge is used.

    Returns:
        ``hr@10`` and ``ndcg@10``, means over the people.

    Raises:
        ValueError: nobody to ask.
    """
    if not len(people):
        raise ValueError("nobody to evaluate on")
    n_items = len(factors)
    block = max(1, _CELLS // n_items)
    hits = gains = 0.0
    for start in range(0, len(people), block):
        asked = people[start : start + block]
        held = histories.of(asked)
        rows = held.weigh(settings)
        everyone = np.arange(len(asked))
        vectors = private_vectors(rows, everyone, factors=factors, ridge=settings.ridge)
        scores = vectors @ factors.T
        candidates = np.ones(scores.shape, bool)
        candidates[np.repeat(everyone, held.lengths), held.items] = False
        standing = stand(scores, np.asarray(targets[asked]), candidates)
        hit, gain = _worth(standing.ahead, standing.tied)
        hits += hit
        gains += gain
    return {f"hr@{CUT}": hits / len(people), f"ndcg@{CUT}": gains / len(people)}


def _worth(ahead: NDArray[np.int64], tied: NDArray[np.int64]) -> tuple[float, float]:
    """Add up what ranks are worth, averaged over the places that a tie may take."""
    places = np.arange(CUT)
    possible = (places >= ahead[:, None]) & (places <= (ahead + tied)[:, None])
    chance = possible / (tied + 1.0)[:, None]
    return float(chance.sum()), float((chance / np.log2(2.0 + places)).sum())
