"""The decoder of experiments: what it says, and that its intervals hold what they promise."""

import math
from typing import Any

import numpy as np
import pytest

from client_sdk.wire.outcomes import ExperimentOutcome, OutcomeLayout
from models.experiment_outcomes import (
    DecodedExperiment,
    OutcomeMetric,
    decode_experiment_outcomes,
)
from privacy.bounded_sum import BoundedSum
from privacy.mechanisms import UnsafeNoNoise

LAYOUT = OutcomeLayout(groups=2, metrics=1, clip_norm=1.0)
SPENT = (0.0, 0.1, 0.4, 1.0)
EXPERIMENTS = 2_000


def decode(total: np.ndarray, noise_std: float, **changes: Any) -> DecodedExperiment:
    """Decode two groups and one metric."""
    given: dict[str, Any] = {
        "groups": ["control", "linen"],
        "metrics": [OutcomeMetric(name="bought")],
        "clip_norm": 1.0,
        "noise_std": noise_std,
        **changes,
    }
    return decode_experiment_outcomes(total, **given)


def coverage(
    *, chances: tuple[list[float], list[float]], noise_std: float, told_std: float, seed: int
) -> tuple[float, float]:
    """Simulate experiments; say how often the effect and the first mean lie in their intervals.

    Args:
        chances: For each group, the chance of each outcome of `SPENT`.
        noise_std: Of the noise that is added.
        told_std: Of the noise that the decoder is told.
        seed: Of everything.
    """
    random = np.random.default_rng(seed)
    packed = np.array(
        [
            [
                LAYOUT.pack(ExperimentOutcome(group=g, outcomes=(value,))).to_dense()
                for value in SPENT
            ]
            for g in (0, 1)
        ],
        np.float64,
    )
    means = np.array(chances) @ np.array(SPENT)
    effects = held = 0
    for _ in range(EXPERIMENTS):
        people = np.stack([random.multinomial(700, chances[g]) for g in (0, 1)])
        total = np.einsum("gv,gvd->d", people, packed)
        noisy = total + random.normal(0.0, noise_std, LAYOUT.dimension)
        found = decode(noisy, told_std)
        effects += found.effects[0].difference.holds(means[1] - means[0])
        held += found.groups[0].means["bought"].holds(means[0])
    return effects / EXPERIMENTS, held / EXPERIMENTS


YES_OR_NO = ([0.9, 0.0, 0.0, 0.1], [0.86, 0.0, 0.0, 0.14])
AMOUNTS = ([0.6, 0.3, 0.05, 0.05], [0.5, 0.3, 0.15, 0.05])


@pytest.mark.parametrize("noise_std", [0.0, 6.0, 20.0])
@pytest.mark.parametrize("chances", [YES_OR_NO, AMOUNTS])
def test_interval_of_95_percent_holds_the_truth_95_times_in_100(
    chances: tuple[list[float], list[float]], noise_std: float
) -> None:
    """Over 2,000 experiments, for yes-or-no and for amounts, from no noise to mostly noise."""
    effects, means = coverage(chances=chances, noise_std=noise_std, told_std=noise_std, seed=1)
    assert 0.93 <= effects <= 0.97
    assert 0.93 <= means <= 0.97


@pytest.mark.parametrize("told", [0.0, 0.5, 2.0])
def test_interval_with_the_wrong_noise_fails_the_same_test(told: float) -> None:
    """The test above can fail: noise that is forgotten, halved or doubled is seen."""
    effects, _ = coverage(chances=YES_OR_NO, noise_std=10.0, told_std=10.0 * told, seed=1)
    assert not 0.93 <= effects <= 0.97


def test_interval_of_amounts_is_that_of_their_variance() -> None:
    """Without noise the error is the one that the outcomes themselves have."""
    random = np.random.default_rng(2)
    outcomes = random.choice(SPENT, size=(2, 4_000), p=AMOUNTS[0])
    total = np.zeros(LAYOUT.dimension)
    for group in (0, 1):
        for value in SPENT:
            vector = LAYOUT.pack(ExperimentOutcome(group=group, outcomes=(value,))).to_dense()
            total += np.count_nonzero(outcomes[group] == value) * vector.astype(np.float64)
    found = decode(total, 0.0).effects[0].difference
    expected = math.sqrt(outcomes[0].var() / 4_000 + outcomes[1].var() / 4_000)
    assert found.value == pytest.approx(outcomes[1].mean() - outcomes[0].mean(), abs=1e-6)
    assert found.standard_error == pytest.approx(expected, rel=0.01)


def test_decode_is_in_the_metrics_unit_and_by_group() -> None:
    """Bounds scale back; each later group is beside the first one; metrics keep their places."""
    layout = OutcomeLayout(groups=3, metrics=2, clip_norm=2.0)
    total = np.zeros(layout.dimension)
    for group, spent, opened in ((0, 0.1, 1.0), (1, 0.2, 1.0), (2, 0.4, 0.0)):
        vector = layout.pack(ExperimentOutcome(group=group, outcomes=(spent, opened)))
        total += 100 * vector.to_dense().astype(np.float64)
    found = decode_experiment_outcomes(
        total,
        groups=["control", "linen", "holdout"],
        metrics=[OutcomeMetric(name="spent", bound=50.0), OutcomeMetric(name="opened")],
        clip_norm=2.0,
        noise_std=0.0,
    )
    assert [group.group for group in found.groups] == ["control", "linen", "holdout"]
    assert [group.persons.value for group in found.groups] == pytest.approx([100] * 3, abs=1e-4)
    effects = {(e.group, e.metric): e.difference.value for e in found.effects}
    assert effects == {
        ("linen", "spent"): pytest.approx(5.0, abs=1e-4),
        ("linen", "opened"): pytest.approx(0.0, abs=1e-6),
        ("holdout", "spent"): pytest.approx(15.0, abs=1e-4),
        ("holdout", "opened"): pytest.approx(-1.0, abs=1e-6),
    }


def test_decode_sum_of_the_aggregator_gives_the_people_back() -> None:
    """From the devices' vectors through the one operation of the aggregator."""
    total = BoundedSum(dimension=LAYOUT.dimension, clip_norm=1.0)
    for number in range(90):
        outcome = ExperimentOutcome(group=number % 3 // 2, outcomes=(float(number % 2),))
        total.add(LAYOUT.pack(outcome))
    found = decode(total.release(UnsafeNoNoise()), 0.0)
    assert [group.persons.value for group in found.groups] == pytest.approx([60, 30], abs=1e-4)
    assert found.groups[1].means["bought"].value == pytest.approx(0.5, abs=1e-6)


def test_decode_count_that_noise_hides_gives_the_whole_of_what_is_possible() -> None:
    """No estimate out of noise: every difference from -bound to bound is still possible."""
    total = LAYOUT.scale * np.array([1_000.0, 100.0, 0.0, 30.0, 10.0, 0.0])
    noise_std = 10.0 * LAYOUT.scale
    found = decode(total, noise_std, metrics=[OutcomeMetric(name="bought", bound=3.0)])
    hidden, effect = found.groups[1].means["bought"], found.effects[0].difference
    assert (hidden.value, hidden.low, hidden.high) == (None, 0.0, 3.0)
    assert (effect.value, effect.low, effect.high) == (None, -3.0, 3.0)
    assert found.groups[0].means["bought"].value == pytest.approx(0.3)
    assert found.groups[1].persons.value == pytest.approx(30.0)


def test_decode_group_without_any_event_still_has_an_interval() -> None:
    """Nobody of twenty bought: that is not certainty that nobody ever will."""
    total = LAYOUT.scale * np.array([20.0, 0.0, 0.0, 20.0, 0.0, 0.0])
    mean = decode(total, 0.0).groups[0].means["bought"]
    assert (mean.value, mean.low) == (0.0, 0.0)
    assert 0.05 < mean.high < 0.2


def test_decode_higher_confidence_is_wider() -> None:
    """Who looks at many metrics asks for more."""
    total = LAYOUT.scale * np.array([1_000.0, 100.0, 0.0, 1_000.0, 150.0, 0.0])
    narrow, wide = (decode(total, 1.0, confidence=c).effects[0].difference for c in (0.8, 0.999))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.value == narrow.value


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_std": -1.0},
        {"noise_std": math.nan},
        {"confidence": 1.0},
        {"groups": ["a", "a"]},
        {"groups": ["a"]},
        {"metrics": [OutcomeMetric(name="a"), OutcomeMetric(name="a")]},
        {"clip_norm": 0.0},
    ],
)
def test_decode_of_what_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    """A sum and its settings have to belong together."""
    with pytest.raises(ValueError, match="expected"):
        decode(np.ones(6), changes.pop("noise_std", 1.0), **changes)


def test_metric_bound_is_finite_and_positive() -> None:
    """Nothing else can be undone."""
    for bound in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="bound"):
            OutcomeMetric(name="a", bound=bound)
