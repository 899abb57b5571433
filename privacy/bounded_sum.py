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
| ``one_entry``, and two entries that are not zero | the same |
| discrete Laplace (an L1 mechanism), not ``one_entry`` | `ValueError` from `release`; no sum |
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
from privacy.events import MechanismName
from privacy.mechanisms import Mechanism

STEPS: Final = 2**30
MAX_CONTRIBUTIONS: Final = 2**32

_SHRINK: Final = 1.0 - 2.0**-40


class BoundedSum:
    """A sum of clipped vectors on an integer lattice. For one thread; memory is O(dimension).

    Args:
        dimension: Length of every contribution.
        clip_norm: Largest L2 norm of one contribution, in [1e-100, 1e100].
        one_entry: Whether a contribution has at most one entry that is not zero; then its L1 norm
            is its L2 norm.

    Raises:
        ValueError: dimension below 1, or a clip norm that is not such a number.

    >>> from privacy.mechanisms import UnsafeNoNoise
    >>> total = BoundedSum(dimension=2, clip_norm=1.0)
    >>> total.add(SparseVector.from_dense(np.array([0.0, 5.0], np.float32)))
    >>> total.add(SparseVector.from_dense(np.array([0.5, 0.5], np.float32)))
    >>> total.count, total.release(UnsafeNoNoise()).tolist()
    (2, [0.5, 1.5])
    """

    def __init__(self, *, dimension: int, clip_norm: float, one_entry: bool = False) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1; got {dimension}")
        if not 1e-100 <= clip_norm <= 1e100:
            raise ValueError(f"clip_norm must lie in [1e-100, 1e100]; got {clip_norm}")
        self._clip_norm = float(clip_norm)
        self._one_entry = one_entry
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
        if self._one_entry and np.count_nonzero(vector.values) > 1:
            raise ContributionRejectedError(Refusal.WRONG_SHAPE)
        steps = to_lattice(vector.values, clip_norm=self._clip_norm)
        if steps.size == self._sum.size:
            self._sum += steps
        else:
            # Plain indexing adds each entry once because a SparseVector's indices are unique.
            self._sum[vector.indices] += steps
        self._count += 1

    def add_partial(self, steps: NDArray[np.int64], *, count: int) -> None:
        """Add a sum of contributions that somebody trusted has clipped and put on the lattice.

        So that shards can add up what is theirs and hand over integers. That each contribution kept
        its bound is the caller's promise; what contradicts it is refused: ``count`` vectors of norm
        `STEPS` have a sum of at most ``count`` times that.

        Args:
            steps: int64[dimension], lattice steps of this sum's clip norm.
            count: How many contributions, at least 0.

        Raises:
            ValueError: it can't be such a sum; nothing was added.
            AlreadyReleasedError: the sum was released.
            SumOverflowError: the sum would hold more contributions than it can.

        >>> total = BoundedSum(dimension=2, clip_norm=1.0)
        >>> total.add_partial(np.array([STEPS, STEPS]), count=2)
        >>> total.count
        2
        """
        if self._released:
            raise AlreadyReleasedError("this sum was released; start a new task")
        if steps.shape != self._sum.shape or steps.dtype != np.int64 or count < 0:
            raise ValueError(f"expected int64[{self.dimension}] of at least 0 contributions")
        if self._count + count > MAX_CONTRIBUTIONS:
            raise SumOverflowError(f"a sum holds at most {MAX_CONTRIBUTIONS} contributions")
        wide = steps.astype(np.float64)
        norm = math.sqrt(float(np.square(wide, out=wide).sum()))
        # Float64 may be off by its rounding where every contribution is the same.
        if norm > count * STEPS * (1.0 + 1e-9):
            raise ValueError(f"no {count} clipped contributions have such a sum")
        self._sum += steps
        self._count += count

    def release(self, mechanism: Mechanism) -> NDArray[np.float64]:
        """Add noise and hand out the sum, once and for all.

        Args:
            mechanism: What adds the noise, in lattice steps.

        Returns:
            float64[dimension], in the units of the contributions.

        Raises:
            AlreadyReleasedError: it was released before; noise is never drawn twice for one sum.
            ValueError: the mechanism is for L1, and the contributions are bounded in L2 alone.
        """
        if self._released:
            raise AlreadyReleasedError("this sum was released; noise is never drawn twice for it")
        if mechanism.name is MechanismName.DISCRETE_LAPLACE and not self._one_entry:
            raise ValueError("discrete Laplace needs a sum of one entry a person; use a Gaussian")
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
