"""The weights of a propensity as they travel: in the order of a round, and to who starts from them.

Rules a reader can check line by line:

1. With d features and h hidden units the parameters are those of `models.propensity_graph`, in its
   order: ``[W d*h, a h, v h, c]``, or ``[v d, c]`` without a layer.
2. A case x is seen as (x - centre) * scale, cut at `FARTHEST`, in float32. Centre and scale are
   public and the same for everybody, so that one vector of weights means one thing.
3. A payload is ``[centre, scale, parameters]``, little-endian float32, and nothing else.
4. Reading is total: any bytes give weights within `LARGEST`, or a `ValueError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_FEATURES: Final = 512
MAX_HIDDEN: Final = 64
MAX_PASSES: Final = 100
LARGEST: Final = 1e6
"""No weight, centre or scale of an order is larger than this, in absolute value."""
FARTHEST: Final = 8.0
"""Standardised features are cut at this many deviations."""
STEP_FLOOR: Final = 1e-6
"""What the graph's step adds to the root of its memory, so that it never divides by zero."""

Float32Array = NDArray[np.float32]


def parameter_count(features: int, hidden: int) -> int:
    """Say how long the vector of parameters is.

    >>> parameter_count(3, 0), parameter_count(3, 2)
    (4, 11)
    """
    return hidden * (features + 2) + 1 if hidden else features + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class PropensityWeights:
    """A propensity that all share, with the scale that its features are on.

    Attributes:
        hidden: h, units of the layer; 0 for logistic regression.
        centre: float32[d], what is taken from each feature.
        scale: float32[d], what each is multiplied by then; 0 or more, 0 leaves a feature out.
        parameters: float32[`parameter_count`].

    Raises:
        ValueError: another shape, or a number that is not finite or beyond `LARGEST`.

    >>> flat = PropensityWeights(hidden=0, centre=np.zeros(2, np.float32),
    ...                          scale=np.ones(2, np.float32), parameters=np.zeros(3, np.float32))
    >>> PropensityWeights.from_payload(flat.to_payload(), features=2, hidden=0).n_features
    2
    """

    hidden: int
    centre: Float32Array
    scale: Float32Array
    parameters: Float32Array

    def __post_init__(self) -> None:
        d = self.centre.size
        if not (1 <= d <= MAX_FEATURES and 0 <= self.hidden <= MAX_HIDDEN):
            raise ValueError(
                f"expected 1 to {MAX_FEATURES} features and 0 to {MAX_HIDDEN} units; got others"
            )
        shapes = ((d,), (d,), (parameter_count(d, self.hidden),))
        for name, shape in zip(("centre", "scale", "parameters"), shapes, strict=True):
            values = getattr(self, name)
            if values.dtype != np.float32 or values.shape != shape:
                raise ValueError(f"{name}: expected float32{list(shape)}; got others")
            if not np.all(np.abs(values) <= LARGEST):
                raise ValueError(f"{name}: expected numbers of at most {LARGEST:g}; got others")
        if (self.scale < 0).any():
            raise ValueError("scale: expected 0 or more; got less")

    @property
    def n_features(self) -> int:
        """d, what is known of one case."""
        return int(self.centre.size)

    def standardised(self, features: Float32Array) -> Float32Array:
        """Give cases on the scale of the weights: float32[n, d], as rule 2."""
        return standardise(features, centre=self.centre, scale=self.scale)

    def to_payload(self) -> bytes:
        """Write as rule 3."""
        return b"".join(
            np.ascontiguousarray(values, "<f4").tobytes()
            for values in (self.centre, self.scale, self.parameters)
        )

    @classmethod
    def from_payload(cls, payload: bytes, *, features: int, hidden: int) -> PropensityWeights:
        """Read what `to_payload` wrote.

        Raises:
            ValueError: another length than the sizes say, or what the class refuses.
        """
        length = 2 * features + parameter_count(features, hidden)
        if len(payload) != 4 * length:
            raise ValueError(f"weights: expected {4 * length} bytes; got {len(payload)}")
        values = np.frombuffer(payload, "<f4").astype(np.float32)
        return cls(
            hidden=hidden,
            centre=values[:features],
            scale=values[features : 2 * features],
            parameters=values[2 * features :],
        )


def standardise(
    features: Float32Array, *, centre: NDArray[Any], scale: NDArray[Any]
) -> Float32Array:
    """Give (x - centre) * scale, cut at `FARTHEST`: float32[n, d]."""
    # A product beyond float32 is infinite, and cut like any other.
    with np.errstate(over="ignore"):
        moved = (features - centre) * scale
    return np.asarray(np.clip(np.nan_to_num(moved, nan=0.0), -FARTHEST, FARTHEST), np.float32)
