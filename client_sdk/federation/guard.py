"""The outbound guard: the last look at a vector before it may leave.

Promise: what `guard` returns has the order's dimension, only finite entries, and an L2 norm that is
at most the clip norm, exactly: the norm of its float32 entries, computed in float64.

| what comes in                    | what goes out                          | test              |
|----------------------------------|----------------------------------------|-------------------|
| norm at most clip                | the same vector, bit for bit           | `small_unchanged` |
| norm above clip                  | scaled down, rounded towards zero      | `large_clipped`   |
| all zero, or no entry            | the same: it adds nothing              | `zero_unchanged`  |
| entries near float32's maximum   | scaled down; float64 holds the norm    | `huge_clipped`    |
| infinite or NaN entry            | `OutboundGuardError`; never repaired   | `not_finite_raises` |
| another dimension                | `OutboundGuardError`                   | `dimension_raises` |
| clip norm not finite or above 0  | `ValueError`: check the order first    | `clip_norm_raises` |
| layers                           | each at most its share of the clip     | `layers_clipped`  |
| a count share q                  | the update clipped and times √(1-q); one | `counts_clipped` |
|                                  | more entry, +√q·clip if it fitted, else -√q·clip |         |
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import FLAT, ClippingTerms, SparseVector


class OutboundGuardError(ValueError):
    """The vector must not leave; nothing of it was sent."""


def guard(
    vector: SparseVector, *, dimension: int, clip_norm: float, clipping: ClippingTerms = FLAT
) -> SparseVector:
    """Check and clip a vector for one order.

    Args:
        vector: What an encoder made.
        dimension: What the order asks for.
        clip_norm: Largest L2 norm, finite and above 0.
        clipping: How the order wants it clipped.

    Returns:
        A vector that keeps the promise above.

    Raises:
        OutboundGuardError: another dimension, or an entry that is not finite.

    >>> guard(SparseVector.from_dense(np.array([3, 4], np.float32)), dimension=2, clip_norm=2.5
    ...       ).to_dense().tolist()
    [1.5, 2.0]
    """
    if not (math.isfinite(clip_norm) and clip_norm > 0):
        raise ValueError("clip_norm must be finite and above 0")
    expected = dimension - clipping.extra_entries
    if vector.dimension != expected:
        raise OutboundGuardError(f"expected {expected} entries; got {vector.dimension}")
    if not np.isfinite(vector.values).all():
        raise OutboundGuardError("an entry is not finite")
    if clipping.layers:
        vector = _clip_layers(vector, clip_norm, clipping)
    elif clipping.count_share:
        vector = _with_count(vector, clip_norm, clipping.count_share)
    return _clip(vector, clip_norm)


def _clip(vector: SparseVector, clip_norm: float) -> SparseVector:
    norm = vector.norm()
    if norm <= clip_norm:
        return vector
    values = (vector.values.astype(np.float64) * (clip_norm / norm)).astype(np.float32)
    clipped = replace(vector, values=values)
    # Rounding to float32 may go up, and so above the bound. A step takes every entry one float32
    # closer to zero, so this ends, also where the bound is smaller than a float32 can be.
    while clipped.norm() > clip_norm:
        values = np.nextafter(values, np.float32(0))
        clipped = replace(vector, values=values)
    return clipped


def _clip_layers(vector: SparseVector, clip_norm: float, clipping: ClippingTerms) -> SparseVector:
    ends = np.cumsum([layer.entries for layer in clipping.layers])
    stops = np.searchsorted(vector.indices, ends).tolist()
    parts: list[NDArray[np.float32]] = []
    for start, stop, layer in zip([0, *stops], stops, clipping.layers, strict=False):
        part = replace(vector, indices=vector.indices[start:stop], values=vector.values[start:stop])
        parts.append(_clip(part, layer.share * clip_norm).values)
    return replace(vector, values=np.concatenate(parts))


def _with_count(vector: SparseVector, clip_norm: float, share: float) -> SparseVector:
    """Append the entry that says whether the update fitted; both together keep the clip norm."""
    norm = vector.norm()
    factor = math.sqrt(1.0 - share) * min(1.0, clip_norm / norm if norm else 1.0)
    entry = math.sqrt(share) * clip_norm * (1.0 if norm <= clip_norm else -1.0)
    values = np.append(vector.values.astype(np.float64) * factor, entry)
    return SparseVector(
        dimension=vector.dimension + 1,
        indices=np.append(vector.indices, np.int32(vector.dimension)).astype(np.int32),
        values=values.astype(np.float32),
    )
