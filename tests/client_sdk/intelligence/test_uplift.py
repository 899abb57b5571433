"""Uplift: effects that were put in are found, and the Qini curve is what its definition says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence.state import LearnedState, LearnedStateError
from client_sdk.intelligence.uplift import (
    MIN_OF_EACH,
    Segment,
    UpliftEstimates,
    UpliftModel,
    qini_curve,
)

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("HOMEBODY_SHARED", ROOT.parent / "shared")) / "data"


def _world(n: int, seed: int = 0, share: float = 0.5) -> dict[str, Any]:
    """Give an experiment: 0.3 happen anyway, and the effect is 0.2 times the first feature."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 3))
    treated = rng.random(n) < share
    chance = 0.3 + 0.1 * x[:, 1] + treated * 0.2 * x[:, 0]
    return {
        "features": x,
        "treated": treated,
        "outcomes": (rng.random(n) < chance).astype(float),
        "propensities": share,
    }


def _fitted(n: int = 40_000, **change: Any) -> UpliftModel:
    model = UpliftModel(n_features=3)
    model.update(**{**_world(n), **change})
    return model


def _found(model: UpliftModel, features: np.ndarray) -> UpliftEstimates:
    found = model.estimate(features)
    assert found is not None
    return found


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_estimate_effect_that_was_put_in_is_found(share: float) -> None:
    """Uplift and what happens anyway come back, whatever share was treated."""
    model = UpliftModel(n_features=3)
    model.update(**_world(60_000, share=share))
    x = np.random.default_rng(9).uniform(-1, 1, (50, 3))
    found = _found(model, x)
    assert np.abs(found.uplift - 0.2 * x[:, 0]).max() < 0.04
    assert np.abs(found.untreated - 0.3 - 0.1 * x[:, 1]).max() < 0.03


def test_estimate_equals_ridge_on_standardised_features() -> None:
    """The sums give what solving over the cases gives, with the penalty of rule 3."""
    world = _world(400)
    model = UpliftModel(n_features=3, ridge=7.0, effect_ridge=90.0)
    model.update(**world)
    x, moved = world["features"], world["treated"] - 0.5
    main = (x - x.mean(axis=0)) / x.std(axis=0)
    weight = moved**2
    middle = (weight @ x) / weight.sum()
    spread = np.sqrt(weight @ (x - middle) ** 2 / weight.sum())
    effect = (x - middle) / spread
    design = np.column_stack([np.ones(400), main, moved, moved[:, None] * effect])
    penalty = np.diag([0, 7, 7, 7, 0, *[90 * weight.mean()] * 3])
    w = np.linalg.solve(design.T @ design + penalty, design.T @ world["outcomes"])
    uplift = w[4] + effect @ w[5:]
    assert np.allclose(_found(model, x).uplift, uplift, atol=1e-9)


def test_estimate_does_not_depend_on_the_features_units() -> None:
    """Metres or miles, with or without an offset: the same estimates."""
    world = _world(2_000)
    other = {**world, "features": world["features"] * [1e-4, 1.0, 1e5] + [0.0, 40.0, -1e5]}
    one, two = UpliftModel(n_features=3), UpliftModel(n_features=3)
    one.update(**world)
    two.update(**other)
    first, second = _found(one, world["features"]), _found(two, other["features"])
    assert np.allclose(first.uplift, second.uplift, atol=1e-6)
    assert np.allclose(first.deviation, second.deviation, atol=1e-6)


def test_estimate_deviation_covers_the_truth() -> None:
    """The truth lies within two deviations about as often as it should, in 200 experiments."""
    x, inside = np.array([[0.5, 0.0, 0.0]]), 0
    for seed in range(200):
        model = UpliftModel(n_features=3, ridge=1.0, effect_ridge=1.0)
        model.update(**_world(2_000, seed=seed))
        found = _found(model, x)
        inside += bool(abs(found.uplift[0] - 0.1) < 2 * found.deviation[0])
    assert 180 <= inside <= 199


def test_estimate_treatment_that_follows_taste_needs_its_propensity() -> None:
    """Offers to those who buy anyway look like an effect, unless the propensity says so."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (40_000, 1))
    chance = np.where(x[:, 0] > 0, 0.8, 0.2)
    treated = rng.random(40_000) < chance
    outcomes = (rng.random(40_000) < 0.2 + 0.5 * (x[:, 0] > 0)).astype(float)
    effects = []
    for propensities in (chance, 0.5):
        model = UpliftModel(n_features=1)
        model.update(x, treated=treated, outcomes=outcomes, propensities=propensities)
        effects.append(_found(model, np.array([[0.0]])).uplift[0])
    assert abs(effects[0]) < 0.02
    assert effects[1] > 0.05


def test_update_in_portions_and_merged_is_the_same() -> None:
    """Sums add up, in any portions and over devices."""
    world = _world(500)
    parts = [UpliftModel(n_features=3) for _ in range(2)]
    for part, rows in zip(parts, (slice(0, 123), slice(123, 500)), strict=True):
        part.update(
            world["features"][rows],
            treated=world["treated"][rows],
            outcomes=world["outcomes"][rows],
            propensities=0.5,
        )
    whole = _fitted(500)
    both = parts[0].merged(parts[1])
    x = world["features"][:20]
    assert np.allclose(_found(both, x).uplift, _found(whole, x).uplift, atol=1e-9)
    assert both.cases == whole.cases
    with pytest.raises(ValueError, match="expected 3"):
        both.merged(UpliftModel(n_features=2))


def test_estimate_too_few_of_an_arm_is_none() -> None:
    """One untreated case too few: no estimate; one more: an estimate."""
    model = UpliftModel(n_features=1)
    treated = np.arange(200) >= MIN_OF_EACH - 1
    x = np.linspace(-1, 1, 200)[:, None]
    model.update(x, treated=treated, outcomes=np.zeros(200), propensities=0.5)
    assert model.estimate(x) is None
    model.update(x[:1], treated=np.array([False]), outcomes=np.zeros(1), propensities=0.5)
    assert model.estimate(x) is not None


def test_estimate_feature_that_never_varied_has_no_say() -> None:
    """A constant beside the constant does not break the solution."""
    world = _world(1_000)
    features = world["features"].copy()
    features[:, 2] = 5.0
    model = UpliftModel(n_features=3)
    model.update(**{**world, "features": features})
    found = _found(model, features[:10])
    assert np.isfinite(found.uplift).all()
    assert np.abs(found.uplift - 0.2 * features[:10, 0]).max() < 0.12


def test_segments_name_the_four_kinds() -> None:
    """By uplift first, then by what happens anyway; harm is harm however likely it is."""
    found = UpliftEstimates(
        untreated=np.array([0.1, 0.9, 0.1, 0.9, 0.1]),
        uplift=np.array([0.1, 0.01, 0.0, -0.1, -0.02]),
        deviation=np.full(5, 0.01),
        cases=100,
    )
    assert found.segments(margin=0.02) == (
        Segment.PERSUADABLE,
        Segment.SURE_THING,
        Segment.LOST_CAUSE,
        Segment.SLEEPING_DOG,
        Segment.SLEEPING_DOG,
    )
    assert found.segments(margin=0.0)[2] is Segment.LOST_CAUSE
    assert found.sentence(3) == (
        "By estimate from 100 cases it happens 90 times in 100 anyway, and an offer changes that "
        "by -10.0 ± 1.0."
    )
    with pytest.raises(ValueError, match="margin"):
        found.segments(margin=-1.0)


def test_from_bytes_goes_on_where_it_stopped() -> None:
    """The state holds everything; the penalties may change."""
    model = _fitted(500)
    back = UpliftModel.from_bytes(model.to_bytes(), n_features=3)
    assert back.to_bytes() == model.to_bytes()
    x = np.zeros((1, 3))
    assert _found(back, x).uplift[0] == _found(model, x).uplift[0]


def _forged(**change: Any) -> bytes:
    state = LearnedState.from_bytes(_fitted(100).to_bytes(), model="uplift")
    facts = {n: change.get(n, v) for n, v in state.facts.items()}
    arrays = {n: change.get(n, v) for n, v in state.arrays.items()}
    return LearnedState(model="uplift", facts=facts, arrays=arrays).to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _fitted(100).to_bytes()[:-1],
        _forged(treated=-1),
        _forged(treated=7_000),
        _forged(gram=np.zeros((8, 7))),
        _forged(gram=np.triu(np.full((8, 8), 100.0))),
        _forged(sums=np.zeros(3)),
        UpliftModel(n_features=2).to_bytes(),
    ],
)
def test_from_bytes_state_that_is_none_is_refused(data: bytes) -> None:
    """Damage and forgery end in one error."""
    with pytest.raises(LearnedStateError):
        UpliftModel.from_bytes(data, n_features=3)


def test_qini_curve_by_hand() -> None:
    """Six customers on paper: gains after each, for three treated."""
    curve = qini_curve(
        np.array([6.0, 5, 4, 3, 2, 1]),
        treated=np.array([True, False, True, False, True, False]),
        outcomes=np.array([1.0, 0, 1, 1, 0, 0]),
    )
    assert curve.shares.tolist() == pytest.approx([n / 6 for n in range(7)])
    assert curve.gains.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1 / 3, 1 / 6, 1 / 3])
    above = [0, -1 / 18, 2 / 9, 1 / 2, 1 / 9, -1 / 9, 0]
    assert curve.coefficient == pytest.approx(sum(above) / 6)


def test_qini_scores_that_tie_are_random_targeting() -> None:
    """One score for all is the straight line, in whatever order the cases come."""
    world = _world(1_000)
    curve = qini_curve(np.zeros(1_000), treated=world["treated"], outcomes=world["outcomes"])
    assert curve.shares.tolist() == [0.0, 1.0]
    assert curve.coefficient == 0.0


def test_qini_better_scores_have_more() -> None:
    """The truth beats noise, and the truth turned round lies below 0."""
    world = _world(20_000)
    measured = [
        qini_curve(scores, treated=world["treated"], outcomes=world["outcomes"]).coefficient
        for scores in (
            world["features"][:, 0],
            np.random.default_rng(4).random(20_000),
            -world["features"][:, 0],
        )
    ]
    assert measured[0] > 0.02
    assert abs(measured[1]) < 0.01
    assert measured[2] < -0.02


@given(st.integers(0, 1_000), st.integers(2, 40))
def test_qini_last_gain_is_the_effect_on_everybody(seed: int, n: int) -> None:
    """Whatever the scores, treating all adds the difference of the two means."""
    rng = np.random.default_rng(seed)
    treated = np.append([True, False], rng.random(n) < 0.5)
    outcomes = (rng.random(n + 2) < 0.5).astype(float)
    curve = qini_curve(rng.integers(0, 3, n + 2), treated=treated, outcomes=outcomes)
    effect = outcomes[treated].mean() - outcomes[~treated].mean()
    assert curve.gains[-1] == pytest.approx(effect)
    assert curve.shares[-1] == 1.0


@pytest.mark.slow
def test_uplift_hillstrom_qini_beats_random_targeting() -> None:
    """Over three splits, each Qini lies above nearly all random orders of the same customers."""
    if not (DATA / "hillstrom").is_dir():
        pytest.skip("Hillstrom is not on this machine")
    from benchmarks.experiments import load_hillstrom
    from benchmarks.models import uplift_row

    cases = load_hillstrom(DATA, arm="womens")
    for seed in range(3):
        row = uplift_row(cases, seed=seed)
        assert abs(row["random"]) < 0.001
        assert row["qini"] > row["random"] + 2 * row["random_std"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: UpliftModel(n_features=0),
        lambda: UpliftModel(n_features=1, ridge=0.0),
        lambda: UpliftModel(n_features=1, effect_ridge=np.nan),
        lambda: _fitted(50, propensities=1.0),
        lambda: _fitted(50, outcomes=np.full(50, 2.0)),
        lambda: _fitted(50, treated=np.ones(50)),
        lambda: _fitted(50, treated=np.ones(49, bool)),
        lambda: _fitted(50, features=np.zeros((50, 2))),
        lambda: _fitted(50, features=np.full((50, 3), np.inf)),
        lambda: qini_curve(np.zeros(2), treated=np.array([True, True]), outcomes=np.zeros(2)),
        lambda: qini_curve(np.zeros(2), treated=np.array([1, 0]), outcomes=np.zeros(2)),
        lambda: qini_curve(
            np.array([np.nan, 0]), treated=np.array([True, False]), outcomes=np.zeros(2)
        ),
    ],
)
def test_uplift_nonsense_is_refused(call: Callable[[], object]) -> None:
    """Each is the caller's mistake, named."""
    with pytest.raises(ValueError, match="expected"):
        call()
