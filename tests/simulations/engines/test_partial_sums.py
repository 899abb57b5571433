"""Shards hand over integers: the sum takes them, and refuses what cannot be a sum of theirs."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.wire import SparseVector
from privacy.bounded_sum import STEPS, BoundedSum
from privacy.errors import AlreadyReleasedError
from privacy.mechanisms import UnsafeNoNoise


def test_add_partial_same_as_adding_one_by_one() -> None:
    """A sum that another sum hands over in lattice steps counts like its contributions."""
    rng = np.random.default_rng(1)
    vectors = [rng.standard_normal(4).astype(np.float32) for _ in range(5)]
    whole = BoundedSum(dimension=4, clip_norm=1.0)
    for vector in vectors:
        whole.add(SparseVector.from_dense(vector))
    expected = whole.release(UnsafeNoNoise())
    steps = np.rint(expected * STEPS).astype(np.int64)
    merged = BoundedSum(dimension=4, clip_norm=1.0)
    merged.add_partial(steps, count=5)
    assert merged.count == 5
    np.testing.assert_array_equal(merged.release(UnsafeNoNoise()), expected)


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        (np.array([STEPS + 10_000, 0]), 1),
        (np.array([1, 0]), 0),
        (np.array([1, 0, 0]), 1),
        (np.array([1.0, 0.0]), 1),
        (np.array([0, 0]), -1),
    ],
)
def test_add_partial_what_is_no_such_sum_refused(steps: np.ndarray, count: int) -> None:
    """Too long for so many contributions, or of another shape: nothing is added."""
    total = BoundedSum(dimension=2, clip_norm=1.0)
    with pytest.raises(ValueError, match="contributions"):
        total.add_partial(steps, count=count)
    assert total.count == 0
    assert total.release(UnsafeNoNoise()).tolist() == [0.0, 0.0]


def test_add_partial_after_the_release_refused() -> None:
    """A released sum takes nothing more."""
    total = BoundedSum(dimension=2, clip_norm=1.0)
    total.release(UnsafeNoNoise())
    with pytest.raises(AlreadyReleasedError):
        total.add_partial(np.zeros(2, np.int64), count=0)
