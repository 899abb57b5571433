"""Weights that travel: what is written is read back, and nonsense is refused whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire.propensity import (
    FARTHEST,
    LARGEST,
    MAX_FEATURES,
    MAX_HIDDEN,
    PropensityWeights,
    parameter_count,
    standardise,
)


def weights(features: int = 2, hidden: int = 0, **changes: Any) -> PropensityWeights:
    """Weights that count up."""
    length = parameter_count(features, hidden)
    fields = {
        "hidden": hidden,
        "centre": np.zeros(features, np.float32),
        "scale": np.ones(features, np.float32),
        "parameters": np.arange(length, dtype=np.float32),
    }
    return PropensityWeights(**{**fields, **changes})


@pytest.mark.parametrize("hidden", [0, 3])
def test_payload_written_reads_back_to_the_bit(hidden: int) -> None:
    """Both shapes of the graph."""
    sent = weights(4, hidden, centre=np.array([0.1, -2.0, 1e6, 0.0], np.float32))
    read = PropensityWeights.from_payload(sent.to_payload(), features=4, hidden=hidden)
    assert read.to_payload() == sent.to_payload()
    assert np.array_equal(read.centre, sent.centre)
    assert np.array_equal(read.parameters, sent.parameters)


@given(payload=st.binary(max_size=64), features=st.integers(-2, 4), hidden=st.integers(-2, 3))
def test_payload_of_any_bytes_is_weights_in_bounds_or_refused(
    payload: bytes, features: int, hidden: int
) -> None:
    """Reading is total."""
    try:
        read = PropensityWeights.from_payload(payload, features=features, hidden=hidden)
    except ValueError:
        return
    assert np.abs(read.parameters).max() <= LARGEST
    assert (read.n_features, read.hidden, len(payload)) == (features, hidden, 4 * (
        2 * features + parameter_count(features, hidden)
    ))  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": np.array([0.0, np.nan, 0.0], np.float32)},
        {"parameters": np.array([0.0, np.inf, 0.0], np.float32)},
        {"parameters": np.array([0.0, 2 * LARGEST, 0.0], np.float32)},
        {"parameters": np.zeros(4, np.float32)},
        {"parameters": np.zeros(3)},
        {"scale": np.array([1.0, -1.0], np.float32)},
        {"scale": np.ones(3, np.float32)},
        {"centre": np.array([np.nan, 0.0], np.float32)},
        {"centre": np.zeros(0, np.float32)},
        {"hidden": -1},
        {"hidden": MAX_HIDDEN + 1},
        {"centre": np.zeros(MAX_FEATURES + 1, np.float32)},
    ],
)
def test_weights_out_of_bounds_are_refused(changes: dict[str, Any]) -> None:
    """What no order may carry is never made."""
    with pytest.raises(ValueError, match="expected"):
        weights(**changes)


def test_standardise_far_or_overflowing_numbers_are_cut() -> None:
    """One wild number moves a step by `FARTHEST` at most; a scale of 0 leaves a feature out."""
    huge = np.float32(3e38)
    rows = np.array([[huge, huge, 5.0], [-huge, 1.0, 5.0]], np.float32)
    found = standardise(
        rows,
        centre=np.array([0.0, 0.0, 4.0], np.float32),
        scale=np.array([1e6, 0.0, 2.0], np.float32),
    )
    assert found.dtype == np.float32
    assert found.tolist() == [[FARTHEST, 0.0, 2.0], [-FARTHEST, 0.0, 2.0]]
