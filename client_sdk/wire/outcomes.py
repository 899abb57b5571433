"""What one person gives to one experiment, and where it stands in the vector.

The vector has a block for each group (the arms in order, then the holdout where there is one), and
a block has ``1 + 2 metrics`` entries. Only the block of the person's own group is filled:

| entry           | holds                                                              |
|-----------------|--------------------------------------------------------------------|
| 0               | c: the person was exposed                                          |
| 1 + 2 m         | c y: the outcome of metric m, in parts of its bound, y in [0, 1]   |
| 2 + 2 m         | 3 c y (1 - y): its spread, from which the server has the variance  |

Rules a reader can check line by line:

1. With c = clip norm / sqrt(1 + metrics) the L2 norm is at most the clip norm, whatever the person
   did: y² + 9 y² (1 - y)² <= 1 for every y in [0, 1], because 9 y² <= (1 + y) / (1 - y) there (the
   largest factor is the golden ratio to the fifth, 11.09, at y = 0.618). So the spread is free: the
   bound is the one that the outcomes alone would have.
2. Entries are rounded to float32 towards zero: no rounding takes the norm above the bound.
3. A vector says nothing of when, how often, or what else: one group, and one number a metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.vectors import SparseVector

SPREAD_FACTOR: Final = 3.0
MAX_GROUPS: Final = 32
MAX_METRICS: Final = 16


@dataclass(frozen=True, kw_only=True)
class ExperimentOutcome:
    """What came of one experiment for one person.

    Attributes:
        group: Place of the person's group: an arm, or after the last arm the holdout; from 0.
        outcomes: One number in [0, 1] for each metric: the outcome in parts of its bound.

    Raises:
        ValueError: a group below 0, or an outcome outside [0, 1].
    """

    group: int
    outcomes: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.group < 0:
            raise ValueError("group: expected a place from 0; got one below")
        if not all(0.0 <= outcome <= 1.0 for outcome in self.outcomes):
            raise ValueError("outcomes: expected numbers from 0 to 1; got another")


@dataclass(frozen=True, kw_only=True)
class OutcomeLayout:
    """The places of an experiment's vector; device and server agree by its three numbers.

    Attributes:
        groups: How many groups, 1 to 32.
        metrics: How many metrics, 1 to 16.
        clip_norm: Largest L2 norm of one person's vector; finite and above 0.

    >>> layout = OutcomeLayout(groups=2, metrics=1, clip_norm=1.0)
    >>> layout.pack(ExperimentOutcome(group=1, outcomes=(1.0,))).to_dense().round(3).tolist()
    [0.0, 0.0, 0.0, 0.7070000171661377, 0.7070000171661377, 0.0]
    """

    groups: int
    metrics: int
    clip_norm: float

    def __post_init__(self) -> None:
        if not (1 <= self.groups <= MAX_GROUPS and 1 <= self.metrics <= MAX_METRICS):
            raise ValueError(
                f"expected 1 to {MAX_GROUPS} groups and 1 to {MAX_METRICS} metrics; "
                f"got {self.groups} and {self.metrics}"
            )
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ValueError(f"clip_norm: expected a finite number above 0; got {self.clip_norm}")

    @property
    def dimension(self) -> int:
        """Length of the vector."""
        return self.groups * (1 + 2 * self.metrics)

    @property
    def scale(self) -> float:
        """What one exposed person adds to the count of their group."""
        return self.clip_norm / math.sqrt(1 + self.metrics)

    def pack(self, outcome: ExperimentOutcome) -> SparseVector:
        """Write one person's outcome as a vector with an L2 norm of at most ``clip_norm``.

        Raises:
            ValueError: the outcome is of another number of metrics or of no group of these.
        """
        if outcome.group >= self.groups or len(outcome.outcomes) != self.metrics:
            raise ValueError(
                f"expected a group below {self.groups} and {self.metrics} outcome(s); "
                f"got group {outcome.group} and {len(outcome.outcomes)} outcome(s)"
            )
        parts = np.array(outcome.outcomes, np.float64)
        block = np.empty(1 + 2 * self.metrics)
        block[0] = 1.0
        block[1::2] = parts
        block[2::2] = SPREAD_FACTOR * parts * (1.0 - parts)
        block *= self.scale
        values = block.astype(np.float32)
        values = np.where(values > block, np.nextafter(values, np.float32(0)), values)
        kept = np.flatnonzero(values)
        return SparseVector(
            dimension=self.dimension,
            indices=(outcome.group * block.size + kept).astype(np.int32),
            values=values[kept],
        )

    def unpack(self, total: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Undo the packing of a (noisy) sum.

        Args:
            total: float64[dimension].

        Returns:
            Persons float64[groups]; sums of y float64[groups, metrics]; and sums of y (1 - y)
            float64[groups, metrics].

        Raises:
            ValueError: another length, or a number that is not finite.
        """
        if total.shape != (self.dimension,) or not np.isfinite(total).all():
            raise ValueError(f"expected {self.dimension} finite numbers; got others")
        blocks = total.reshape(self.groups, 1 + 2 * self.metrics) / self.scale
        return blocks[:, 0], blocks[:, 1::2], blocks[:, 2::2] / SPREAD_FACTOR
