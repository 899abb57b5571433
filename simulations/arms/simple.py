"""The simplest arms: what everything else must beat. Each reads the training part only."""

from __future__ import annotations

import numpy as np

from simulations.data.interactions import IntArray, Interactions
from simulations.evaluation.metrics import ScoreArray, Scorer
from simulations.evaluation.split import item_pairs


def popularity(train: Interactions) -> Scorer:
    """Rank by how many people had an item: the same list for everyone.

    Args:
        train: The training part.

    Returns:
        The arm.
    """
    counts = np.bincount(item_pairs(train) % train.n_items, minlength=train.n_items)
    everyone = counts.astype(np.float64)

    def score(people: IntArray) -> ScoreArray:
        return np.broadcast_to(everyone, (len(people), train.n_items))

    return score


def own_frequency(train: Interactions) -> Scorer:
    """Rank by on how many occasions the person had an item: nothing is learned from others.

    Args:
        train: The training part.

    Returns:
        The arm.
    """
    taste = train.take(train.taste)
    firsts = np.searchsorted(taste.users, np.arange(train.n_people + 1))
    occasions, at = np.unique(
        taste.occasions.astype(np.int64) * train.n_items + taste.items, return_index=True
    )
    del occasions
    once = np.zeros(len(taste), np.float64)
    once[at] = 1.0

    def score(people: IntArray) -> ScoreArray:
        scores = np.zeros((len(people), train.n_items))
        for row, person in enumerate(people):
            own = slice(firsts[person], firsts[person + 1])
            np.add.at(scores[row], taste.items[own], once[own])
        return scores

    return score
