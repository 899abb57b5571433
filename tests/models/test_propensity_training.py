"""The server's step of propensity training, and where it starts."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.wire.propensity import LARGEST
from models.item_training import ServerOptimizer
from models.propensity_training import apply_mean_change, initial_weights, state_from_weights

PLAIN = ServerOptimizer(learning_rate=2.0, momentum=0.5)


def test_initial_weights_of_a_layer_differ_and_come_from_the_seed() -> None:
    """Equal units would stay equal; all else is zero, and the seed decides."""
    start = initial_weights(centre=np.zeros(3), scale=np.ones(3), hidden=2, seed=4)
    again = initial_weights(centre=np.zeros(3), scale=np.ones(3), hidden=2, seed=4)
    other = initial_weights(centre=np.zeros(3), scale=np.ones(3), hidden=2, seed=5)
    layer = start.parameters[:6].reshape(3, 2)
    assert (layer[:, 0] != layer[:, 1]).all()
    assert not start.parameters[6:].any()
    assert np.array_equal(start.parameters, again.parameters)
    assert not np.array_equal(start.parameters, other.parameters)


def test_apply_mean_change_steps_with_momentum() -> None:
    """The velocity is m v + mean, the step rate v; what came before is not changed."""
    state = state_from_weights(initial_weights(centre=np.zeros(1), scale=np.ones(1)))
    first = apply_mean_change(state, np.array([1.0, -2.0]), PLAIN)
    second = apply_mean_change(first, np.array([1.0, 0.0]), PLAIN)
    assert first.weights.parameters.tolist() == [2.0, -4.0]
    assert second.weights.parameters.tolist() == [5.0, -6.0]
    assert second.rounds == 2
    assert not state.weights.parameters.any()


@pytest.mark.parametrize(
    "change", [np.zeros(3), np.array([0.0, np.nan]), np.array([0.0, np.inf]), np.full(2, LARGEST)]
)
def test_apply_mean_change_nonsense_is_refused(change: np.ndarray) -> None:
    """Another shape, not finite, or so far that no order could carry it."""
    state = state_from_weights(initial_weights(centre=np.zeros(1), scale=np.ones(1)))
    with pytest.raises(ValueError, match=r"expected|must be"):
        apply_mean_change(state, change, PLAIN)
