"""The server half of learning a propensity together: from noisy mean changes to weights.

Each round, devices send how their own cases would move the weights
(`client_sdk.intelligence.propensity_steps`), clipped; the server gets the noisy sum over a fixed
report goal and takes one step with momentum (FedAvgM, Hsu, Qi, Brown 2019, arXiv 1909.06335). All
of it is post-processing of what was released. Momentum rather than Adam: its step is linear in the
sums, which is what the noise of a run (`privacy.factorisation`) is made for, and a root of noisy
squares would be mostly noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.propensity import PropensityWeights, parameter_count
from models.item_training import ServerOptimizer


@dataclass(frozen=True, kw_only=True, eq=False)
class PropensityState:
    """Everything that the next round needs.

    Attributes:
        weights: What every device of the next round starts from.
        velocity: float32[P], the running direction.
        rounds: How many sums were applied.
    """

    weights: PropensityWeights
    velocity: NDArray[np.float32]
    rounds: int


def initial_weights(
    *, centre: NDArray[Any], scale: NDArray[Any], hidden: int = 0, seed: int = 0
) -> PropensityWeights:
    """Start at zero; a layer's own weights at random from a public seed: equal units stay equal.

    Args:
        centre: float[d], what is taken from each feature; public, such as the middle of the range
            that the feature's definition states.
        scale: float[d], what each is multiplied by then, 0 or more; public as well.
        hidden: Units of the layer; 0 for logistic regression.
        seed: Of the generator (PCG64).

    Raises:
        ValueError: as `client_sdk.wire.propensity.PropensityWeights`.

    >>> initial_weights(centre=np.zeros(2), scale=np.ones(2)).parameters.tolist()
    [0.0, 0.0, 0.0]
    """
    features = len(centre)
    parameters = np.zeros(parameter_count(features, max(hidden, 0)), np.float32)
    width = features * max(hidden, 0)
    draw = np.random.default_rng(seed).standard_normal(width)
    parameters[:width] = draw / np.sqrt(max(features, 1))
    return PropensityWeights(
        hidden=hidden,
        centre=np.asarray(centre, np.float32),
        scale=np.asarray(scale, np.float32),
        parameters=parameters,
    )


def state_from_weights(weights: PropensityWeights) -> PropensityState:
    """Start from weights that exist: public ones, or those of an earlier run."""
    velocity = np.zeros_like(weights.parameters)
    return PropensityState(weights=weights, velocity=velocity, rounds=0)


def apply_mean_change(
    state: PropensityState,
    noisy_mean_change: NDArray[Any],
    optimizer: ServerOptimizer,
) -> PropensityState:
    """Take one server step.

    Args:
        state: From `state_from_weights` or the last call; not changed.
        noisy_mean_change: float[P], (clipped sum + noise) / report goal.
        optimizer: How to step.

    Raises:
        ValueError: another shape, not finite, or a step to weights that no order may carry.
    """
    change = np.asarray(noisy_mean_change, np.float32)
    before = state.weights.parameters
    if change.shape != before.shape or not np.isfinite(change).all():
        raise ValueError(f"the change must be finite float32[{before.size}]; got others")
    velocity = (optimizer.momentum * state.velocity + change).astype(np.float32)
    parameters = (before + optimizer.learning_rate * velocity).astype(np.float32)
    return replace(
        state,
        weights=replace(state.weights, parameters=parameters),
        velocity=velocity,
        rounds=state.rounds + 1,
    )
