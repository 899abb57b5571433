"""Synthetic people look like those that were fitted, and people who do not are told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client_sdk.intelligence.history import History
from simulations.data.bundled import load_bundled
from simulations.data.interactions import Interactions
from simulations.evaluation.split import item_pairs
from simulations.synthetic.fit import fit_population
from simulations.synthetic.generate import (
    SHARD,
    SyntheticPeople,
    generate_shard,
    open_population,
    write_population,
)
from simulations.synthetic.model import HOURS, PopulationModel

WEEK_S = 7 * 86_400.0
MONDAY_S = 4 * 86_400.0


@pytest.fixture(scope="module")
def events() -> Interactions:
    """What the bundled sample's customers bought."""
    return load_bundled().interactions


@pytest.fixture(scope="module")
def model(events: Interactions) -> PopulationModel:
    """Fitted to them."""
    return fit_population(events)


@pytest.fixture(scope="module")
def made(model: PopulationModel) -> SyntheticPeople:
    """One shard of synthetic people."""
    return generate_shard(model, seed=5, shard=3)


@pytest.fixture(scope="module")
def without_tastes(model: PopulationModel) -> SyntheticPeople:
    """A wrong population: the same sizes, everybody buys best sellers alike."""
    alike = np.repeat((model.tastes @ model.items / model.tastes.sum())[None], 2, axis=0)
    flat = replace(
        model, tastes=np.ones(2), items=alike, seasons=np.full((2, model.seasons.shape[1]),
        1.0 / model.seasons.shape[1]),
    )  # fmt: skip
    return generate_shard(flat, seed=5, shard=3)


def matrix_of(people: SyntheticPeople, n_items: int) -> NDArray[np.float64]:
    """Who has what, dense."""
    found = np.zeros((people.histories.people, n_items))
    found[np.repeat(np.arange(len(found)), people.histories.lengths), people.histories.items] = 1.0
    return found


def real_matrix(events: Interactions) -> NDArray[np.float64]:
    """Who really has what, dense."""
    found = np.zeros((events.n_people, events.n_items))
    found.ravel()[item_pairs(events)] = 1.0
    return found


def largest_gap(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Kolmogorov and Smirnov's statistic of two samples."""
    at = np.unique(np.concatenate([ours, theirs]))
    one = np.searchsorted(np.sort(ours), at, side="right") / len(ours)
    other = np.searchsorted(np.sort(theirs), at, side="right") / len(theirs)
    return float(np.abs(one - other).max())


def critical_gap(ours: int, theirs: int) -> float:
    """What two samples of one distribution exceed once in 1,000 times."""
    return float(1.95 * np.sqrt((ours + theirs) / (ours * theirs)))


def log_lift(matrix: NDArray[np.float64], top: NDArray[np.intp]) -> NDArray[np.float64]:
    """How much oftener pairs of items occur together than people's sizes alone would make them."""
    together = matrix[:, top].T @ matrix[:, top]
    share = matrix.sum(axis=0)[top] / matrix.sum()
    sizes = matrix.sum(axis=1)
    expected = np.outer(share, share) * float((sizes * (sizes - 1)).sum())
    above = np.triu_indices(len(top), 1)
    return np.asarray(np.log((together[above] + 1.0) / (expected[above] + 1.0)))


def test_generated_sizes_and_repeats_match_the_real_ones(
    events: Interactions, made: SyntheticPeople
) -> None:
    """How many items a person has, and how often each, are distributed as in the real events."""
    held = real_matrix(events).sum(axis=1)
    ours = made.histories.lengths.astype(float)
    limit = critical_gap(len(ours), len(held))
    assert largest_gap(ours, held) < limit
    assert largest_gap(ours * 1.3, held) > limit
    taste = events.taste
    keys = events.users[taste].astype(np.int64) * events.n_items + events.items[taste]
    repeats = np.minimum(np.unique(keys, return_counts=True)[1], 50).astype(float)
    counts = made.histories.counts.astype(float)
    assert largest_gap(counts, repeats) < critical_gap(len(counts), len(repeats))
    assert largest_gap(counts + (counts > 1), repeats) > critical_gap(len(counts), len(repeats))


def test_generated_popularity_matches_the_real_one(
    events: Interactions, made: SyntheticPeople
) -> None:
    """Best sellers are best sellers: 95 % of sales are where they really are."""
    real = real_matrix(events).sum(axis=0)
    ours = np.bincount(made.histories.items, minlength=events.n_items).astype(float)
    assert np.abs(real / real.sum() - ours / ours.sum()).sum() / 2 < 0.05
    flatter = np.sqrt(ours)
    assert np.abs(real / real.sum() - flatter / flatter.sum()).sum() / 2 > 0.05


def test_generated_items_occur_together_as_the_real_ones_do(
    events: Interactions, made: SyntheticPeople, without_tastes: SyntheticPeople
) -> None:
    """Pairs that really go together go together here; without tastes they do not."""
    real = real_matrix(events)
    top = np.argsort(real.sum(axis=0))[-150:]
    theirs = log_lift(real, top)
    ours = np.corrcoef(log_lift(matrix_of(made, events.n_items), top), theirs)[0, 1]
    wrong = np.corrcoef(log_lift(matrix_of(without_tastes, events.n_items), top), theirs)[0, 1]
    assert ours > 0.5
    assert wrong < 0.3


def season_of(
    items: NDArray[np.int32], time_s: NDArray[np.float64], model: PopulationModel
) -> NDArray[np.float64]:
    """Share of what was sold of each item in the second half."""
    half_s = model.start_s + model.period_s * model.seasons.shape[1] / 2
    sold = np.bincount(items, minlength=model.n_items)
    late = np.bincount(items[time_s >= half_s], minlength=model.n_items)
    return np.asarray(late / np.maximum(sold, 1))


def test_generated_times_follow_season_and_hour_of_week(
    events: Interactions,
    model: PopulationModel,
    made: SyntheticPeople,
    without_tastes: SyntheticPeople,
) -> None:
    """Popularity drifts as it did, and shops are visited at the hours at which they were."""
    histories = made.histories
    hour = ((histories.last_time_s - MONDAY_S) % WEEK_S // 3600).astype(int)
    found = np.bincount(hour, minlength=HOURS) / len(hour)
    assert np.abs(found - model.hours).sum() / 2 < 0.02
    assert np.abs(np.roll(found, 5) - model.hours).sum() / 2 > 0.1
    assert model.start_s <= histories.last_time_s.min()
    assert histories.last_time_s.max() < model.now_s
    top = np.argsort(np.bincount(events.items, minlength=events.n_items))[-300:]
    keys, inverse = np.unique(
        events.users.astype(np.int64) * events.n_items + events.items, return_inverse=True
    )
    last = np.zeros(len(keys))
    np.maximum.at(last, inverse, events.times_s)
    theirs = season_of((keys % events.n_items).astype(np.int32), last, model)[top]
    ours = season_of(histories.items, histories.last_time_s, model)[top]
    flat = without_tastes.histories
    wrong = season_of(flat.items, flat.last_time_s, model)[top]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.5
    assert np.corrcoef(wrong, theirs)[0, 1] < 0.2


def small_model(*, n_items: int = 40) -> PopulationModel:
    """A model that is quick to draw from."""
    rng = np.random.default_rng(2)
    return PopulationModel(
        sizes=np.array([0.1, 0.3, 0.3, 0.2, 0.1]),
        repeats=np.array([0.0, 0.7, 0.3]),
        tastes=np.array([0.4, 0.8]),
        items=rng.dirichlet(np.ones(n_items), 2),
        seasons=np.array([[0.2, 0.8], [0.9, 0.1]]),
        hours=np.full(HOURS, 1 / HOURS),
        start_s=1_700_000_000.0,
        period_s=28 * 86_400.0,
    )


@given(seed=st.integers(0, 2**63 - 1), shard=st.integers(0, 2**40), people=st.integers(1, SHARD))
@settings(deadline=None, max_examples=10)
def test_generate_shard_cut_is_the_start_of_the_whole(seed: int, shard: int, people: int) -> None:
    """The first people of a shard do not depend on how many are wanted; each is a real history."""
    model = small_model()
    few = generate_shard(model, seed=seed, shard=shard, people=people)
    whole = generate_shard(model, seed=seed, shard=shard)
    end = few.histories.offsets[-1]
    np.testing.assert_array_equal(few.targets, whole.targets[:people])
    for name in ("items", "counts", "last_time_s"):
        np.testing.assert_array_equal(
            getattr(few.histories, name), getattr(whole.histories, name)[:end]
        )
    for person in range(0, people, max(1, people // 20)):
        history = few.histories.history(person)
        assert isinstance(history, History)
        assert few.targets[person] not in history.items


def test_write_population_same_bytes_whatever_was_made_before(tmp_path: Path) -> None:
    """A larger population starts with the smaller one, shard by shard and byte by byte."""
    model = small_model()
    write_population(tmp_path / "small", model, people=SHARD + 100, seed=9)
    write_population(tmp_path / "large", model, people=2 * SHARD + 7, seed=9)
    small, large = open_population(tmp_path / "small"), open_population(tmp_path / "large")
    assert (small.histories.people, large.histories.people) == (SHARD + 100, 2 * SHARD + 7)
    end = small.histories.offsets[-1]
    np.testing.assert_array_equal(small.targets, large.targets[: SHARD + 100])
    for name in ("items", "counts", "last_time_s"):
        np.testing.assert_array_equal(
            getattr(small.histories, name), getattr(large.histories, name)[:end]
        )
    second = generate_shard(model, seed=9, shard=1, people=100)
    few = small.histories.of(np.arange(SHARD, SHARD + 100))
    np.testing.assert_array_equal(few.items, second.histories.items)
    other = generate_shard(model, seed=10, shard=1, people=100)
    assert not np.array_equal(other.targets, second.targets)


def test_population_unfinished_or_there_already_refused(tmp_path: Path) -> None:
    """A folder without its description is no population, and nothing is written over."""
    write_population(tmp_path / "one", small_model(), people=5, seed=1)
    with pytest.raises(FileExistsError):
        write_population(tmp_path / "one", small_model(), people=5, seed=1)
    (tmp_path / "one" / "population.json").unlink()
    with pytest.raises(ValueError, match="no whole population"):
        open_population(tmp_path / "one")


def test_model_json_round_trip_gives_the_same_people() -> None:
    """One file and a seed are enough."""
    model = small_model()
    read = PopulationModel.from_json(model.to_json())
    assert read.sha256 == model.sha256
    ours, theirs = (generate_shard(each, seed=4, shard=0, people=50) for each in (read, model))
    np.testing.assert_array_equal(ours.histories.items, theirs.histories.items)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("format", "something", "expected a model"),
        ("hours", [1.0], "168 entries"),
        ("sizes", [0.5, 0.6], "sizes must be shares"),
        ("repeats", [0.5, 0.5], "repeats start at 1"),
        ("tastes", [1.0, -1.0], "above 0"),
        ("items", "many", "not made of numbers"),
        ("period_s", 0.0, "period_s above 0"),
        ("more", 1, "missing or unknown"),
    ],
)
def test_model_nonsense_refused(name: str, value: object, problem: str) -> None:
    """A file with nonsense is one clear error."""
    values = json.loads(small_model().to_json())
    values[name] = value
    with pytest.raises(ValueError, match=problem):
        PopulationModel.from_json(json.dumps(values).encode())
