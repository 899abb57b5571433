"""A small shop of two tastes, as material for arms."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.intelligence import History
from client_sdk.wire import Catalogue, Item
from simulations.arms import Arms
from simulations.data.interactions import EVENT_KINDS, Interactions

PEOPLE, ITEMS, HALF = 60, 24, 12


@pytest.fixture(scope="session")
def shop() -> Arms:
    """Sixty people: even ones like the first half of the items, odd ones the second; 0 has none."""
    rng = np.random.default_rng(11)
    users, items = [], []
    for person in range(1, PEOPLE):
        liked = np.arange(HALF) + HALF * (person % 2)
        users += [person] * 6
        items += [*rng.choice(liked, 5, replace=False), rng.integers(ITEMS)]
    rows = len(users)
    train = Interactions(
        n_people=PEOPLE,
        n_items=ITEMS,
        users=np.array(users, np.int32),
        items=np.array(items, np.int32),
        times_s=np.zeros(rows),
        quantities=np.ones(rows),
        prices=np.full(rows, np.nan),
        kinds=np.full(rows, EVENT_KINDS.index("purchase"), np.int8),
        occasions=np.arange(rows, dtype=np.int32),
    )
    histories = [
        History.from_events(items=train.of_person(person).items, times_s=[0.0] * n, now_s=0.0)
        for person in range(PEOPLE)
        for n in [len(train.of_person(person))]
    ]
    catalogue = Catalogue(items=tuple(Item(item_id=f"i{item:02d}") for item in range(ITEMS)))
    return Arms(train=train, histories=histories, catalogue=catalogue)
