"""Local DP: the noise of every device, what it costs, and what is left without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client_sdk.intelligence import RankerSettings, statistics_vector
from client_sdk.wire import SparseVector
from models.item_statistics import decode_item_statistics
from privacy.gaussian import composed_noise_multiplier, epsilon_of
from privacy.local import LocalGaussian
from simulations.arms import Arms
from simulations.arms.local_statistics import (
    LocalSettings,
    learn_locally,
    local_multipliers,
    sum_messages,
)

ITEMS = 24
BINARY = RankerSettings(half_life_days=float("inf"))
SETTINGS = LocalSettings(most_top_items=8)


def test_local_multipliers_together_cost_the_budget() -> None:
    """Two messages of one device are one Gaussian, exactly at ε."""
    multipliers = local_multipliers(epsilon=4.0, delta=1e-6, settings=SETTINGS)
    both = composed_noise_multiplier(multipliers)
    assert epsilon_of(delta=1e-6, noise_multiplier=both) == pytest.approx(4.0, rel=1e-6)


def test_sum_messages_carries_the_noise_of_every_device() -> None:
    """√people times one device's noise at sensitivity 2 (`privacy.local`), and not half of it."""
    vectors = [SparseVector.from_dense(np.zeros(2_000, np.float32)) for _ in range(40)]
    total, std = sum_messages(vectors, multiplier=1.5, seed=3)
    expected = LocalGaussian(clip_norm=1.0, noise_multiplier=1.5).sum_std(reports=40)
    assert std == pytest.approx(expected)
    measured = float(np.std(total))
    # 2,000 values: the deviation of a deviation is 1.6 %.
    assert measured == pytest.approx(expected, rel=0.06)
    assert measured != pytest.approx(0.5 * expected, rel=0.2)
    assert measured != pytest.approx(expected / np.sqrt(40), rel=0.2)


def test_sum_messages_larger_population_has_less_noise_by_its_root() -> None:
    """A hundred times the people: a tenth of the noise on the sum of those there are."""
    vectors = [SparseVector.from_dense(np.zeros(2_000, np.float32)) for _ in range(10)]
    one, std = sum_messages(vectors, multiplier=1.0, seed=3)
    many, less = sum_messages(vectors, multiplier=1.0, seed=3, scale=0.01)
    assert less == pytest.approx(std / 10.0)
    assert float(np.std(many)) == pytest.approx(float(np.std(one)) / 10.0, rel=1e-3)


def test_sum_messages_long_vector_is_clipped_first() -> None:
    """A device never says more than its clip norm, whatever its encoder made."""
    long = SparseVector.from_dense(np.full(4, 10.0, np.float32))
    total, _ = sum_messages([long], multiplier=1e-9, seed=0)
    assert np.linalg.norm(total) == pytest.approx(1.0, abs=1e-6)


def test_learn_locally_almost_without_noise_is_the_exact_decode(shop: Arms) -> None:
    """The same table as from the exact sums over the same items; zeros for who has nothing."""
    table = learn_locally(
        shop.histories,
        ITEMS,
        multipliers=(1e-9, 1e-9),
        settings=SETTINGS,
        ranker=BINARY,
        seed=0,
    )
    counts = np.zeros(ITEMS)
    for history in shop.histories:
        items, values = statistics_vector(history, weighting="binary")
        counts[items] += values
    top = np.sort(np.argsort(-counts, kind="stable")[:8]).astype(np.int32)
    gram = np.zeros((8, 8))
    for history in shop.histories:
        positions, values = statistics_vector(history, weighting="binary", within=top)
        gram[np.ix_(positions, positions)] += np.outer(values, values)
    rows, columns = np.triu_indices(8)
    packed = gram[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    exact = decode_item_statistics(
        packed, top_items=top, n_items=ITEMS, noise_std=0.0, noisy_counts=counts
    )
    assert table.factors @ table.factors.T == pytest.approx(
        exact.factors @ exact.factors.T, abs=1e-3
    )
    assert table.popularity == pytest.approx(exact.popularity, abs=1e-3)


def test_learn_locally_nobody_raises() -> None:
    """There must be somebody to ask, and a scale that means something."""
    with pytest.raises(ValueError, match="expected people"):
        learn_locally([], ITEMS, multipliers=(1.0, 1.0), settings=SETTINGS, ranker=BINARY, seed=0)
    with pytest.raises(ValueError, match="counts_share"):
        replace(SETTINGS, counts_share=0.0)
