"""The server half of item training: a table that takes steps along noisy mean updates.

Each device solves its private vector on the table, takes a few steps on the rows it used, and sends
the change of those rows, clipped (`client_sdk.intelligence.item_training`). The server sees the
noisy mean of the changes only. State is explicit: `initial_state`, then `apply_sum`, as in fedjax.

The optimiser is FedAvgM (Hsu et al. 2019, arXiv 1909.06335): the noisy mean is the direction of
descent itself, so it is added, not subtracted. It is linear, so the noise that has gathered in the
table is known exactly, and `decode_trained` removes what cannot be told from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.decoded import DecodedRanker, popularity_from_counts


@dataclass(frozen=True, kw_only=True)
class ServerOptimizer:
    """How the server steps; the defaults were chosen by ``python -m simulations.tune_training``.

    Attributes:
        learning_rate: > 0.
        momentum: how much of the last step is kept, in [0, 1).
    """

    learning_rate: float = 30.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what can't step."""
        if not self.learning_rate > 0:
            raise ValueError("learning_rate must be > 0")
        if not 0 <= self.momentum < 1:
            raise ValueError("momentum must be in [0, 1)")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """Everything that the next round needs.

    Attributes:
        factors: float32[n, r], the table.
        velocity: float32[n, r], the running direction.
        rounds: how many sums were applied.
    """

    factors: NDArray[np.float32]
    velocity: NDArray[np.float32]
    rounds: int


def initial_state(*, n_items: int, rank: int, seed: int, std: float = 0.1) -> TrainingState:
    """Start from a small random table, normal, from a public seed.

    Args:
        n_items: size of the catalogue, >= 1.
        rank: number of factors, >= 1.
        seed: of the generator (PCG64).
        std: deviation of |f|, > 0; each factor has std / sqrt(rank).
    """
    if n_items < 1 or rank < 1 or not std > 0:
        raise ValueError("n_items and rank must be >= 1 and std > 0")
    draw = np.random.default_rng(seed).standard_normal((n_items, rank))
    return state_from_factors((draw * std / np.sqrt(rank)).astype(np.float32))


def state_from_factors(factors: NDArray[np.float32]) -> TrainingState:
    """Start from a table that exists, such as one decoded from item statistics."""
    if factors.ndim != 2 or not np.all(np.isfinite(factors)):
        raise ValueError("factors must be float32[n, r] and finite")
    return TrainingState(
        factors=factors.astype(np.float32),
        velocity=np.zeros(factors.shape, np.float32),
        rounds=0,
    )


def apply_sum(
    state: TrainingState,
    noisy_mean_delta: NDArray[np.float32],
    optimizer: ServerOptimizer | None = None,
) -> TrainingState:
    """Take one server step.

    Args:
        state: from `initial_state` or the last call; not changed.
        noisy_mean_delta: float32[n, r], (clipped sum + noise) / report goal, over the whole table.
        optimizer: how to step.

    Returns:
        The next state.

    Raises:
        ValueError: when the shape differs or a value is not finite.
    """
    chosen = ServerOptimizer() if optimizer is None else optimizer
    delta = np.asarray(noisy_mean_delta, np.float32)
    if delta.shape != state.factors.shape or not np.all(np.isfinite(delta)):
        raise ValueError(f"the delta must be finite float32{list(state.factors.shape)}")
    velocity = (chosen.momentum * state.velocity + delta).astype(np.float32)
    factors = (state.factors + chosen.learning_rate * velocity).astype(np.float32)
    return replace(state, factors=factors, velocity=velocity, rounds=state.rounds + 1)


def gathered_noise_std(
    *,
    noise_std: float,
    rounds: int,
    optimizer: ServerOptimizer | None = None,
    noise_column: NDArray[np.float64] | None = None,
) -> float:
    """Give the deviation of the noise that all rounds together left in each entry of the table.

    The noise of a round with k rounds after it is added 1 + m + ... + m^k times. Where the rounds'
    noise hangs together, white noise of round s is in the noise of round t >= s with the factor
    ``noise_column[t - s]``, and much of it is taken back.

    Args:
        noise_std: of each entry of a round's white noise, over the report goal, >= 0; the same in
            every round.
        rounds: how many, >= 0.
        optimizer: how the server stepped.
        noise_column: float64[>= rounds], first column of the inverse strategy; None for rounds of
            independent noise.

    Example:
        >>> plain = ServerOptimizer(learning_rate=2.0, momentum=0.0)
        >>> gathered_noise_std(noise_std=1.0, rounds=4, optimizer=plain)
        4.0
    """
    chosen = ServerOptimizer() if optimizer is None else optimizer
    times = np.cumsum(chosen.momentum ** np.arange(rounds))
    if noise_column is not None:
        times = np.convolve(times, noise_column[:rounds])[:rounds]
    return float(noise_std * chosen.learning_rate * np.sqrt(np.sum(times**2)))


def remove_noise(table: NDArray[np.float64], noise_std: float) -> NDArray[np.float64]:
    """Shrink the singular values of a noisy table; what lies below the noise edge becomes 0.

    The shrinkage is optimal in the Frobenius norm (Gavish, Donoho 2017, arXiv 1405.7511). It takes
    the noise for independent of the table; in training, later updates saw earlier noise, so it is a
    good rule, not a theorem. It is post-processing, and costs no privacy.

    Args:
        table: float64[n, r] with n >= r.
        noise_std: deviation of independent noise in each entry, >= 0.

    Example:
        >>> bool(np.any(remove_noise(np.random.default_rng(0).standard_normal((400, 4)), 1.2)))
        False
    """
    if noise_std == 0:
        return table
    n, rank = table.shape
    left, values, right = np.linalg.svd(table, full_matrices=False)
    unit, aspect = noise_std * np.sqrt(n), rank / n
    scaled = np.maximum(values / unit, 1.0 + np.sqrt(aspect))
    room = (scaled**2 - aspect - 1.0) ** 2 - 4.0 * aspect
    # At the edge the room is 0, but for rounding.
    shrunk = np.sqrt(np.where(room > 1e-12, room, 0.0)) / scaled
    cleaned: NDArray[np.float64] = (left * (shrunk * unit)) @ right
    return cleaned


def decode_trained(
    state: TrainingState,
    noisy_counts: NDArray[np.float64] | None = None,
    *,
    table_noise_std: float = 0.0,
) -> DecodedRanker:
    """Give the table in the trained form: self_weight 0, scale 1, bias 0 (settings: form "ridge").

    Args:
        state: after any number of rounds.
        noisy_counts: float64[n], a release of item counts, for popularity.
        table_noise_std: deviation of the noise in the table (`gathered_noise_std`), >= 0.
    """
    n = len(state.factors)
    if noisy_counts is not None and noisy_counts.shape != (n,):
        raise ValueError(f"noisy_counts must be float64[{n}], got {noisy_counts.shape}")
    counts = np.zeros(n, np.float64) if noisy_counts is None else noisy_counts
    factors = remove_noise(state.factors.astype(np.float64), table_noise_std)
    return DecodedRanker(
        factors=factors.astype(np.float32),
        self_weight=np.zeros(n, np.float32),
        scale=np.ones(n, np.float32),
        bias=np.zeros(n, np.float32),
        popularity=popularity_from_counts(counts),
    )
