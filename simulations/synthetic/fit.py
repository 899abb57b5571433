"""Fit a `PopulationModel` to real events.

Tastes are found by probabilistic latent semantic analysis (Hofmann 1999) on who has what, with a
Dirichlet distribution matched to the people's mixtures by moments. Drawing without repetition
flattens popularity, so the items' shares are then corrected until a synthetic population of the
same size sells what the real one does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.history import DAY_S
from simulations.data.interactions import Interactions
from simulations.synthetic.generate import generate_shard
from simulations.synthetic.model import HOURS, PopulationModel

_ROUNDS: Final = 40
_CORRECTIONS: Final = 4
_CORRECTED_ON: Final = 8_192
_MOST_REPEATS: Final = 50
_PERIOD_S: Final = 28 * DAY_S
_SMOOTHING: Final = 1e-3
_WEEK_S: Final = 7 * DAY_S
# 1970 began on a Thursday.
_MONDAY_S: Final = 4 * DAY_S


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Who has what: each person and item once, with how often and when last."""

    people: NDArray[np.int64]
    items: NDArray[np.int64]
    counts: NDArray[np.int64]
    last_time_s: NDArray[np.float64]


def fit_population(events: Interactions, *, tastes: int = 16, seed: int = 0) -> PopulationModel:
    """Fit a model; rows of taste alone count.

    Args:
        events: What really happened; at least two people who have something.
        tastes: How many, at least 1.
        seed: Of the starting point.

    Raises:
        ValueError: too few tastes or people.
    """
    pairs = _pairs_of(events)
    present, person = np.unique(pairs.people, return_inverse=True)
    if tastes < 1 or len(present) < 2:
        raise ValueError("fitting needs at least one taste, and two people who have something")
    held = np.bincount(person)
    mixtures, topics = _analyse(
        person,
        pairs.items,
        people=len(present),
        n_items=events.n_items,
        tastes=tastes,
        seed=seed,
    )
    share = mixtures[person] * topics[:, pairs.items].T
    share /= share.sum(axis=1, keepdims=True)
    start_s = float(pairs.last_time_s.min())
    period = ((pairs.last_time_s - start_s) // _PERIOD_S).astype(np.int64)
    seasons = np.stack([np.bincount(period, weights=column) for column in share.T])
    hour = ((events.times_s[events.taste] - _MONDAY_S) % _WEEK_S // 3600).astype(np.int64)
    model = PopulationModel(
        sizes=_shares(np.bincount(np.minimum(held, events.n_items - 1))),
        repeats=_shares(np.bincount(np.minimum(pairs.counts, _MOST_REPEATS))),
        tastes=_dirichlet_of(mixtures, held),
        items=_shares(topics),
        seasons=_shares(seasons + _SMOOTHING),
        hours=_shares(np.bincount(hour, minlength=HOURS)),
        start_s=start_s,
        period_s=_PERIOD_S,
    )
    wanted = np.bincount(pairs.items, minlength=events.n_items) / len(pairs.items)
    return _corrected(model, wanted, seed)


def _pairs_of(events: Interactions) -> _Pairs:
    taste = events.taste
    keys = events.users[taste].astype(np.int64) * events.n_items + events.items[taste]
    unique, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    last = np.full(len(unique), -np.inf)
    np.maximum.at(last, inverse, events.times_s[taste])
    return _Pairs(
        people=unique // events.n_items,
        items=unique % events.n_items,
        counts=counts,
        last_time_s=last,
    )


def _analyse(
    person: NDArray[np.int64],
    item: NDArray[np.int64],
    *,
    people: int,
    n_items: int,
    tastes: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give float64[people, t] mixtures and float64[t, n_items] tastes, by EM."""
    rng = np.random.default_rng(seed)
    mixtures = rng.dirichlet(np.ones(tastes), people)
    popularity = np.bincount(item, minlength=n_items) + _SMOOTHING
    topics = _shares(popularity * rng.gamma(2.0, size=(tastes, n_items)))
    for _ in range(_ROUNDS):
        share = mixtures[person] * topics[:, item].T
        share /= share.sum(axis=1, keepdims=True)
        for taste in range(tastes):
            weights = share[:, taste]
            mixtures[:, taste] = np.bincount(person, weights, people)
            topics[taste] = np.bincount(item, weights, n_items) + _SMOOTHING
        # As if each person had one more item of every taste's tenth: few items say little.
        mixtures = _shares(mixtures + 0.1)
        topics = _shares(topics)
    return mixtures, topics


def _dirichlet_of(mixtures: NDArray[np.float64], held: NDArray[np.int64]) -> NDArray[np.float64]:
    """Match mean and spread; people with more items say more of the spread."""
    weights = held / held.sum()
    mean = weights @ mixtures
    variance = weights @ np.square(mixtures - mean)
    precision = float((mean * (1.0 - mean)).sum() / max(float(variance.sum()), 1e-12)) - 1.0
    parameters: NDArray[np.float64] = mean * max(precision, 1e-2)
    return parameters


def _corrected(model: PopulationModel, wanted: NDArray[np.float64], seed: int) -> PopulationModel:
    for number in range(_CORRECTIONS):
        made = generate_shard(model, seed=seed, shard=2**32 + number, people=_CORRECTED_ON)
        found = np.bincount(made.histories.items, minlength=model.n_items) + 1.0
        ratio = (wanted + 1e-9) / (found / found.sum())
        items = model.items * np.clip(ratio, 0.5, 2.0)
        model = replace(model, items=_shares(items))
    return model


def _shares(values: NDArray[Any]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = values / values.sum(axis=-1, keepdims=True)
    return shares
