"""The device half of item training, in the real runtime."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence import History, RankerSettings, RankerTable, solve_private_vector
from client_sdk.intelligence.item_training import (
    ItemTrainingTask,
    pad_batch,
    sample_negatives,
    train_rows,
)
from client_sdk.intelligence.litert import LiteRtModel

RANK, N_ITEMS = 4, 40


@pytest.fixture(scope="module")
def model(small_graph: bytes) -> LiteRtModel:
    """The exported ranker: batches of 8 rows of rank 4."""
    return LiteRtModel(small_graph)


def _table(seed: int = 0) -> RankerTable:
    rng = np.random.default_rng(seed)
    return RankerTable.from_arrays(
        factors=rng.standard_normal((N_ITEMS, RANK)) * 0.3,
        settings=RankerSettings(form="ridge", ridge=0.2),
    )


def _reference(table: RankerTable, history: History, task: ItemTrainingTask) -> np.ndarray:
    """Train in plain numpy, row by row, in float64."""
    u = solve_private_vector(table, history).astype(np.float64)
    factors = table.factors.astype(np.float64)
    for step in range(task.steps):
        drawn = sample_negatives(
            seed=task.seed,
            step=step,
            count=task.negatives * len(history),
            n_items=N_ITEMS,
            avoid=history.items,
        )
        change = np.zeros_like(factors)
        for item, label in [(i, 1.0) for i in history.items] + [(i, 0.0) for i in drawn]:
            change[item] -= task.learning_rate * (1 / (1 + np.exp(-factors[item] @ u)) - label) * u
        factors += change
    return factors - table.factors


@pytest.mark.parametrize("steps", [1, 3])
def test_train_rows_equals_plain_numpy_and_touches_only_used_rows(
    model: LiteRtModel, make_history: Callable[..., History], steps: int
) -> None:
    """The graph in LiteRT, padded and merged, is the documented gradient step."""
    table, history = _table(), make_history(0, m=2)
    task = ItemTrainingTask(seed=9, steps=steps, learning_rate=0.4, negatives=3)
    delta = train_rows(model, table, history, task)
    dense = np.zeros((N_ITEMS, RANK))
    dense[delta.items] = delta.rows
    assert np.abs(dense - _reference(table, history, task)).max() < 1e-5
    assert delta.items.tolist() == sorted(set(delta.items.tolist()))
    assert set(history.items.tolist()) <= set(delta.items.tolist())
    assert delta.rows.dtype == np.float32


def test_train_rows_same_task_gives_the_same_change(
    model: LiteRtModel, make_history: Callable[..., History]
) -> None:
    """Negatives come from the task's seed alone, so a round can be repeated and checked."""
    table, history = _table(), make_history(1, m=2)
    one, same, other = (
        train_rows(model, table, history, ItemTrainingTask(seed=seed, negatives=3))
        for seed in (5, 5, 6)
    )
    assert np.array_equal(one.items, same.items)
    assert np.array_equal(one.rows, same.rows)
    assert not np.array_equal(one.items, other.items)


def test_train_rows_longer_history_than_the_batch_uses_the_latest(model: LiteRtModel) -> None:
    """A batch of 8 with 3 negatives each has room for two items: the latest two."""
    history = History.from_events(items=[3, 5, 7, 9], times_s=[40.0, 10.0, 30.0, 20.0], now_s=50.0)
    delta = train_rows(model, _table(), history, ItemTrainingTask(seed=0, steps=1, negatives=3))
    assert set(history.items.tolist()) & set(delta.items.tolist()) == {3, 7}


def test_train_rows_empty_history_changes_nothing(model: LiteRtModel) -> None:
    """Somebody new has nothing to teach."""
    delta = train_rows(model, _table(), History.empty(now_s=0.0), ItemTrainingTask(seed=0))
    assert delta.items.shape == (0,)
    assert delta.rows.shape == (0, RANK)


def test_train_rows_table_of_another_rank_is_refused(model: LiteRtModel) -> None:
    """A graph and a table of two releases don't mix."""
    history = History.from_events(items=[1], times_s=[0.0], now_s=0.0)
    with pytest.raises(ValueError, match="rank"):
        train_rows(model, RankerTable.without_model(5), history, ItemTrainingTask(seed=0))
    with pytest.raises(ValueError, match="no room"):
        train_rows(model, _table(), history, ItemTrainingTask(seed=0, negatives=8))


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 50), st.sets(st.integers(0, 19)), st.integers(0, 99)
)
def test_sample_negatives_never_draws_what_the_person_had(
    seed: int, count: int, avoid: set[int], step: int
) -> None:
    """For any seed and history, only items that were never had are drawn."""
    had = np.array(sorted(avoid), np.int32)
    drawn = sample_negatives(seed=seed, step=step, count=count, n_items=20, avoid=had)
    assert set(drawn.tolist()) <= set(range(20)) - avoid
    assert len(drawn) == (count if len(avoid) < 20 else 0)


def test_sample_negatives_are_uniform_over_the_rest() -> None:
    """Each item that was never had is drawn alike (chi-squared, 17 degrees, p < 0.001)."""
    had = np.array([3, 11], np.int32)
    drawn = sample_negatives(seed=1, step=0, count=18_000, n_items=20, avoid=had)
    counts = np.bincount(drawn, minlength=20)
    rest = np.delete(counts, had)
    assert ((rest - 1000) ** 2 / 1000).sum() < 40.8


def test_sample_negatives_known_answer_holds_on_every_platform() -> None:
    """The generator is part of the protocol: these are its first draws."""
    drawn = sample_negatives(
        seed=42, step=1, count=6, n_items=1000, avoid=np.array([0, 500], np.int32)
    )
    assert drawn.tolist() == [322, 133, 714, 865, 654, 390]


def test_pad_batch_too_many_rows_are_refused() -> None:
    """A batch is never cut in silence."""
    with pytest.raises(ValueError, match="no room"):
        pad_batch(1, rows=np.zeros((2, 3), np.float32), labels=np.zeros(2), weights=np.ones(2))


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"seed": 2**64}, {"steps": 0}, {"negatives": 0}, {"learning_rate": 0.0}],
)
def test_task_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    """A task that can't be run is refused before anything is computed."""
    with pytest.raises(ValueError, match="must be"):
        ItemTrainingTask(**{"seed": 0, **wrong})  # type: ignore[arg-type]
