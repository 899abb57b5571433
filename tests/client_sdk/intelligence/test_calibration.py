"""Calibration: known distortions are undone, and the table counts what it says it counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence.calibration import (
    IDENTITY,
    MIN_OF_EACH,
    PlattScaling,
    fit_platt,
    reliability,
)


def _world(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, n)
    return logits, (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(float)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 0.3), (2.0, -1.0)])
def test_fit_platt_known_distortion_is_undone(slope: float, intercept: float) -> None:
    """Log odds that were bent come back, within what chance allows of 40,000 cases."""
    logits, labels = _world(40_000)
    platt = fit_platt((logits - intercept) / slope, labels)
    assert platt.slope == pytest.approx(slope, rel=0.05)
    assert platt.intercept == pytest.approx(intercept, abs=0.06)


def test_fit_platt_is_where_the_gradient_is_0() -> None:
    """The fit is the minimum of the loss with Platt's softened targets, derived by hand here."""
    logits, labels = _world(300)
    platt = fit_platt(3 * logits + 1, labels)
    positives = labels.sum()
    target = np.where(
        labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2)
    )
    gap = platt.apply(3 * logits + 1) - target
    assert abs(gap.sum()) < 1e-6
    assert abs(gap @ (3 * logits + 1)) < 1e-5


def test_fit_platt_too_sure_model_gets_better() -> None:
    """The error of a model that is three times too sure falls below 2 points on other cases."""
    logits, labels = _world(4_000)
    platt = fit_platt(3 * logits, labels)
    other, happened = _world(40_000, seed=1)
    sure = 1 / (1 + np.exp(-3 * other))
    assert reliability(sure, happened).expected_calibration_error > 0.08
    assert reliability(platt.apply(3 * other), happened).expected_calibration_error < 0.02


def test_fit_platt_too_few_of_a_kind_is_the_identity() -> None:
    """Nine of a kind say nothing; ten do."""
    logits = np.linspace(-1, 1, 100)
    labels = np.zeros(100)
    labels[-(MIN_OF_EACH - 1) :] = 1
    assert fit_platt(logits, labels) is IDENTITY
    labels[-MIN_OF_EACH:] = 1
    assert fit_platt(logits, labels).slope > 1


def test_fit_platt_wrong_order_is_not_turned_round() -> None:
    """A model that has it backwards is calibrated to the share that happens."""
    logits, labels = _world(1_000)
    platt = fit_platt(-logits, labels)
    assert platt.slope == 0.0
    assert platt.apply(np.array([5.0]))[0] == pytest.approx(labels.mean(), abs=0.01)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_fit_platt_perfect_separation_stays_finite(scale: float) -> None:
    """The softened targets keep the slope finite where a plain fit would run away."""
    logits = np.concatenate([np.full(50, -1.0), np.full(50, 1.0)]) * scale
    platt = fit_platt(logits, np.repeat([0.0, 1.0], 50))
    assert platt.apply(logits)[-1] == pytest.approx(51 / 52, abs=1e-3)
    assert np.isfinite(platt.slope)


def test_fit_platt_constant_logits_give_the_share() -> None:
    """A model that says always the same is calibrated to what happens."""
    labels = np.repeat([0.0, 1.0], [75, 25])
    assert fit_platt(np.full(100, 2.0), labels).apply(np.array([2.0]))[0] == pytest.approx(
        0.25, abs=0.01
    )


def test_reliability_table_by_hand() -> None:
    """Two bins, counted on paper: gaps of 0.2 and 0.1, weighted 4 to 2."""
    table = reliability(
        np.array([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), np.array([1, 0, 0, 1, 1, 0]), bins=2
    )
    assert [(b.low, b.high, b.cases) for b in table.bins] == [(0.0, 0.5, 3), (0.5, 1.0, 3)]
    assert [b.predicted for b in table.bins] == pytest.approx([0.1, 0.8])
    assert [b.happened for b in table.bins] == pytest.approx([1 / 3, 2 / 3])
    assert table.expected_calibration_error == pytest.approx((7 / 30 + 2 / 15) / 2)
    assert table.brier == pytest.approx((1 + 0.01 + 0.04 + 0.25 + 0.01 + 1) / 6)


def test_reliability_sentence_names_the_bin_that_weighs_most() -> None:
    """One odd case doesn't make the sentence; many that are somewhat off do."""
    p = np.array([0.95] + [0.3] * 100)
    y = np.array([0.0] + [1.0] * 45 + [0.0] * 55)
    assert reliability(p, y).sentence() == (
        "Over 101 cases, predictions were off by 15.8 percentage points on average, most of it "
        "where 30 % was predicted and 45 % happened (100 cases)."
    )


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50),
    st.integers(1, 100),
)
def test_reliability_any_predictions_add_up(cases: list[tuple[float, bool]], bins: int) -> None:
    """Every case is in one bin, its prediction inside it, and the error is a share."""
    table = reliability(np.array([p for p, _ in cases]), np.array([y for _, y in cases]), bins=bins)
    assert sum(found.cases for found in table.bins) == table.cases == len(cases)
    assert all(b.low - 1e-9 <= b.predicted <= b.high + 1e-9 for b in table.bins)
    assert 0 <= table.expected_calibration_error <= 1
    assert 0 <= table.brier <= 1


@given(st.floats(0, 50), st.floats(-50, 50))
def test_platt_apply_keeps_the_order_and_the_range(slope: float, intercept: float) -> None:
    """No calibration turns two cases round or leaves 0 to 1, also for huge log odds."""
    p = PlattScaling(slope=slope, intercept=intercept).apply(np.array([-1e9, -1, 0, 1, 1e9]))
    assert np.all(np.diff(p) >= 0)
    assert p.min() >= 0
    assert p.max() <= 1


@pytest.mark.parametrize(
    ("values", "labels", "bins"),
    [
        ([], [], 10),
        ([0.5], [0.5], 10),
        ([0.5], [1.0, 0.0], 10),
        ([1.5], [1.0], 10),
        ([np.nan], [1.0], 10),
        ([[0.5]], [1.0], 10),
        ([0.5], [1.0], 0),
        ([0.5], [1.0], 101),
    ],
)
def test_reliability_nonsense_is_refused(
    values: list[float], labels: list[float], bins: int
) -> None:
    """Each is the caller's mistake."""
    with pytest.raises(ValueError, match="expected"):
        reliability(np.array(values), np.array(labels), bins=bins)


@pytest.mark.parametrize("change", [{"slope": -1.0}, {"slope": np.inf}, {"intercept": np.nan}])
def test_platt_scaling_out_of_range_is_refused(change: dict[str, float]) -> None:
    """A calibration that turns the order round is none."""
    with pytest.raises(ValueError, match="slope"):
        PlattScaling(**change)
