"""DP-SGD's factors: what is spent, that a person is clipped as one, that the noise is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from simulations.arms.private_factors import (
    FactorSettings,
    Spending,
    learn_factors,
    plan_spending,
    solve_people,
)

pytest.importorskip("opacus", reason="the extra 'prv' is not installed")

PEOPLE, ITEMS = 40, 30
DELTA = 1e-5
EVERYBODY = FactorSettings(
    top_items=ITEMS, rank=4, steps=1, sampling_rate=1.0, learning_rate=2.0, clip_norm=0.05
)
NO_NOISE = Spending(counts_multiplier=1e-9, step_multiplier=1e-9, sampling_rate=1.0, steps=1)


@pytest.fixture(scope="module")
def held() -> Any:
    """Forty people, two tastes, thirty items."""
    rng = np.random.default_rng(3)
    likes = np.where(np.arange(ITEMS) < ITEMS // 2, 0.5, 0.05)
    tastes = np.array([likes, likes[::-1]])[np.arange(PEOPLE) % 2]
    return csr_matrix((rng.random((PEOPLE, ITEMS)) < tastes).astype(np.float64))


def without(held: Any, person: int) -> Any:
    """The same people, one of whom has nothing."""
    changed = held.tolil()
    changed[person] = 0.0
    return changed.tocsr()


def test_spending_epsilon_agrees_with_privacy_loss_distributions() -> None:
    """Opacus' bound over counts and sampled steps is dp-accounting's, within its tolerance."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    spending = Spending(counts_multiplier=5.0, step_multiplier=1.2, sampling_rate=0.2, steps=12)
    oracle = PLDAccountant()
    oracle.compose(GaussianDpEvent(5.0))
    oracle.compose(
        SelfComposedDpEvent(PoissonSampledDpEvent(0.2, GaussianDpEvent(1.2)), spending.steps)
    )
    assert spending.epsilon(DELTA) == pytest.approx(oracle.get_epsilon(DELTA), abs=0.03)
    assert spending.epsilon(DELTA) >= oracle.get_epsilon(DELTA) - 0.01


def test_plan_spending_uses_the_budget_and_not_more() -> None:
    """Within one percent below ε; a step with two percent less noise would not fit."""
    settings = FactorSettings(steps=4, sampling_rate=0.2)
    plan = plan_spending(epsilon=3.0, delta=DELTA, people=PEOPLE, settings=settings)
    assert 2.97 < plan.epsilon(DELTA) <= 3.0
    assert replace(plan, step_multiplier=0.98 * plan.step_multiplier).epsilon(DELTA) > 3.0
    assert (plan.sampling_rate, plan.steps) == (0.2, 4)


def test_learn_factors_records_what_was_planned(held: Any) -> None:
    """The engine's accountant saw the counts and every step, at the planned noise and rate."""
    settings = FactorSettings(top_items=10, rank=2, steps=7, sampling_rate=0.25)
    plan = Spending(counts_multiplier=3.0, step_multiplier=1.5, sampling_rate=0.25, steps=7)
    found = learn_factors(held, plan, settings, seed=1)
    assert found.engine_multipliers == ((3.0, 1.0, 1), (1.5, 0.25, 7))
    assert found.factors.shape == (10, 2)
    assumed = learn_factors(held, plan, settings, seed=1, scale=0.1)
    assert np.array(assumed.engine_multipliers) == pytest.approx(
        np.array([[0.3, 1.0, 1], [0.15, 0.25, 7]])
    )


def test_learn_factors_one_person_moves_the_table_by_at_most_one_clip(held: Any) -> None:
    """However long the history: one example is one person, clipped as a whole."""
    everything = held.tolil()
    everything[0] = 1.0
    full = everything.tocsr()
    bound = EVERYBODY.learning_rate * EVERYBODY.clip_norm / PEOPLE
    start = learn_factors(full, NO_NOISE, EVERYBODY, seed=5).factors
    moved = []
    for person in (0, 1, 2):
        other = learn_factors(without(full, person), NO_NOISE, EVERYBODY, seed=5).factors
        moved.append(np.linalg.norm(start - other))
    # All three are above the clip norm, so each moves it by exactly one clip, all 30 items too.
    assert moved == pytest.approx([bound] * 3, rel=1e-3)


def test_learn_factors_noise_has_the_planned_deviation(held: Any) -> None:
    """One step's change beside the noiseless one: σ · clip · rate / people, and not 10 % off."""
    settings = replace(EVERYBODY, clip_norm=1e-3, learning_rate=1.0)
    deviations = []
    for seed in range(20):
        plan = replace(NO_NOISE, step_multiplier=2.0)
        noisy = learn_factors(held, plan, settings, seed=seed).factors
        clean = learn_factors(held, NO_NOISE, settings, seed=seed).factors
        deviations.append((noisy - clean).ravel())
    measured = float(np.std(np.concatenate(deviations)))
    expected = 2.0 * 1e-3 / PEOPLE
    # 2,400 values: the deviation of a deviation is 1.4 %.
    assert measured == pytest.approx(expected, rel=0.06)
    assert measured != pytest.approx(0.9 * expected, rel=0.04)
    assert measured != pytest.approx(1.1 * expected, rel=0.04)


def test_learn_factors_counts_carry_their_noise(held: Any) -> None:
    """Popularity without noise is the sum of unit-norm histories; with noise it is not."""
    lengths = np.maximum(np.diff(held.indptr), 1)
    exact = (held.toarray() / np.sqrt(lengths)[:, None]).sum(axis=0)
    clean = learn_factors(held, NO_NOISE, EVERYBODY, seed=2)
    assert clean.popularity == pytest.approx(exact / exact.max(), abs=1e-6)
    plan = replace(NO_NOISE, counts_multiplier=10.0)
    noisy = learn_factors(held, plan, EVERYBODY, seed=2)
    assert np.abs(noisy.popularity - clean.popularity).max() > 0.1


def test_learn_factors_without_noise_finds_the_tastes(held: Any) -> None:
    """People of one taste get the other items of that taste above those of the other."""
    settings = replace(EVERYBODY, steps=60, learning_rate=20.0, clip_norm=0.5, rank=2)
    found = learn_factors(held, replace(NO_NOISE, steps=60), settings, seed=4)
    scores = found.scores(held)
    first, second = scores[:, : ITEMS // 2].mean(axis=1), scores[:, ITEMS // 2 :].mean(axis=1)
    right = np.where(np.arange(PEOPLE) % 2 == 0, first > second, second > first)
    assert right.mean() >= 0.95


def test_learn_factors_same_seed_same_bits(held: Any) -> None:
    """A seed decides everything; another seed decides otherwise."""
    settings = FactorSettings(top_items=10, rank=2, steps=3, sampling_rate=0.5)
    plan = Spending(counts_multiplier=3.0, step_multiplier=1.5, sampling_rate=0.5, steps=3)
    first, again, other = (learn_factors(held, plan, settings, seed=s).factors for s in (8, 8, 9))
    assert (first == again).all()
    assert not (first == other).all()


def test_solve_people_agrees_with_weighted_least_squares(held: Any) -> None:
    """Against numpy's solver on the rows of the weighted problem, person by person."""
    settings = FactorSettings(zero_weight=0.3, ridge=0.7)
    factors = np.random.default_rng(0).standard_normal((ITEMS, 3))
    solved = solve_people(held[:5], factors, settings)
    for person in range(5):
        ones = held[person].toarray().ravel()
        roots = np.sqrt(np.where(ones > 0, 1.0, 0.3))
        rows = np.concatenate([roots[:, None] * factors, np.sqrt(0.7) * np.eye(3)])
        wanted = np.concatenate([roots * ones, np.zeros(3)])
        expected = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        assert solved[person] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "changes", [{"rank": 0}, {"sampling_rate": 0.0}, {"clip_norm": -1.0}, {"counts_share": 1.0}]
)
def test_factor_settings_out_of_range_raise(changes: dict[str, Any]) -> None:
    """Nonsense is refused when it is said, not when it fails."""
    with pytest.raises(ValueError, match="must be"):
        FactorSettings(**changes)


def test_learn_factors_plan_of_another_rate_raises(held: Any) -> None:
    """A plan for another sampling rate would account for something that did not happen."""
    with pytest.raises(ValueError, match="planned for another"):
        learn_factors(held, replace(NO_NOISE, sampling_rate=0.5), EVERYBODY, seed=0)
    with pytest.raises(ValueError, match="scale"):
        learn_factors(held, NO_NOISE, EVERYBODY, seed=0, scale=0.0)
    with pytest.raises(ValueError, match="two people"):
        plan_spending(epsilon=1.0, delta=DELTA, people=1, settings=EVERYBODY)
