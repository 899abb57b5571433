"""Quantiles from a noisy histogram, with Woodruff's interval that holds the noise too.

Rules a reader can check line by line:

1. F at an edge is the share of known values below it; between two edges it is taken as a straight
   line (so a quantile is exact where people are spread evenly inside a bin, and never further off
   than the bin is wide).
2. The covariance of F at two edges is (min - product) / n for sampling, plus the noise of a ratio
   (`NoisyHistogram`); between edges, F is a weighted mean of two of them, and so is its error's.
3. The interval is the set of values v at which F(v) = q is not rejected (Woodruff 1952): from the
   first v at which F + z e reaches q to the last at which F - z e does. It ends at infinity where
   it leaves the edges.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import numpy as np

from models.experiment_outcomes import Interval
from models.statistics.histogram import FloatArray, NoisyHistogram, z_of

_POINTS_A_BIN: Final = 32


def quantile(histogram: NoisyHistogram, q: float, *, confidence: float = 0.95) -> Interval:
    """Estimate a quantile of those whose value is known.

    Args:
        histogram: With at least two edges.
        q: In (0, 1); 0.5 for the median.
        confidence: Of the interval.

    Returns:
        In the feature's unit; ``standard_error`` is a quarter of the interval's width over z, and
        the value is None where the noise hides everything or the quantile is beyond the edges.

    Raises:
        ValueError: a number out of range, or a single edge.

    >>> from client_sdk.wire.statistics import Binning
    >>> counts = np.array([0.0, 250.0, 250.0, 250.0, 250.0, 0.0, 0.0])
    >>> found = quantile(NoisyHistogram.independent(
    ...     Binning(feature="x", edges=(0.0, 1.0, 2.0, 3.0, 4.0)), counts, 3.0), 0.5)
    >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
    (2.0, 1.88, 2.12)
    """
    if not 0 < q < 1:
        raise ValueError(f"q: expected a number between 0 and 1; got {q}")
    edges = np.array(histogram.bins.edges)
    if edges.size < 2:
        raise ValueError("expected at least two edges; got one")
    z = z_of(confidence)
    counts, noise = histogram.counts[:-1], histogram.noise[:-1, :-1]
    known = float(counts.sum())
    known_std = math.sqrt(max(0.0, float(noise.sum())))
    if known < max(5.0 * known_std, 2.0):
        return Interval(value=None, standard_error=math.inf, low=-math.inf, high=math.inf)
    below = np.tril(np.ones((edges.size, counts.size)))
    reached = np.cumsum(counts)[:-1] / known
    slope = (below - reached[:, None]) / known
    inside = np.clip(reached, 0.0, 1.0)
    least = np.minimum.outer(inside, inside)
    covariance = slope @ noise @ slope.T + (least - np.outer(inside, inside)) / known
    at, curve, error = _between(edges, reached, covariance)
    low = _first(at, curve + z * error, q)
    high = -_first(-at[::-1], -(curve - z * error)[::-1], -q)
    value = _middle(edges, reached, q)
    spread = (high - low) / (2.0 * z)
    return Interval(
        value=value,
        standard_error=spread if math.isfinite(spread) else math.inf,
        low=low,
        high=high,
    )


def _between(
    edges: FloatArray, reached: FloatArray, covariance: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values on and between the edges, F there, and its standard error there."""
    part = np.arange(_POINTS_A_BIN) / _POINTS_A_BIN
    rest = 1.0 - part
    own, shared = np.diag(covariance), np.diag(covariance, 1)
    at = np.outer(edges[:-1], rest) + np.outer(edges[1:], part)
    curve = np.outer(reached[:-1], rest) + np.outer(reached[1:], part)
    variance = (
        np.outer(own[:-1], rest**2)
        + np.outer(own[1:], part**2)
        + np.outer(shared, 2.0 * rest * part)
    )
    return (
        np.append(at.ravel(), edges[-1]),
        np.append(curve.ravel(), reached[-1]),
        np.sqrt(np.maximum(np.append(variance.ravel(), own[-1]), 0.0)),
    )


def _first(at: FloatArray, curve: FloatArray, level: float) -> float:
    """Where a broken line first reaches a level; minus infinity where it begins above it."""
    if curve[0] >= level:
        return -math.inf
    for place, (before, after) in enumerate(pairwise(curve.tolist())):
        if after >= level:
            part = (level - before) / (after - before)
            return float(at[place] + part * (at[place + 1] - at[place]))
    return float(at[-1])


def _middle(edges: FloatArray, reached: FloatArray, q: float) -> float | None:
    """The middle of where a broken line, which noise may make fall, first and last crosses q."""
    if reached[0] >= q or reached[-1] < q:
        return None
    first = _first(edges, reached, q)
    last = -_first(-edges[::-1], -reached[::-1], -q)
    return (first + last) / 2.0 if math.isfinite(last) else first
