"""The kernel against the device's own code, person by person: same update, same lattice sum.

More than 400 lines: one test file for one C file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client_sdk.federation.guard import guard
from client_sdk.intelligence.history import History, statistics_vector
from client_sdk.intelligence.item_training import (
    ItemTrainingTask,
    sample_negatives,
    train_rows,
)
from client_sdk.intelligence.litert import SignatureModel, load_shared
from client_sdk.wire import SparseVector, pack_outer_product
from client_sdk.wire.table import RankerSettings, RankerTable
from models.export import export_ranker
from privacy.bounded_sum import STEPS, to_lattice
from simulations.kernel.binding import (
    ItemTraining,
    Rows,
    Status,
    count_items,
    item_statistics,
    private_vectors,
    train_items,
)
from simulations.kernel.packing import latest_items, pack_histories

CLIP_NORM = 0.9
RANK, BATCH, N_ITEMS = 8, 60, 400
SETTINGS = RankerSettings(form="ridge", ridge=0.7, weighting="log", half_life_days=20.0)
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def graph() -> SignatureModel:
    """The release's own graph, run by LiteRT."""
    return load_shared(export_ranker(rank=RANK, batch=BATCH))


@pytest.fixture(scope="module")
def histories() -> list[History]:
    """Sixty people: nobody's items, one item, many, and more than a batch holds."""
    rng = np.random.default_rng(5)
    found = [History.empty(now_s=100 * DAY_S)]
    for number in range(59):
        size = int(min(N_ITEMS, rng.geometric(0.04))) if number else 1
        found.append(
            History.from_events(
                items=rng.choice(N_ITEMS, size, replace=False),
                times_s=rng.uniform(0.0, 100 * DAY_S, size),
                weights=rng.uniform(0.5, 4.0, size),
                now_s=100 * DAY_S,
            )
        )
    everything = np.arange(N_ITEMS)
    found.append(
        History.from_events(items=everything, times_s=everything.astype(float), now_s=100 * DAY_S)
    )
    return found


@pytest.fixture(scope="module")
def factors() -> NDArray[np.float32]:
    """A table with rows long enough that some updates are clipped and some are not."""
    return (np.random.default_rng(6).standard_normal((N_ITEMS, RANK)) * 0.3).astype(np.float32)


def steps_of(vector: SparseVector) -> NDArray[np.int64]:
    """What the aggregator adds for one device's vector."""
    sent = guard(vector, dimension=vector.dimension, clip_norm=CLIP_NORM)
    total = np.zeros(vector.dimension, np.int64)
    total[sent.indices] = to_lattice(sent.values, clip_norm=CLIP_NORM)
    return total


def close_to(ours: NDArray[np.int64], theirs: NDArray[np.int64], *, per: float = 1e-5) -> bool:
    """Whether two lattice vectors differ by at most ``per`` of the longer one."""
    apart = float(np.linalg.norm((ours - theirs).astype(np.float64)))
    return apart <= per * max(float(np.linalg.norm(theirs.astype(np.float64))), 1.0)


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_train_items_each_person_equals_the_device(
    graph: SignatureModel,
    histories: list[History],
    factors: NDArray[np.float32],
    *,
    by_rows: bool,
    steps: int,
) -> None:
    """Each person's clipped update is the one that LiteRT makes on the device, to 1e-5."""
    negatives = 3
    table = RankerTable.from_arrays(factors=factors, settings=SETTINGS)
    asked_of_all = ItemTrainingTask(seed=2**63 + 11, steps=steps, learning_rate=0.4, negatives=3)
    offsets, positives = latest_items(histories, room=BATCH // (1 + negatives))
    task = ItemTraining(
        factors=factors,
        positive_offsets=offsets,
        positives=positives,
        seed=asked_of_all.seed,
        steps=steps,
        learning_rate=0.4,
        negatives=negatives,
        ridge=SETTINGS.ridge,
        by_rows=by_rows,
    )
    people = pack_histories(histories, SETTINGS)
    clipped, total = 0, np.zeros(N_ITEMS * RANK, np.int64)
    for person, history in enumerate(histories):
        found = train_items(people, task, np.array([person]), clip_norm=CLIP_NORM)
        if not len(history):
            assert found.status.tolist() == [Status.NOTHING_TO_SEND]
            assert not found.sum.any()
            continue
        delta = train_rows(graph, table, history, asked_of_all)
        flat = delta.items.astype(np.int64)[:, None] * RANK + np.arange(RANK)
        expected = steps_of(
            SparseVector(
                dimension=N_ITEMS * RANK,
                indices=flat.ravel().astype(np.int32),
                values=delta.rows.ravel(),
            )
        )
        assert found.status.tolist() == [Status.DONE]
        assert found.norms[0] == pytest.approx(float(np.linalg.norm(delta.rows)), rel=1e-5)
        assert close_to(found.sum, expected), person
        clipped += int(found.norms[0] > CLIP_NORM)
        total += expected
    assert 5 < clipped < len(histories) - 5
    everyone = np.arange(len(histories))
    together = train_items(people, task, everyone, clip_norm=CLIP_NORM)
    assert close_to(together.sum, total)


def test_train_items_any_order_or_split_same_bits(
    histories: list[History], factors: NDArray[np.float32]
) -> None:
    """The sum is of integers: reversed, or in two parts, it is the same to the last bit."""
    offsets, positives = latest_items(histories, room=20)
    task = ItemTraining(
        factors=factors,
        positive_offsets=offsets,
        positives=positives,
        seed=3,
        steps=2,
        learning_rate=0.4,
        negatives=4,
        ridge=1.0,
    )
    people = pack_histories(histories, SETTINGS)
    everyone = np.arange(len(histories))
    whole = train_items(people, task, everyone, clip_norm=CLIP_NORM).sum
    backwards = train_items(people, task, everyone[::-1].copy(), clip_norm=CLIP_NORM).sum
    parts = [
        train_items(people, task, part, clip_norm=CLIP_NORM).sum
        for part in (everyone[:17], everyone[17:])
    ]
    assert whole.any()
    np.testing.assert_array_equal(backwards, whole)
    np.testing.assert_array_equal(parts[0] + parts[1], whole)


@given(
    seed=st.integers(0, 2**64 - 1),
    held=st.sets(st.integers(0, 199), min_size=1, max_size=199),
    negatives=st.integers(1, 5),
)
@settings(deadline=None)
def test_train_items_draws_the_devices_negatives(seed: int, held: set[int], negatives: int) -> None:
    """Rows that change are the positives and exactly the negatives that numpy draws."""
    items = np.array(sorted(held), np.int32)
    history = History.from_events(items=items, times_s=items.astype(float), now_s=200.0)
    offsets, positives = latest_items([history], room=len(items))
    task = ItemTraining(
        factors=np.full((200, 2), 0.5, np.float32),
        positive_offsets=offsets,
        positives=positives,
        seed=seed,
        steps=1,
        learning_rate=1.0,
        negatives=negatives,
        ridge=1.0,
    )
    found = train_items(
        pack_histories([history], SETTINGS), task, np.zeros(1, np.int64), clip_norm=1.0
    )
    changed = np.flatnonzero(found.sum.reshape(200, 2).any(axis=1))
    drawn = sample_negatives(
        seed=seed, step=0, count=negatives * len(items), n_items=200, avoid=items
    )
    np.testing.assert_array_equal(changed, np.union1d(items, drawn))


@pytest.mark.parametrize("clip_norm", [0.3, 1.0, 2.0])
@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_every_sum_one_person_stays_within_the_sensitivity(
    clip_norm: float, data: st.DataObject
) -> None:
    """Whatever one person holds, the integers that are added have a norm of at most 2^30."""
    held = data.draw(st.sets(st.integers(0, 49), min_size=1, max_size=50))
    items = np.array(sorted(held), np.int32)
    times = data.draw(
        st.lists(st.floats(0, 1e7), min_size=len(items), max_size=len(items)), label="times"
    )
    history = History.from_events(items=items, times_s=times, now_s=1e7)
    people = pack_histories([history], SETTINGS)
    one = np.zeros(1, np.int64)
    offsets, positives = latest_items([history], room=50)
    task = ItemTraining(
        factors=np.random.default_rng(1).standard_normal((50, 5)).astype(np.float32),
        positive_offsets=offsets,
        positives=positives,
        seed=1,
        steps=2,
        learning_rate=10.0,
        negatives=2,
        ridge=0.1,
    )
    sums: list[Callable[[], NDArray[np.int64]]] = [
        lambda: train_items(people, task, one, clip_norm=clip_norm).sum,
        lambda: count_items(people, one, n_items=50, clip_norm=clip_norm).sum,
        lambda: item_statistics(people, one, top_items=50, clip_norm=clip_norm).sum,
    ]
    for added in (make() for make in sums):
        assert 0 < sum(int(step) ** 2 for step in added) <= STEPS**2


def test_count_items_equals_the_device(histories: list[History]) -> None:
    """The sum of everyone's history vectors is the aggregator's, to 1e-5 a person."""
    people = pack_histories(histories, SETTINGS)
    for person, history in enumerate(histories[1:], start=1):
        items, values = statistics_vector(history, weighting="log", half_life_days=20.0)
        expected = steps_of(SparseVector(dimension=N_ITEMS, indices=items, values=values))
        found = count_items(people, np.array([person]), n_items=N_ITEMS, clip_norm=CLIP_NORM)
        assert close_to(found.sum, expected)


def test_item_statistics_equals_the_device(histories: list[History]) -> None:
    """The packed outer products over the top items are the device's, to 1e-5 a person."""
    top = np.arange(0, N_ITEMS, 3, dtype=np.int32)
    people = pack_histories(histories, SETTINGS, within=top)
    for person, history in enumerate(histories[1:], start=1):
        positions, values = statistics_vector(
            history, weighting="log", half_life_days=20.0, within=top
        )
        found = item_statistics(people, np.array([person]), top_items=len(top), clip_norm=CLIP_NORM)
        if not len(positions):
            assert found.status.tolist() == [Status.NOTHING_TO_SEND]
            continue
        expected = steps_of(pack_outer_product(positions=positions, values=values, size=len(top)))
        assert close_to(found.sum, expected)


def test_train_items_table_not_finite_adds_nothing(histories: list[History]) -> None:
    """A table that blew up gives a status, not a poisoned sum."""
    offsets, positives = latest_items(histories, room=20)
    task = ItemTraining(
        factors=np.full((N_ITEMS, 4), np.nan, np.float32),
        positive_offsets=offsets,
        positives=positives,
        seed=3,
        steps=1,
        learning_rate=0.4,
        negatives=4,
        ridge=1.0,
    )
    everyone = np.arange(len(histories))
    found = train_items(pack_histories(histories, SETTINGS), task, everyone, clip_norm=CLIP_NORM)
    assert set(found.status[1:].tolist()) == {Status.NOT_FINITE}
    assert not found.sum.any()


@pytest.mark.parametrize(
    ("offsets", "items", "problem"),
    [
        ([0, 2], [0], "offsets must run"),
        ([0, 2, 1, 3], [0, 1, 2], "must not fall"),
        ([1, 3], [0, 1, 2], "offsets must run"),
    ],
)
def test_rows_nonsense_refused(offsets: list[int], items: list[int], problem: str) -> None:
    """Offsets that would read beside the arrays never reach the library."""
    with pytest.raises(ValueError, match=problem):
        Rows(
            offsets=np.array(offsets, np.int64),
            items=np.array(items, np.int32),
            weights=np.ones(len(items), np.float32),
        )


@pytest.mark.parametrize(("person", "item"), [(1, 0), (-1, 0), (0, 9), (0, -1)])
def test_count_items_out_of_range_refused(person: int, item: int) -> None:
    """A person or an item that is not there is a `ValueError`, not a read of foreign memory."""
    people = Rows(
        offsets=np.array([0, 1], np.int64),
        items=np.array([item], np.int32),
        weights=np.ones(1, np.float32),
    )
    with pytest.raises(ValueError, match="not among the"):
        count_items(people, np.array([person]), n_items=9, clip_norm=1.0)


@pytest.mark.parametrize("rank", [5, 8, 32, 136])
@pytest.mark.parametrize(("size", "ridge"), [(0.1, 1.0), (30.0, 0.01)])
def test_private_vectors_equal_a_solve_in_float64(rank: int, size: float, ridge: float) -> None:
    """By either way: in float32 and refined, or in float64 where that is not enough."""
    rng = np.random.default_rng(rank)
    factors = (size * rng.standard_normal((300, rank))).astype(np.float32)
    lengths = np.array([1, 3, 4, 7, 130, 300])
    items = np.concatenate([np.sort(rng.choice(300, each, replace=False)) for each in lengths])
    people = Rows(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=items.astype(np.int32),
        weights=rng.uniform(0.01, 1.0, len(items)).astype(np.float32),
    )
    found = private_vectors(people, np.arange(6), factors=factors, ridge=ridge)
    for person, (start, stop) in enumerate(itertools.pairwise(people.offsets)):
        rows = factors[people.items[start:stop]].astype(np.float64)
        x = people.weights[start:stop].astype(np.float64)
        gram = (rows * x[:, None]).T @ rows + ridge * np.eye(rank)
        # Float64 itself is off by its rounding times the matrix's condition.
        off = max(2e-7, 1e-15 * float(np.linalg.cond(gram)))
        expected = np.linalg.solve(gram, x @ rows)
        np.testing.assert_allclose(
            found[person], expected, rtol=0, atol=off * np.linalg.norm(expected)
        )


@pytest.mark.parametrize("rank", [5, 32])
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_train_items_one_step_equals_the_formula(rank: int, size: float) -> None:
    """Near and far from a score of 0: each row moves by its weight times its error, along u."""
    rng = np.random.default_rng(2)
    factors = (0.3 * rng.standard_normal((90, rank))).astype(np.float32)
    factors[1::2] *= np.float32(size)
    items = np.arange(0, 90, 4, dtype=np.int32)
    people = Rows(
        offsets=np.array([0, len(items)]),
        items=items,
        weights=np.full(len(items), len(items) ** -0.5, np.float32),
    )
    task = ItemTraining(
        factors=factors,
        positive_offsets=people.offsets,
        positives=items,
        seed=4,
        steps=1,
        learning_rate=0.5,
        negatives=2,
        ridge=1.0,
    )
    one = np.zeros(1, np.int64)
    u = private_vectors(people, one, factors=factors, ridge=1.0)[0].astype(np.float64)
    drawn = sample_negatives(seed=4, step=0, count=2 * len(items), n_items=90, avoid=items)
    scores = factors.astype(np.float64) @ u
    error = np.bincount(drawn, minlength=90) / (1.0 + np.exp(-scores))
    error[items] = -1.0 / (1.0 + np.exp(scores[items]))
    expected = -0.5 * error[:, None] * u
    clip_norm = 2.0 * float(np.linalg.norm(expected))
    found = train_items(people, task, one, clip_norm=clip_norm).sum.reshape(90, rank)
    np.testing.assert_allclose(
        found * (clip_norm / STEPS), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max()
    )
    assert (np.abs(scores).max() > 90.0) == (size > 1.0)


def test_train_items_in_a_large_catalogue_draws_the_devices_negatives() -> None:
    """Where items are not listed, and some words of the generator come close to a second draw."""
    n_items, steps = 400_000, 12
    items = np.arange(3, n_items, 997, dtype=np.int32)
    people = Rows(
        offsets=np.array([0, len(items)]),
        items=items,
        weights=np.full(len(items), len(items) ** -0.5, np.float32),
    )
    task = ItemTraining(
        factors=np.ones((n_items, 1), np.float32),
        positive_offsets=people.offsets,
        positives=items,
        seed=8,
        steps=steps,
        learning_rate=1.0,
        negatives=4,
        ridge=1.0,
    )
    found = train_items(people, task, np.zeros(1, np.int64), clip_norm=1.0)
    drawn = [
        sample_negatives(seed=8, step=step, count=4 * len(items), n_items=n_items, avoid=items)
        for step in range(steps)
    ]
    expected = np.union1d(items, np.concatenate(drawn))
    np.testing.assert_array_equal(np.flatnonzero(found.sum), expected)
