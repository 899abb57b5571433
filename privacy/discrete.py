"""Discrete noise for histograms, by OpenDP: exact samplers, no floating point in the noise.

Guarantee: `DiscreteGaussianMechanism` is ½/noise_multiplier²-concentrated DP in the L2 norm
(Canonne, Kamath and Steinke 2020, arXiv 2004.00010, theorem 4); `DiscreteLaplaceMechanism` is
(√2/noise_multiplier)-DP in the **L1** norm (Ghosh, Roughgarden and Sundararajan 2009). Both are
drawn exactly, by OpenDP from the operating system's randomness: no tail is cut, no bit rounded.

Neighbouring relation: that of the sensitivity, in lattice steps; add or remove one person.

| case | outcome |
|---|---|
| a noise multiplier that is 0, negative, infinite or NaN | `ValueError` |
| sensitivity below 1 step | `ValueError`: on integers, one person moves at least one step |
| noise beyond 2⁵³ steps | `ValueError` |
| OpenDP is not installed | `ImportError` that names the extra |
| a second draw | other noise: a sum is released once, and what was released is kept |

Slow (0.02 to 0.07 million values a second): for histograms of some 100,000 cells.

Test: tests/privacy/test_discrete.py, tests/privacy/test_noise_scales.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy.events import MechanismName, NoiseSource

_MAX_STEPS: Final = 2.0**53
# Neither mechanism reaches 60 deviations with a chance above e^-80.
_REACH: Final = 60.0
_CHUNK: Final = 65536


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussianMechanism:
    """Integer noise with mass proportional to e^(-x²/(2σ²)).

    Attributes:
        noise_multiplier: σ over the L2 sensitivity; above 0.

    >>> DiscreteGaussianMechanism(noise_multiplier=2.0).noise_steps(
    ...     dimension=3, sensitivity=1).dtype.name
    'int64'
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        _check_multiplier(self.noise_multiplier)

    @property
    def name(self) -> MechanismName:
        """The name in the release event."""
        return MechanismName.DISCRETE_GAUSSIAN

    @property
    def noise_source(self) -> NoiseSource:
        """The source in the release event."""
        return NoiseSource.OPERATING_SYSTEM

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        """Draw int64[dimension]; ``sensitivity`` is in L2, in lattice steps."""
        scale = _scale(self.noise_multiplier, sensitivity)
        dp = _opendp()
        cells = dp.vector_domain(dp.atom_domain(T="i64"))
        return _draw(dp.m.make_gaussian(cells, dp.l2_distance(T="f64"), scale), dimension)


@dataclass(frozen=True, kw_only=True)
class DiscreteLaplaceMechanism:
    """Integer noise with mass proportional to e^(-|x|/s), also called two-sided geometric.

    Attributes:
        noise_multiplier: √2·s over the **L1** sensitivity, above 0: nearly the standard deviation,
            and exactly what the ε of √2 / noise_multiplier rests on.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        _check_multiplier(self.noise_multiplier)

    @property
    def name(self) -> MechanismName:
        """The name in the release event."""
        return MechanismName.DISCRETE_LAPLACE

    @property
    def noise_source(self) -> NoiseSource:
        """The source in the release event."""
        return NoiseSource.OPERATING_SYSTEM

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        """Draw int64[dimension]; ``sensitivity`` is in L1, in lattice steps."""
        scale = _scale(self.noise_multiplier, sensitivity) / math.sqrt(2.0)
        dp = _opendp()
        cells = dp.vector_domain(dp.atom_domain(T="i64"))
        return _draw(dp.m.make_laplace(cells, dp.l1_distance(T="i64"), scale), dimension)


def _draw(measure: Callable[[list[int]], list[int]], dimension: int) -> NDArray[np.int64]:
    noise = np.empty(dimension, dtype=np.int64)
    for start in range(0, dimension, _CHUNK):
        size = min(_CHUNK, dimension - start)
        noise[start : start + size] = measure([0] * size)
    return noise


def _check_multiplier(value: float) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"noise_multiplier must be finite and above 0; got {value}")


def _scale(noise_multiplier: float, sensitivity: int) -> float:
    if sensitivity < 1:
        raise ValueError(f"sensitivity must be at least 1 step; got {sensitivity}")
    scale = noise_multiplier * sensitivity
    if scale * _REACH >= _MAX_STEPS:
        raise ValueError(f"noise_multiplier {noise_multiplier} is beyond the lattice")
    return scale


def _opendp() -> Any:
    try:
        import opendp.prelude as dp
    except ImportError as error:
        raise ImportError("discrete noise needs OpenDP: pip install 'homebody[privacy]'") from error
    # OpenDP asks for this word before it hands out any constructor.
    dp.enable_features("contrib")
    return dp
