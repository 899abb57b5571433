"""The one operation of the aggregator: add up bounded vectors, exactly, and release once.

Guarantee: taking one person out changes the integer sum by at most `STEPS` in L2, *exactly*: each
contribution is clipped in float64, truncated toward zero to an integer lattice of step
``clip_norm / STEPS``, and its integer norm is then checked with integer arithmetic
(``Σ nᵢ² <= STEPS²``). No float enters the sum, so no rounding can stretch the sensitivity
(Casacuberta et al. 2022, arXiv 2207.10635), and the order of arrival cannot change a bit.

Neighbouring relation: add or remove one person; a person is in one sum once (the caller admits
one contribution for each device).

Edge cases:

| contribution | outcome |
|---|---|
| norm at most clip_norm | kept, to within one lattice step an entry |
| norm above clip_norm, up to the largest float32 | scaled down to clip_norm |
| all zero, or no entries | added: it counts, it changes nothing |
| NaN or infinite anywhere | `ContributionRejectedError` (NOT_FINITE); the sum is unchanged |
| another dimension | `ContributionRejectedError` (WRONG_SHAPE); the sum is unchanged |
| after the release | `AlreadyReleasedError` |
| a second release | `AlreadyReleasedError`, also where the first one failed half way |
| more than `MAX_CONTRIBUTIONS` | `SumOverflowError`: int64 holds 2³² full entries of 2³⁰ twice |

Test: tests/privacy/test_bounded_sum.py.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Refusal, SparseVector
from privacy.errors import AlreadyReleasedError, ContributionRejectedError, SumOverflowError
from privacy.mechanisms import Mechanism

STEPS: Final = 2**30
MAX_CONTRIBUTIONS: Final = 2**32

_SHRINK: Final = 1.0 - 2.0**-40


class BoundedSum:
    """A sum of clipped vectors on an integer lattice. For one thread; memory is O(dimension).

    Args:
        dimension: Length of every contribution.
        clip_norm: Largest L2 norm of one contribution, in [1e-100, 1e100].

    Raises:
        ValueError: dimension below 1, or a clip norm that is not such a number.

    >>> from privacy.mechanisms import UnsafeNoNoise
    >>> total = BoundedSum(dimension=2, clip_norm=1.0)
    >>> total.add(SparseVector.from_dense(np.array([0.0, 5.0], np.float32)))
    >>> total.add(SparseVector.from_dense(np.array([0.5, 0.5], np.float32)))
    >>> total.count, total.release(UnsafeNoNoise()).tolist()
    (2, [0.5, 1.5])
    """

    def __init__(self, *, dimension: int, clip_norm: float) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1; got {dimension}")
        if not 1e-100 <= clip_norm <= 1e100:
            raise ValueError(f"clip_norm must lie in [1e-100, 1e100]; got {clip_norm}")
        self._clip_norm = float(clip_norm)
        self._sum = np.zeros(dimension, dtype=np.int64)
        self._count = 0
        self._released = False

    @property
    def dimension(self) -> int:
        """Length of every contribution."""
        return int(self._sum.size)

    @property
    def clip_norm(self) -> float:
        """Largest L2 norm of one contribution."""
        return self._clip_norm

    @property
    def count(self) -> int:
        """How many contributions were added."""
        return self._count

    def add(self, vector: SparseVector) -> None:
        """Clip one contribution and add it.

        Raises:
            ContributionRejectedError: wrong dimension, or not finite; nothing was added.
            AlreadyReleasedError: the sum was released.
            SumOverflowError: the sum holds as many contributions as it can.
        """
        if self._released:
            raise AlreadyReleasedError("this sum was released; start a new task")
        if vector.dimension != self.dimension:
            raise ContributionRejectedError(Refusal.WRONG_SHAPE)
        if self._count >= MAX_CONTRIBUTIONS:
            raise SumOverflowError(f"a sum holds at most {MAX_CONTRIBUTIONS} contributions")
        steps = to_lattice(vector.values, clip_norm=self._clip_norm)
        if steps.size == self._sum.size:
            self._sum += steps
        else:
            # Plain indexing adds each entry once because a SparseVector's indices are unique.
            self._sum[vector.indices] += steps
        self._count += 1

    def release(self, mechanism: Mechanism) -> NDArray[np.float64]:
        """Add noise and hand out the sum, once and for all.

        Args:
            mechanism: What adds the noise, in lattice steps.

        Returns:
            float64[dimension], in the units of the contributions.

        Raises:
            AlreadyReleasedError: it was released before; noise is never drawn twice for one sum.
        """
        if self._released:
            raise AlreadyReleasedError("this sum was released; noise is never drawn twice for it")
        self._released = True
        noisy = self._sum + mechanism.noise_steps(dimension=self.dimension, sensitivity=STEPS)
        self._sum = np.zeros(self.dimension, dtype=np.int64)
        return noisy.astype(np.float64) * (self._clip_norm / STEPS)


def to_lattice(values: NDArray[np.float32], *, clip_norm: float) -> NDArray[np.int64]:
    """Clip to ``clip_norm`` in float64, then truncate toward zero to the lattice.

    Returns:
        int64[m] with ``Σ nᵢ² <= STEPS²``, checked in integers.

    Raises:
        ContributionRejectedError: a value is NaN or infinite.

    >>> to_lattice(np.array([3.0, 4.0], np.float32), clip_norm=5.0).tolist() == [
    ...     STEPS * 3 // 5, STEPS * 4 // 5]
    True
    """
    wide = values.astype(np.float64)
    # A sum, not a BLAS dot: starting BLAS threads costs more than these few numbers.
    norm = math.sqrt(float(np.square(wide).sum()))
    if not math.isfinite(norm):
        raise ContributionRejectedError(Refusal.NOT_FINITE)
    wide *= STEPS / max(norm, clip_norm)
    steps = wide.astype(np.int64)
    while int(steps @ steps) > STEPS * STEPS:
        wide *= _SHRINK
        steps = wide.astype(np.int64)
    return steps
