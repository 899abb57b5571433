"""How well a table or a whole ranker serves many people: everyone, in blocks.

Ranks and ties are those of `simulations.evaluation.metrics`; protocols those of
`simulations.evaluation.split`. `evaluate_table` looks at the table alone, u f, and is the quickest
look at a training run; `evaluate_lists` ranks by all that a device mixes (`engines.lists`).

The negatives of ``sampled`` are given with the targets, or drawn by `draw_negatives`: item i of
person p has the key mix(mix(seed + p) + i), where mix is the finaliser of SplitMix64 (Steele, Lea,
Flood 2014) and sums are taken modulo 2^64; the candidates with the smallest keys are drawn. So who
else is asked, in which order and in how many blocks changes nobody's negatives.
"""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.table import RankerSettings
from simulations.engines.columns import HistoryColumns
from simulations.engines.lists import Ranker, scored_blocks
from simulations.evaluation.metrics import (
    CUT,
    METRICS,
    Measured,
    Standing,
    discounted_gains,
    hit_chances,
    stand,
)
from simulations.evaluation.split import NEGATIVES, NO_ITEM, PROTOCOLS, Targets
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
    """Rank the catalogue for some people by a table alone, and see where their targets stand.

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
        hits += float(hit_chances(standing).sum())
        gains += float(discounted_gains(standing).sum())
    return {f"hr@{CUT}": hits / len(people), f"ndcg@{CUT}": gains / len(people)}


def evaluate_lists(
    histories: HistoryColumns,
    targets: Targets,
    *,
    ranker: Ranker,
    library: ctypes.CDLL | None = None,
) -> Measured:
    """Judge a ranker in all protocols, as `simulations.evaluation.metrics.measure` judges an arm.

    Args:
        histories: What everybody has.
        targets: What is asked, of `draw_targets` or `targets_of`.
        ranker: The table, with or without categories and words.
        library: From `simulations.kernel.compiled.load`; by default this package's.

    Returns:
        ``{protocol: {"hr@10": ..., "ndcg@10": ...}}``; NaN where a protocol has no person.
    """
    everyone = np.union1d(targets.next_people, targets.discover_people).astype(np.int64)
    found: dict[str, list[Standing]] = {protocol: [] for protocol in PROTOCOLS}
    for block, scores in scored_blocks(histories, everyone, ranker=ranker, library=library):
        people = everyone[block]
        _, rows, of = np.intersect1d(
            people, targets.next_people, assume_unique=True, return_indices=True
        )
        wanted = targets.next_items[of]
        found["next"].append(scores.stand(rows, wanted))
        found["sampled"].append(scores.stand_sampled(rows, wanted, targets.negatives[of]))
        _, rows, of = np.intersect1d(
            people, targets.discover_people, assume_unique=True, return_indices=True
        )
        new = scores.never_had()[rows]
        found["discover"].append(scores.stand(rows, targets.discover_items[of], new))
    return {
        protocol: {
            METRICS[0]: _mean([hit_chances(each) for each in standings]),
            METRICS[1]: _mean([discounted_gains(each) for each in standings]),
        }
        for protocol, standings in found.items()
    }


def targets_of(
    histories: HistoryColumns,
    targets: NDArray[np.int32],
    people: NDArray[np.int64],
    *,
    n_items: int,
    seed: int,
) -> Targets:
    """Ask for one item a person in every protocol, with negatives drawn by the rule above.

    Args:
        histories: What people have.
        targets: int32[everyone], what each takes next; not in their history.
        people: int64[m], whom to ask, rising.
        n_items: Size of the catalogue.
        seed: In [0, 2^64).
    """
    wanted = np.asarray(targets[people], np.int32)
    asked = people.astype(np.int32)
    return Targets(
        seed=seed,
        next_people=asked,
        next_items=wanted,
        discover_people=asked,
        discover_items=wanted,
        negatives=draw_negatives(histories, wanted, people, n_items=n_items, seed=seed),
    )


def draw_negatives(
    histories: HistoryColumns,
    wanted: NDArray[np.int32],
    people: NDArray[np.int64],
    *,
    n_items: int,
    seed: int,
    count: int = NEGATIVES,
) -> NDArray[np.int32]:
    """Draw items that people never had and do not take next, by the rule above.

    Args:
        histories: What everybody has.
        wanted: int32[m], what each of ``people`` takes next.
        people: int64[m], by number.
        n_items: Size of the catalogue.
        seed: In [0, 2^64).
        count: How many each.

    Returns:
        int32[m, count], by rising key; `NO_ITEM` where the catalogue has too few.

    Raises:
        ValueError: a seed out of range.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2^64); got {seed}")
    drawn = np.full((len(people), count), NO_ITEM, np.int32)
    items, taken = np.arange(n_items, dtype=np.uint64), min(count, n_items)
    size = max(1, _CELLS // n_items)
    for start in range(0, len(people), size):
        asked = people[start : start + size]
        rows, held = np.arange(len(asked)), histories.of(asked)
        keys = _mix(_mix(np.uint64(seed) + asked.astype(np.uint64))[:, None] + items)
        free = np.ones(keys.shape, np.bool_)
        free[np.repeat(rows, held.lengths), held.items] = False
        free[rows, wanted[start : start + size]] = False
        keys[~free] = np.uint64(2**64 - 1)
        nearest = np.argpartition(keys, taken - 1, axis=1)[:, :taken]
        order = np.argsort(np.take_along_axis(keys, nearest, axis=1), axis=1)
        chosen = np.take_along_axis(nearest, order, axis=1)
        is_free = np.take_along_axis(free, chosen, axis=1)
        drawn[start : start + size, :taken] = np.where(is_free, chosen, NO_ITEM)
    return drawn


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Give the finaliser of SplitMix64: one to one, so no two items of a person share a key."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _mean(blocks: list[NDArray[np.float64]]) -> float:
    values = np.concatenate([np.zeros(0), *blocks])
    return float(np.mean(values)) if len(values) else float("nan")
