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
"""

from __future__ import annotations

import math

import numpy as np

from client_sdk.wire import SparseVector


class OutboundGuardError(ValueError):
    """The vector must not leave; nothing of it was sent."""


def guard(vector: SparseVector, *, dimension: int, clip_norm: float) -> SparseVector:
    """Check and clip a vector for one order.

    Args:
        vector: What an encoder made.
        dimension: What the order asks for.
        clip_norm: Largest L2 norm, finite and above 0.

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
    if vector.dimension != dimension:
        raise OutboundGuardError(f"expected {dimension} entries; got {vector.dimension}")
    if not np.isfinite(vector.values).all():
        raise OutboundGuardError("an entry is not finite")
    norm = vector.norm()
    if norm <= clip_norm:
        return vector
    values = (vector.values.astype(np.float64) * (clip_norm / norm)).astype(np.float32)
    clipped = SparseVector(dimension=dimension, indices=vector.indices, values=values)
    # Rounding to float32 may go up, and so above the bound. A step takes every entry one float32
    # closer to zero, so this ends, also where the bound is smaller than a float32 can be.
    while clipped.norm() > clip_norm:
        values = np.nextafter(values, np.float32(0))
        clipped = SparseVector(dimension=dimension, indices=vector.indices, values=values)
    return clipped
