"""A histogram with noise: counts by cell, how the noise hangs together, and honest intervals.

Rules a reader can check line by line:

1. Counts are in persons, as the sum says them: unbiased, and negative where the noise is.
2. The interval of a count is that of the noise alone: how many of the people *who answered* are in
   the cell. The interval of a share adds the sampling error of a person drawn from all people:
   p (1 - p) / n, with (count + 1) / (n + 2) for p (Agresti, Caffo 2000), so that an empty cell has
   an interval.
3. A share is the ratio of two noisy numbers, p = x / T with T the sum of all cells. To first order
   its noise is J C J' with J = (I - p 1') / T and C the covariance of the counts' noise.
4. Where T is not at least `LEAST_COUNT_RATIO` times its noise, nothing is known of the shares: no
   estimate, and the whole of [0, 1].
5. Several histograms of the same people, coarser ones beside a fine one, are combined by
   generalised least squares (Hay, Rastogi, Miklau, Suciu 2010, arXiv 0904.0942): the best unbiased
   counts, and no two levels contradict each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire.statistics import Binning
from models.experiment_outcomes import LEAST_COUNT_RATIO, Interval

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyHistogram:
    """Counts by cell.

    Attributes:
        bins: The cells; the last one is of those whose value is unknown.
        counts: float64[cells], in persons.
        noise: float64[cells, cells], covariance of the noise, in persons squared.

    >>> found = NoisyHistogram.independent(
    ...     Binning(feature="visits", edges=(0.0, 5.0)), np.array([0.0, 60.0, 40.0, 0.0]), 2.0)
    >>> share = found.shares()[1]
    >>> round(share.value, 2), round(share.low, 2), round(share.high, 2)
    (0.6, 0.49, 0.71)
    """

    bins: Binning
    counts: FloatArray
    noise: FloatArray

    def __post_init__(self) -> None:
        cells = self.bins.cells
        if self.counts.shape != (cells,) or self.noise.shape != (cells, cells):
            raise ValueError(f"expected counts and noise of {cells} cells; got others")
        if not (np.isfinite(self.counts).all() and np.isfinite(self.noise).all()):
            raise ValueError("counts, noise: expected finite numbers; got others")

    @classmethod
    def independent(cls, bins: Binning, counts: FloatArray, noise_std: float) -> NoisyHistogram:
        """Make a histogram whose cells have independent noise of one deviation, in persons."""
        if not (math.isfinite(noise_std) and noise_std >= 0):
            raise ValueError(f"noise_std: expected a finite number, 0 or more; got {noise_std}")
        return cls(bins=bins, counts=counts, noise=np.eye(bins.cells) * noise_std**2)

    @property
    def persons(self) -> float:
        """How many answered; noisy."""
        return float(self.counts.sum())

    @property
    def persons_noise_std(self) -> float:
        """Deviation of the noise on `persons`."""
        return math.sqrt(max(0.0, float(self.noise.sum())))

    @property
    def usable(self) -> bool:
        """Whether the number of persons stands out of its noise."""
        return self.persons >= max(LEAST_COUNT_RATIO * self.persons_noise_std, 2.0)

    def count_intervals(self, confidence: float = 0.95) -> tuple[Interval, ...]:
        """Give how many of those who answered are in each cell; the interval is the noise's."""
        z = z_of(confidence)
        errors = np.sqrt(np.diag(self.noise)).tolist()
        return tuple(
            Interval(value=count, standard_error=e, low=count - z * e, high=count + z * e)
            for count, e in zip(self.counts.tolist(), errors, strict=True)
        )

    def shares(self, confidence: float = 0.95) -> tuple[Interval, ...]:
        """Give each cell's share of people, of sampling and noise together."""
        z = z_of(confidence)
        if not self.usable:
            return (
                Interval(value=None, standard_error=math.inf, low=0.0, high=1.0),
            ) * self.bins.cells
        share, covariance = self.share_noise()
        total = self.persons
        smoothed = np.clip((self.counts + 1.0) / (total + 2.0), 0.0, 1.0)
        errors = np.sqrt(np.diag(covariance) + smoothed * (1.0 - smoothed) / total)
        return tuple(
            Interval(
                value=value,
                standard_error=error,
                low=min(1.0, max(0.0, value - z * error)),
                high=min(1.0, max(0.0, value + z * error)),
            )
            for value, error in zip(share.tolist(), errors.tolist(), strict=True)
        )

    def share_noise(self) -> tuple[FloatArray, FloatArray]:
        """Give the shares float64[cells] and their noise's covariance float64[cells, cells]."""
        share: FloatArray = self.counts / self.persons
        slope = (np.eye(share.size) - share[:, None]) / self.persons
        return share, slope @ self.noise @ slope.T


def combine(fine: NoisyHistogram, coarser: Sequence[NoisyHistogram]) -> NoisyHistogram:
    """Combine a histogram with coarser ones of the same people.

    Args:
        fine: Whose cells the result has.
        coarser: Of the same feature, each with edges among those of ``fine``.

    Raises:
        ValueError: another feature, an edge that ``fine`` does not have, or no noise at all.
    """
    rows = [np.eye(fine.bins.cells)]
    for other in coarser:
        if other.bins.feature != fine.bins.feature or not set(other.bins.edges) <= set(
            fine.bins.edges
        ):
            raise ValueError("expected coarser bins of the same feature; got others")
        rows.append(_membership(fine.bins, other.bins))
    levels = [fine, *coarser]
    try:
        weights = [np.linalg.inv(level.noise) for level in levels]
    except np.linalg.LinAlgError as error:
        raise ValueError("expected noise on every cell; without any use the fine one") from error
    information = sum(row.T @ weight @ row for row, weight in zip(rows, weights, strict=True))
    noise = np.linalg.inv(information)
    seen = sum(
        row.T @ (weight @ level.counts)
        for row, weight, level in zip(rows, weights, levels, strict=True)
    )
    return NoisyHistogram(bins=fine.bins, counts=noise @ seen, noise=(noise + noise.T) / 2.0)


def coarser_bins(bins: Binning) -> tuple[Binning, ...]:
    """Give the levels of a hierarchy above some bins: every second edge, and so on to one.

    >>> [level.edges for level in coarser_bins(Binning(feature="x", edges=(0.0, 1.0, 2.0, 3.0)))]
    [(1.0, 3.0), (3.0,)]
    """
    levels, edges = [], bins.edges
    while len(edges) > 1:
        edges = edges[1::2]
        levels.append(Binning(feature=bins.feature, edges=edges))
    return tuple(levels)


def z_of(confidence: float) -> float:
    """Give the normal quantile of a two-sided interval.

    Raises:
        ValueError: not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1; got {confidence}")
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)


def _membership(fine: Binning, coarse: Binning) -> FloatArray:
    """float64[coarse cells, fine cells]: which fine cell is part of which coarse one."""
    table = np.zeros((coarse.cells, fine.cells))
    edges = fine.edges
    # A point of each fine cell; one above the last edge belongs to the last cell of both.
    inside = [edges[0] - 1.0, *((a + b) / 2.0 for a, b in itertools.pairwise(edges))]
    for cell, value in enumerate([*inside, edges[-1] + 1.0, None]):
        table[coarse.cell_of(value), cell] = 1.0
    return table
