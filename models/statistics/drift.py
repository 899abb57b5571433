"""Drift between two noisy histograms: PSI and Jensen-Shannon, without the noise's bias.

Both are sums over cells of a function f(p, q) that is 0 where p = q: PSI is (p - q) ln(p / q) (the
symmetrised Kullback-Leibler divergence; Jeffreys 1946), Jensen-Shannon half of p ln(2p / (p + q)) +
q ln(2q / (p + q)), in nats (Lin 1991). Rules a reader can check line by line:

1. Noise alone makes either of them positive, so what the noisy histograms give is too large. With
   d = sign(p - q) sqrt(f), the divergence is the squared length of d, and d is smooth in p and q:
   the noisy d is normal around the true one, to first order with the covariance V that the noise
   and the sampling of both histograms have through the slopes of d.
2. The estimate is |d|² - tr V: unbiased, and cut at 0.
3. |d|² is distributed as a · χ² with tr V / a degrees of freedom and the non-centrality θ / a; here
   a = (tr V² + 2 θ v) / (tr V + 2 θ) and v = d'Vd / d'd: mean and variance are those of the squared
   length of a normal vector whose mean has the squared length θ. The interval is every θ that this
   does not reject at either side, so it is right at θ = 0 too, where a normal approximation fails.
   Its upper end never uses a smaller |d|² than noise alone makes on average: luck is no proof of
   sameness.
4. Cells next to each other are merged until each stands out of its noise in both histograms
   (`LEAST_COUNT_RATIO`) and holds `LEAST_PERSONS`; merging can hide drift, never invent it. Fewer
   than two cells: no estimate, and an interval without an end.
5. A verdict needs the whole interval on one side of the threshold; otherwise it is `UNDECIDED`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from models.experiment_outcomes import LEAST_COUNT_RATIO, Interval
from models.statistics.histogram import FloatArray, NoisyHistogram, z_of

LEAST_PERSONS: Final = 10.0
_STEP: Final = 1e-3
_NEAR: Final = 1e-3
_BISECTIONS: Final = 60
_NORMAL_FROM: Final = 1e4


class DriftKind(StrEnum):
    """Which divergence."""

    PSI = "psi"
    JENSEN_SHANNON = "jensen-shannon"


class Verdict(StrEnum):
    """What an interval says of a threshold."""

    ABOVE = "above"
    WITHIN = "within"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far two histograms are apart.

    Attributes:
        kind: Which divergence.
        divergence: Without the noise's bias, with its interval.
        naive: What the noisy histograms give without that correction.
        cells: How many were left after merging.
    """

    kind: DriftKind
    divergence: Interval
    naive: float
    cells: int

    def verdict(self, threshold: float) -> Verdict:
        """Decide about a threshold; for PSI 0.1 and 0.25 are customary."""
        return verdict_of(self.divergence, threshold)


def verdict_of(found: Interval, threshold: float) -> Verdict:
    """Say on which side of a threshold the whole interval lies, if on one.

    >>> verdict_of(Interval(value=0.3, standard_error=0.05, low=0.2, high=0.4), 0.1).value
    'above'
    """
    if found.low > threshold:
        return Verdict.ABOVE
    return Verdict.WITHIN if found.high < threshold else Verdict.UNDECIDED


def measure_drift(
    reference: NoisyHistogram,
    current: NoisyHistogram,
    *,
    kind: DriftKind = DriftKind.PSI,
    confidence: float = 0.95,
) -> Drift:
    """Estimate the drift from one histogram to another of other people, or another week.

    Args:
        reference: Before.
        current: After, with the same bins; its noise and people are independent of the first's.
        kind: Which divergence.
        confidence: Of the interval.

    Raises:
        ValueError: other bins, or a confidence out of range.
    """
    if reference.bins != current.bins:
        raise ValueError("expected two histograms of the same bins; got others")
    z_of(confidence)
    merged = _merging(reference, current)
    if len(merged) < 2:
        nothing = Interval(value=None, standard_error=math.inf, low=0.0, high=math.inf)
        return Drift(kind=kind, divergence=nothing, naive=0.0, cells=len(merged))
    p, p_cov = _shares(merged, reference)
    q, q_cov = _shares(merged, current)
    root, slope_p, slope_q = _roots(p, q, kind)
    covariance = slope_p[:, None] * p_cov * slope_p + slope_q[:, None] * q_cov * slope_q
    naive = float(root @ root)
    spread, square = float(np.trace(covariance)), float(np.sum(covariance**2))
    along = float(root @ covariance @ root) / naive if naive else square / spread
    error = math.sqrt(max(0.0, 4.0 * max(naive - spread, 0.0) * along + 2.0 * square))
    low, high = (
        _invert(seen, level, spread=spread, square=square, along=along)
        for seen, level in (
            (naive, (1.0 + confidence) / 2.0),
            (max(naive, spread), (1.0 - confidence) / 2.0),
        )
    )
    return Drift(
        kind=kind,
        divergence=Interval(
            value=max(0.0, naive - spread), standard_error=error, low=low, high=high
        ),
        naive=naive,
        cells=len(merged),
    )


def _merging(reference: NoisyHistogram, current: NoisyHistogram) -> FloatArray:
    """float64[merged, cells]: which cells are taken together, in order."""
    groups: list[FloatArray] = []
    cells = reference.bins.cells
    open_group = np.zeros(cells)
    for cell in range(cells):
        open_group[cell] = 1.0
        if all(_stands_out(each, open_group) for each in (reference, current)):
            groups.append(open_group)
            open_group = np.zeros(cells)
    if open_group.any() and groups:
        groups[-1] = groups[-1] + open_group
    return np.array(groups) if groups else np.zeros((0, cells))


def _stands_out(histogram: NoisyHistogram, group: FloatArray) -> bool:
    noise = math.sqrt(max(0.0, float(group @ histogram.noise @ group)))
    return float(group @ histogram.counts) >= max(LEAST_COUNT_RATIO * noise, LEAST_PERSONS)


def _shares(merged: FloatArray, histogram: NoisyHistogram) -> tuple[FloatArray, FloatArray]:
    """Shares of the merged cells, and their covariance of sampling and noise together."""
    counts = merged @ histogram.counts
    total = float(counts.sum())
    share: FloatArray = counts / total
    slope = (np.eye(share.size) - share[:, None]) / total
    noise = slope @ (merged @ histogram.noise @ merged.T) @ slope.T
    sampling = (np.diag(share) - np.outer(share, share)) / total
    return share, noise + sampling


def _roots(p: FloatArray, q: FloatArray, kind: DriftKind) -> tuple[FloatArray, ...]:
    """The signed roots d of the cells, and their slopes in p and in q."""
    step_p, step_q = _STEP * p, _STEP * q
    slope_p = (_root(p + step_p, q, kind) - _root(p - step_p, q, kind)) / (2.0 * step_p)
    slope_q = (_root(p, q + step_q, kind) - _root(p, q - step_q, kind)) / (2.0 * step_q)
    return _root(p, q, kind), slope_p, slope_q


def _root(p: FloatArray, q: FloatArray, kind: DriftKind) -> FloatArray:
    gap, middle = p - q, (p + q) / 2.0
    if kind is DriftKind.PSI:
        divergence = gap * np.log1p(gap / q)
    else:
        divergence = (p * np.log(p / middle) + q * np.log(q / middle)) / 2.0
        # Near p = q the two terms cancel; the next term of the series is 1e-6 of this one.
        close = np.abs(gap) < _NEAR * middle
        divergence = np.where(close, gap**2 / (8.0 * middle), divergence)
    return np.asarray(np.sign(gap) * np.sqrt(np.maximum(divergence, 0.0)))


def _invert(seen: float, level: float, *, spread: float, square: float, along: float) -> float:
    """The θ at which what was seen is the ``level`` quantile; 0 where even that is too far."""

    def reached(theta: float) -> float:
        return _distribution(seen, theta, spread=spread, square=square, along=along)

    if reached(0.0) <= level:
        return 0.0
    high = max(seen, spread)
    while reached(high) > level:
        high *= 2.0
    low = 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if reached(middle) > level else (low, middle)
    return high


def _distribution(
    seen: float, theta: float, *, spread: float, square: float, along: float
) -> float:
    """The chance of at most ``seen`` where the divergence is ``theta``."""
    from scipy.special import chndtr, ndtr

    width = (square + 2.0 * theta * along) / (spread + 2.0 * theta)
    degrees, shift = spread / width, theta / width
    if degrees + shift > _NORMAL_FROM:
        error = math.sqrt(2.0 * square + 4.0 * theta * along)
        return float(ndtr((seen - theta - spread) / error))
    return float(chndtr(seen / width, degrees, shift))
