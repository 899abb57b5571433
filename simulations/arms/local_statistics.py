"""Item statistics under local DP: each device noises what it sends, so nobody need be trusted.

Guarantee: what one device sends, both messages together, is (ε, δ)-differentially private against
everybody, the server included; ε is exact (two Gaussians are one). Each message is made by the code
that devices run (`client_sdk.federation`): encode, guard, add noise.

Neighbouring relation: replace one person's whole contribution by any other, hence sensitivity
2 · clip norm. This is a stronger claim than the central arms': compare ε with that in mind.

Whom one must trust: nobody.

Rules a reader can check line by line:

1. First every device sends its unit-norm history; the noisy sum chooses the top K and is the
   popularity. Then every device sends x x' over the top K, packed. The sums are decoded as those of
   the central arm are, told of their noise: √people times that of one device.
2. A person without a history, or without one of the top K, sends zeros with the same noise.
3. "As if ten times the people": the sum of ten times the people is ten times as large and has √10
   times the noise, so each device's noise is divided by √10.
4. Noise is keyed from a seed, for repeatable experiments: a forecast, no release.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from client_sdk.federation.guard import guard
from client_sdk.federation.local_noise import add_local_noise
from client_sdk.intelligence import History, RankerSettings, RankerTable, statistics_vector
from client_sdk.wire import SparseVector, pack_outer_product
from models.item_statistics import (
    StatisticsSettings,
    decode_item_statistics,
    select_top_items,
    suggest_top_items,
)
from privacy.gaussian import noise_multipliers_for
from simulations.data.interactions import FloatArray, IntArray

MECHANISM: Final = (
    "two Gaussian messages a device, item counts and packed x x', noised before they are sent; "
    "ε by the exact Gaussian curve"
)
CLIP_NORM: Final = 1.0
_KEY_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """How the statistics are asked for; the defaults by ``python -m benchmarks.arms --tune``.

    Attributes:
        counts_share: Of ρ, what the item counts take; in (0, 1).
        most_top_items: K at most, at least 1; a device's second message has K (K + 1) / 2 entries.
        statistics: How the sum is decoded.
    """

    counts_share: float = 0.9
    most_top_items: int = 16
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)

    def __post_init__(self) -> None:
        if not 0.0 < self.counts_share < 1.0 or self.most_top_items < 1:
            raise ValueError("counts_share must be in (0, 1) and most_top_items at least 1")


def local_multipliers(
    *, epsilon: float, delta: float, settings: LocalSettings
) -> tuple[float, float]:
    """Give the noise multipliers of a device's two messages."""
    shares = (settings.counts_share, 1.0 - settings.counts_share)
    counts, pairs = noise_multipliers_for(epsilon=epsilon, delta=delta, shares=shares)
    return counts, pairs


def learn_locally(
    histories: Sequence[History],
    n_items: int,
    *,
    multipliers: tuple[float, float],
    settings: LocalSettings,
    ranker: RankerSettings,
    seed: int,
    scale: float = 1.0,
) -> RankerTable:
    """Ask every device twice, and decode.

    Args:
        histories: One a person.
        n_items: Size of the catalogue.
        multipliers: Of `local_multipliers`.
        settings: How.
        ranker: What the release carries; it says how x is weighed.
        seed: >= 0, of the keys of the noise.
        scale: Simulated over assumed people, in (0, 1].

    Raises:
        ValueError: nobody is there, or a scale out of range.
    """
    if not histories or not 0.0 < scale <= 1.0:
        raise ValueError(f"expected people and a scale in (0, 1]; got {len(histories)}, {scale}")
    vectors = (_counts(history, n_items) for history in histories)
    counts, _ = sum_messages(vectors, multiplier=multipliers[0], seed=2 * seed, scale=scale)
    expected_std = 2.0 * CLIP_NORM * multipliers[1] * math.sqrt(scale * len(histories))
    wanted = suggest_top_items(people=len(histories), noise_std=expected_std, n_items=n_items)
    top = select_top_items(counts, min(wanted, settings.most_top_items))
    packed, std = sum_messages(
        (_pairs(history, top, ranker) for history in histories),
        multiplier=multipliers[1],
        seed=2 * seed + 1,
        scale=scale,
    )
    decoded = decode_item_statistics(
        packed,
        top_items=top,
        n_items=n_items,
        noise_std=std,
        noisy_counts=counts,
        settings=settings.statistics,
    )
    return RankerTable(**vars(decoded), settings=ranker)


def sum_messages(
    vectors: Iterable[SparseVector], *, multiplier: float, seed: int, scale: float = 1.0
) -> tuple[FloatArray, float]:
    """Let each device guard and noise its vector, and add up what arrives.

    Args:
        vectors: One a device, of one dimension; at least one.
        multiplier: Deviation of a device's noise over 2 · clip norm.
        seed: >= 0, of the keys.
        scale: Simulated over assumed people, in (0, 1].

    Returns:
        float64[d], the sum, and the standard deviation of the noise on each of its entries.
    """
    rng = np.random.default_rng(seed)
    damped = multiplier * math.sqrt(scale)
    total: FloatArray = np.zeros(0)
    reports = 0
    for vector in vectors:
        message = add_local_noise(
            guard(vector, dimension=vector.dimension, clip_norm=CLIP_NORM),
            clip_norm=CLIP_NORM,
            noise_multiplier=damped,
            new_key=lambda: rng.bytes(_KEY_BYTES),
        )
        total = total + message.to_dense() if reports else message.to_dense().astype(np.float64)
        reports += 1
    return total, 2.0 * CLIP_NORM * damped * math.sqrt(reports)


def _counts(history: History, n_items: int) -> SparseVector:
    """Encode as an order of item counts does; zeros for nobody's items."""
    items, values = statistics_vector(history, weighting="binary")
    return SparseVector(
        dimension=n_items, indices=np.array(items, np.int32), values=np.array(values, np.float32)
    )


def _pairs(history: History, top: IntArray, ranker: RankerSettings) -> SparseVector:
    """Encode as an order of item statistics does; zeros for none of the items."""
    positions, values = statistics_vector(
        history, weighting=ranker.weighting, half_life_days=ranker.half_life_days, within=top
    )
    return pack_outer_product(positions=positions, values=values, size=len(top))
