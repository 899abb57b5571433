"""Histograms with fixed bins, so that what many devices count can be added and compared over time.

Rules a reader can check line by line:

1. The bins are the definition's, on every device and in every simulation: ``below`` the first edge,
   one bin between each two edges (the lower edge belongs to it, the last bin has both), ``above``
   the last edge, and ``unknown``.
2. Every person is in exactly one bin. The value of someone unknown is not looked at.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from client_sdk.signals.features.columns import IntArray
from client_sdk.signals.features.definitions import FeatureDefinition


def bins_of(definition: FeatureDefinition) -> tuple[str, ...]:
    """Name the bins of a feature's histogram, in order.

    >>> from client_sdk.signals.features.standard import STANDARD
    >>> bins_of(STANDARD[0])[:3], bins_of(STANDARD[0])[-3:]
    (('below 0', '0 to 1', '1 to 2'), ('181 to 365', 'above 365', 'unknown'))
    """
    edges = [f"{edge:g}" for edge in definition.bins]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    return (f"below {edges[0]}", *between, f"above {edges[-1]}", "unknown")


def histogram(
    values: npt.ArrayLike, known: npt.ArrayLike, definition: FeatureDefinition
) -> IntArray:
    """Count people by bin.

    Args:
        values: float[P], the feature of P people (or a single number).
        known: bool[P], whose value is known.
        definition: Whose bins.

    Returns:
        int64[len(bins) + 2], in the order of `bins_of`; the sum is P.

    Raises:
        ValueError: the shapes differ, or a known value is not a number.
    """
    value = np.atleast_1d(np.asarray(values, np.float64))
    is_known = np.atleast_1d(np.asarray(known, np.bool_))
    if value.shape != is_known.shape or value.ndim != 1:
        raise ValueError("values and known: expected one length; got two")
    if np.isnan(value[is_known]).any():
        raise ValueError("values: expected a number for everyone known; got NaN")
    edges = np.array(definition.bins)
    place = np.searchsorted(edges, value, side="right")
    place[value == edges[-1]] = len(edges) - 1
    place[~is_known] = len(edges) + 1
    return np.bincount(place, minlength=len(edges) + 2)
