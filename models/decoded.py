"""What a decoder gives: the arrays of a ranker release, in the form that both routes share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedRanker:
    """The arrays of a ranker table; the release writer turns them into a `RankerTable`.

    Attributes:
        factors: float32[n, r] item factors, zero outside the top K.
        self_weight: float32[n] in [0, 1).
        scale: float32[n] > 0.
        bias: float32[n].
        popularity: float32[n] in [0, 1].
    """

    factors: NDArray[np.float32]
    self_weight: NDArray[np.float32]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    popularity: NDArray[np.float32]


def popularity_from_counts(counts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn (noisy) counts into popularity: negative counts are noise, the largest is 1.

    Args:
        counts: float64[n].

    Returns:
        float32[n] in [0, 1]; zeros where no count is positive.

    Example:
        >>> popularity_from_counts(np.array([4.0, -1.0, 2.0])).tolist()
        [1.0, 0.0, 0.5]
    """
    positive = np.maximum(counts, 0.0)
    top = positive.max(initial=0.0)
    share: NDArray[np.float32] = (positive / top if top > 0 else positive).astype(np.float32)
    return share
