"""What is remembered of histories between rounds changes no bit, and takes no more than it may."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client_sdk.wire import Order, TaskKind
from client_sdk.wire.table import RankerSettings
from simulations.engines.columns import HistoryColumns
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.pool import Threads

SETTINGS = RankerSettings(form="ridge", ridge=1.0, weighting="log", half_life_days=20.0)
N_ITEMS, RANK = 50, 8


def some_histories() -> HistoryColumns:
    """Nobody's items, one, and many."""
    rng = np.random.default_rng(3)
    lengths = np.array([0, 1, 30, 7, 12])
    items = np.concatenate([np.sort(rng.choice(N_ITEMS, each, replace=False)) for each in lengths])
    return HistoryColumns(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=items.astype(np.int32),
        counts=rng.uniform(0.5, 4.0, len(items)).astype(np.float32),
        last_time_s=rng.uniform(0.0, 1e7, len(items)),
        now_s=1e7,
    )


def test_weighed_person_by_person_gives_the_bits_of_all_at_once() -> None:
    """Whoever was asked before, with them or in between; who was not asked stays at zero."""
    held = some_histories()
    expected = held.weigh(SETTINGS)
    asked: set[int] = set()
    for people in ([2], [2, 0, 4], [4, 1], [3]):
        rows = held.weighed(np.array(people), SETTINGS)
        asked.update(people)
        assert rows is not None
        for person in range(held.people):
            entries = slice(held.offsets[person], held.offsets[person + 1])
            want = expected.weights[entries] * np.float32(person in asked)
            np.testing.assert_array_equal(rows.weights[entries], want)
    other = held.weighed(np.arange(5), replace(SETTINGS, half_life_days=1.0))
    assert other is not None
    assert not np.array_equal(other.weights, expected.weights), "of other settings, other weights"


def test_weighed_on_disk_gives_none(tmp_path: Path) -> None:
    """Memory maps are not brought into memory."""
    held = some_histories()
    np.save(tmp_path / "items.npy", held.items)
    mapped = replace(held, items=np.load(tmp_path / "items.npy", mmap_mode="r"))
    assert mapped.weighed(np.array([2]), SETTINGS) is None


def test_histories_pickled_leave_out_what_can_be_made_again() -> None:
    """Another process gets the columns alone."""
    held, fresh = some_histories(), some_histories()
    held.weighed(np.arange(5), SETTINGS)
    assert len(pickle.dumps(held)) == len(pickle.dumps(fresh))
    copy: HistoryColumns = pickle.loads(pickle.dumps(held))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(copy.weigh(SETTINGS).weights, held.weigh(SETTINGS).weights)


@pytest.mark.parametrize("batch", [10, 160])
def test_item_training_remembered_or_not_gives_the_same_bits(batch: int, tmp_path: Path) -> None:
    """In memory or on disk, the first time or again, with all of a history or its latest items."""
    held = some_histories()
    np.save(tmp_path / "items.npy", held.items)
    mapped = replace(held, items=np.load(tmp_path / "items.npy", mmap_mode="r"))
    factors = np.random.default_rng(1).standard_normal((N_ITEMS, RANK)).astype("<f4")
    order = Order(
        task_id="1" * 32, kind=TaskKind.ITEM_TRAINING, population="p", round=0,
        policy_sha256="0" * 64, catalogue_sha256="0" * 64, dimension=factors.size,
        clip_norm=0.5, closes_at_s=9, promise={},
        parameters={
            "rank": RANK, "negatives": 4, "seed": 5, "steps": 2, "learning_rate": 0.5, "ridge": 1.0
        },
        payload_sha256="0" * 64, payload=factors.tobytes(),
    )  # fmt: skip
    release = ActiveRelease(
        catalogue_sha256="c", policy_sha256="p", n_items=N_ITEMS, settings=SETTINGS, rank=RANK,
        batch=batch,
    )  # fmt: skip
    people = np.array([4, 2, 1])
    first, again, on_disk = (
        Threads(workers=2).add_up(order, Holdings(histories=each, release=release), people)
        for each in (held, held, mapped)
    )
    assert first.steps.any()
    np.testing.assert_array_equal(again.steps, first.steps)
    np.testing.assert_array_equal(on_disk.steps, first.steps)
