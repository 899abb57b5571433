"""Rounds that refine item factors: alternating least squares as bounded sums.

Item statistics are linear in what a person did; the factors here are fitted to people who each
solve for their own vector, as iALS does (Hu, Koren, Volinsky 2008), with the regularisation that
grows with frequency (Rendle, Krichene, Zhang, Koren 2021, arXiv 2110.14037). Rules a reader can
check line by line:

1. Each round ships V, K x r. A device solves u = (V_S' V_S + a V'V + l (n + a K) I)^-1 V_S' 1 over
   the n rows S of its history, and sends one vector: (1 - u v_i) u for each i of S, the packed
   u u', and the packed n / n_top u u' (n_top: `LONGEST`). Milliseconds; u itself stays.
2. The vector is scaled to an L2 norm of at most ``clip``: the sum's sensitivity. The server sees
   the sum over people and nothing else.
3. The server moves each row by one preconditioned step: with the sum D_i of the first part, S and T
   of the others, v_i += P_i^-1 (D_i - a S v_i - l_i v_i), P_i = n_i T / N + a S + l_i I, where N is
   the sum of counts and l_i = l (n_i + a U). Exact ALS has the sum of u u' over those who had item
   i in the place of n_i T / N: K r^2 numbers, not K r.
4. `solved_table` gives V in coordinates in which a V'V + l (n + a K) I is a multiple of I: so it is
   the ridge form that every device has (`client_sdk.intelligence.solve_private_vector`).

Nothing here adds noise: the rounds are for the rows without noise, and no row with epsilon uses
them. They are no task of the product either: `TaskKind.ITEM_TRAINING` has other gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence import RankerSettings, RankerTable

LONGEST: Final = 2_500
"""A history's public upper length: longer ones count as this long in the third part."""

Factors = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How a round is solved, summed and applied.

    Attributes:
        rank: r, >= 1.
        rounds: how many, >= 1.
        unseen: a, the weight of a pair that was not seen, beside 1 for one that was; > 0.
        penalty: l, > 0.
        clip: the largest L2 norm of a contribution, > 0.
    """

    rank: int = 64
    rounds: int = 4
    unseen: float = 0.1
    penalty: float = 0.01
    clip: float = 25.0

    def __post_init__(self) -> None:
        """Refuse what can't be a setting."""
        if self.rank < 1 or self.rounds < 1:
            raise ValueError("rank and rounds must be >= 1")
        if not (self.unseen > 0 and self.penalty > 0 and self.clip > 0):
            raise ValueError("unseen, penalty and clip must be > 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundSum:
    """The sum over devices of one round.

    Attributes:
        rows: float64[K, r], the sum of (1 - u v_i) u.
        people: float64[r, r], the sum of u u'.
        pairs: float64[r, r], the sum of n u u'.
        clipped: how many contributions were longer than the clip norm.
    """

    rows: Factors
    people: Factors
    pairs: Factors
    clipped: int


def solve_person(factors: Factors, items: NDArray[np.int64], base: Factors) -> Factors:
    """Solve for u on the device.

    Args:
        factors: float64[K, r], V of the round.
        items: int64[n], the person's history.
        base: float64[r, r], a V'V + l (n + a K) I.

    Returns:
        float64[r].
    """
    rows = factors[items]
    solved: Factors = np.linalg.solve(rows.T @ rows + base, rows.sum(axis=0))
    return solved


def contribute(
    factors: Factors, items: NDArray[np.int64], u: Factors, clip: float
) -> tuple[Factors, Factors, float, float]:
    """Give a device's contribution, its norm at most ``clip``.

    Returns:
        float64[n, r] for the rows ``items``; u u' as float64[r, r]; what u u' counts for in the
        third part; the factor that the clip took, 1 where nothing was.
    """
    misses = 1.0 - factors[items] @ u
    rows, outer = misses[:, None] * u, np.outer(u, u)
    share = min(len(items), LONGEST) / LONGEST
    # Packing is isometric: the packed outer product is as long as the square one.
    length = float(np.linalg.norm(u)) * float(
        np.sqrt(misses @ misses + (1.0 + share * share) * (u @ u))
    )
    kept = min(1.0, clip / length) if length > 0 else 1.0
    return rows * kept, outer * kept, share, kept


def gather(
    factors: Factors, histories: Sequence[NDArray[np.int64]], settings: RoundSettings
) -> RoundSum:
    """Add up one round's contributions."""
    size, rank = factors.shape
    everything = settings.unseen * factors.T @ factors
    rows, people, pairs = np.zeros((size, rank)), np.zeros((rank, rank)), np.zeros((rank, rank))
    clipped = 0
    for items in histories:
        penalty = settings.penalty * (len(items) + settings.unseen * size)
        u = solve_person(factors, items, everything + penalty * np.eye(rank))
        own, outer, share, kept = contribute(factors, items, u, settings.clip)
        rows[items] += own
        people += outer
        pairs += outer * (share * LONGEST)
        clipped += kept < 1.0
    return RoundSum(rows=rows, people=people, pairs=pairs, clipped=clipped)


def step(
    factors: Factors,
    found: RoundSum,
    counts: NDArray[np.float64],
    people: int,
    settings: RoundSettings,
) -> Factors:
    """Apply a round's sum: rule 3.

    Args:
        factors: float64[K, r], V of the round.
        found: its sum.
        counts: float64[K], how many people had each item.
        people: U, how many contributed.
        settings: of the rounds.

    Returns:
        float64[K, r], the next V.
    """
    rank = factors.shape[1]
    penalty = settings.penalty * (counts + settings.unseen * people)
    shared = settings.unseen * found.people
    slopes = found.rows - factors @ shared - penalty[:, None] * factors
    mean = found.pairs / counts.sum()
    curved = counts[:, None, None] * mean + shared + penalty[:, None, None] * np.eye(rank)
    moved: Factors = factors + np.linalg.solve(curved, slopes[:, :, None])[:, :, 0]
    return moved


def refine(
    start: Factors,
    histories: Sequence[NDArray[np.int64]],
    counts: NDArray[np.float64],
    settings: RoundSettings,
    on_round: Callable[[int, Factors, RoundSum], None] | None = None,
) -> Factors:
    """Run the rounds.

    Args:
        start: float64[K, r], the first V, not 0.
        histories: int64[n] a person, distinct items.
        counts: float64[K], an earlier sum.
        settings: of the rounds.
        on_round: called after each with its number, the new V and the sum.

    Returns:
        float64[K, r].
    """
    if start.shape != (len(counts), settings.rank):
        raise ValueError(f"start must be float64[{len(counts)}, {settings.rank}]")
    factors = np.asarray(start, np.float64)
    for number in range(settings.rounds):
        found = gather(factors, histories, settings)
        factors = step(factors, found, counts, len(histories), settings)
        if on_round is not None:
            on_round(number, factors, found)
    return factors


def solved_table(
    factors: Factors, popularity: NDArray[np.float64], length: float, settings: RoundSettings
) -> RankerTable:
    """Give the release in the ranker's ridge form.

    Args:
        factors: float64[K, r], V.
        popularity: float64[K] in [0, 1].
        length: the number of items for which it is rule 1 exactly, > 0; for n other items the
            ranker's unit norm makes the penalty sqrt(n / length) times as large.
        settings: of the rounds.

    Returns:
        The table V R^-T with R R' = (a V'V + l (length + a K) I) / sqrt(length), ridge 1.
    """
    size, rank = factors.shape
    penalty = settings.penalty * (length + settings.unseen * size)
    base = settings.unseen * factors.T @ factors + penalty * np.eye(rank)
    root = np.linalg.cholesky(base / np.sqrt(length))
    return RankerTable(
        factors=np.linalg.solve(root, factors.T).T.astype(np.float32),
        self_weight=np.zeros(size, np.float32),
        scale=np.ones(size, np.float32),
        bias=np.zeros(size, np.float32),
        popularity=popularity.astype(np.float32),
        settings=RankerSettings(
            form="ridge",
            ridge=1.0,
            weighting="binary",
            half_life_days=float("inf"),
            own_weight=0.0,
            popularity_weight=0.0,
        ),
    )
