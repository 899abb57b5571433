"""The server half of item training: a table that takes steps along noisy mean updates.

Each device solves its private vector on the table, takes a few steps on the rows it used, and sends
the change of those rows, clipped (`client_sdk.intelligence.item_training`). The server sees the
noisy mean of the changes only. State is explicit: `initial_state`, then `apply_sum`, as in fedjax.

The optimiser is FedAdam or FedAvgM (Reddi et al. 2021, arXiv 2003.00295): the noisy mean is the
direction of descent itself, so it is added, not subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.decoded import DecodedRanker, popularity_from_counts

Optimizer = Literal["adam", "momentum"]
OPTIMIZERS: Final[tuple[Optimizer, ...]] = ("adam", "momentum")


@dataclass(frozen=True, kw_only=True)
class ServerOptimizer:
    """How the server steps.

    Attributes:
        kind: ``adam`` or ``momentum``.
        learning_rate: > 0.
        momentum: beta 1, in [0, 1).
        second_moment: beta 2 of Adam, in [0, 1).
        floor: Adam's epsilon, > 0; of the size of the noise, so that noise isn't scaled up.
    """

    kind: Optimizer = "momentum"
    learning_rate: float = 1.0
    momentum: float = 0.9
    second_moment: float = 0.99
    floor: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse what can't step."""
        if self.kind not in OPTIMIZERS:
            raise ValueError(f"kind must be one of {OPTIMIZERS}, got {self.kind!r}")
        if not (self.learning_rate > 0 and self.floor > 0):
            raise ValueError("learning_rate and floor must be > 0")
        if not (0 <= self.momentum < 1 and 0 <= self.second_moment < 1):
            raise ValueError("momentum and second_moment must be in [0, 1)")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """Everything that the next round needs.

    Attributes:
        factors: float32[n, r], the table.
        first: float32[n, r], the running direction.
        second: float32[n, r], the running square; zeros for momentum.
        rounds: how many sums were applied.
    """

    factors: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]
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
    zeros = np.zeros(factors.shape, np.float32)
    return TrainingState(factors=factors.astype(np.float32), first=zeros, second=zeros, rounds=0)


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
    rounds = state.rounds + 1
    if chosen.kind == "momentum":
        first = (chosen.momentum * state.first + delta).astype(np.float32)
        step = chosen.learning_rate * first
        second = state.second
    else:
        first = (chosen.momentum * state.first + (1 - chosen.momentum) * delta).astype(np.float32)
        beta = chosen.second_moment
        second = (beta * state.second + (1 - beta) * delta * delta).astype(np.float32)
        unbiased = first / (1 - chosen.momentum**rounds)
        spread = np.sqrt(second / (1 - beta**rounds))
        step = chosen.learning_rate * unbiased / (spread + chosen.floor)
    factors = (state.factors + step).astype(np.float32)
    return replace(state, factors=factors, first=first, second=second, rounds=rounds)


def decode_trained(
    state: TrainingState, noisy_counts: NDArray[np.float64] | None = None
) -> DecodedRanker:
    """Give the table in the trained form: self_weight 0, scale 1, bias 0 (settings: form "ridge").

    Args:
        state: after any number of rounds.
        noisy_counts: float64[n], a release of item counts, for popularity.
    """
    n = len(state.factors)
    if noisy_counts is not None and noisy_counts.shape != (n,):
        raise ValueError(f"noisy_counts must be float64[{n}], got {noisy_counts.shape}")
    counts = np.zeros(n, np.float64) if noisy_counts is None else noisy_counts
    return DecodedRanker(
        factors=state.factors,
        self_weight=np.zeros(n, np.float32),
        scale=np.ones(n, np.float32),
        bias=np.zeros(n, np.float32),
        popularity=popularity_from_counts(counts),
    )
