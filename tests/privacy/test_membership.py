"""Membership inference as statistics: pairs counted, limits that cover, tight bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.membership import auc, most_auc, most_true_positives, share_of, true_positives_at

few = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


@given(few, few)
def test_auc_counts_all_pairs(members: list[int], others: list[int]) -> None:
    """A pair counts one, a tie a half."""
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    found = auc(np.array(members, float), np.array(others, float), confidence=0.95)
    assert found.value == pytest.approx(np.mean(pairs))
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.5])
def test_auc_limits_cover_what_a_gaussian_release_allows(mu: float) -> None:
    """The best attack on it has the AUC that `most_auc` says; its lower limit is seldom above."""
    rng, runs = np.random.default_rng(1), 500
    misses, values = 0, []
    for _ in range(runs):
        found = auc(rng.standard_normal(200) + mu, rng.standard_normal(200), confidence=0.95)
        misses += found.low > most_auc(mu)
        values.append(found.value)
    assert misses / runs <= 0.05 + 5.0 * np.sqrt(0.05 * 0.95 / runs)
    assert np.mean(values) == pytest.approx(most_auc(mu), abs=0.01)


def test_true_positives_at_meets_the_trade_off_curve() -> None:
    """On a Gaussian release the best attack reaches the curve, and no more."""
    rng, mu = np.random.default_rng(2), 1.0
    found, wrong = true_positives_at(
        rng.standard_normal(100_000) + mu,
        rng.standard_normal(100_000),
        false_positive_rate=0.01,
        confidence=0.95,
    )
    assert wrong.value <= 0.01
    assert found.value == pytest.approx(most_true_positives(0.01, mu), abs=0.006)
    assert found.low < found.value < found.high


def test_true_positives_at_of_ties_counts_nobody() -> None:
    """Equal scores tell nobody apart."""
    found, wrong = true_positives_at(
        np.zeros(50), np.zeros(50), false_positive_rate=0.1, confidence=0.95
    )
    assert (found.value, wrong.value) == (0.0, 0.0)
    assert found.high > 0.0


def test_share_of_limits_cover() -> None:
    """Clopper-Pearson: each limit misses at most as often as stated, for a rare event."""
    rng, runs, total, rate = np.random.default_rng(3), 2000, 300, 0.02
    counts = rng.binomial(total, rate, size=runs)
    limits = {int(c): share_of(int(c), total, confidence=0.95) for c in np.unique(counts)}
    slack = 5.0 * np.sqrt(0.05 * 0.95 / runs)
    assert np.mean([limits[int(c)].low > rate for c in counts]) <= 0.05 + slack
    assert np.mean([limits[int(c)].high < rate for c in counts]) <= 0.05 + slack
    assert share_of(total, total, confidence=0.95).high == 1.0


@pytest.mark.parametrize("scores", [[1.0], [0.0, np.nan]])
def test_auc_of_scores_that_are_none_raises(scores: list[float]) -> None:
    """A NaN must not pass for a failed attack."""
    with pytest.raises(ValueError, match=r"two people|finite"):
        auc(np.array(scores), np.zeros(3), confidence=0.95)


@pytest.mark.parametrize("rate", [0.0, 1.0, np.nan])
def test_true_positives_at_no_rate_raises(rate: float) -> None:
    """A rate lies strictly between 0 and 1."""
    with pytest.raises(ValueError, match="strictly between"):
        true_positives_at(np.zeros(3), np.zeros(3), false_positive_rate=rate, confidence=0.95)
