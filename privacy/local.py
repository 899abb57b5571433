"""Local differential privacy: the device clips, adds Gaussian noise, and only then sends.

Guarantee: what one device sends is exactly the Gaussian mechanism at sensitivity 2·clip_norm: the
curve of `privacy.gaussian` at ``noise_multiplier``, against everybody, the aggregator included. The
vector is clipped onto the integer lattice of `privacy.bounded_sum` and gets integer noise, so no
float's low bits leave the device either.

Neighbouring relation: replace one person's whole contribution by any other (hence 2·clip_norm).
That a device answered is not hidden.

The price: the sum of m answers carries √m times the noise of one, where the central mechanism adds
it once. `LocalGaussian.sum_std` says it; a plan must show it.

| case | outcome |
|---|---|
| NaN or infinite in the vector | `ContributionRejectedError`; nothing is sent |
| an all-zero vector | gets the same noise as any other |
| a noise multiplier that is 0, negative, infinite or NaN | `ValueError` |
| a clip norm outside [1e-100, 1e100] | `ValueError` |
| noise beyond 2⁵³ steps | `ValueError` |
| a message longer than `message_norm` | the aggregator clips it: a liar moves no more than that |

Test: tests/privacy/test_local.py, tests/privacy/test_noise_scales.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.bounded_sum import STEPS, to_lattice
from privacy.mechanisms import GaussianMechanism
from privacy.noise import GaussianNoise


@dataclass(frozen=True, kw_only=True)
class LocalGaussian:
    """Clip, then noise, on the device.

    Attributes:
        clip_norm: Largest L2 norm of a contribution.
        noise_multiplier: Deviation of the device's noise over 2·clip_norm; above 0.

    >>> local = LocalGaussian(clip_norm=1.0, noise_multiplier=4.0)
    >>> local.noise_std, local.sum_std(reports=10_000)
    (8.0, 800.0)
    >>> message = local.privatise(np.zeros(3, np.float32), noise=GaussianNoise.from_system())
    >>> message.dtype.name, message.shape
    ('float64', (3,))
    """

    clip_norm: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        if not 1e-100 <= self.clip_norm <= 1e100:
            raise ValueError(f"clip_norm must lie in [1e-100, 1e100]; got {self.clip_norm}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0.0):
            raise ValueError(
                f"noise_multiplier must be finite and above 0; got {self.noise_multiplier}"
            )

    @property
    def noise_std(self) -> float:
        """Standard deviation of one device's noise on each entry."""
        return self.noise_multiplier * 2.0 * self.clip_norm

    def sum_std(self, *, reports: int) -> float:
        """Return the standard deviation of the noise on each entry of a sum of ``reports``."""
        return self.noise_std * math.sqrt(reports)

    def message_norm(self, *, dimension: int) -> float:
        """Return a norm that an honest message exceeds with a chance below 1e-9.

        The aggregator clips messages to it (post-processing), so that a device that lies moves the
        sum no further than noise would. ‖noise‖ <= std (√d + √(2 ln 1e9)) by Gaussian concentration
        (Laurent and Massart 2000, lemma 1).
        """
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1; got {dimension}")
        reach = math.sqrt(dimension) + math.sqrt(2.0 * math.log(1e9))
        return self.clip_norm + self.noise_std * reach

    def privatise(
        self, values: NDArray[np.float32], *, noise: GaussianNoise
    ) -> NDArray[np.float64]:
        """Return what the device may send.

        Args:
            values: float32[d], of any norm.
            noise: The device's source; each call draws a fresh key.

        Returns:
            float64[d], a multiple of clip_norm · 2⁻³⁰ in each entry.

        Raises:
            ContributionRejectedError: a value is NaN or infinite.
        """
        steps = to_lattice(values, clip_norm=self.clip_norm)
        mechanism = GaussianMechanism(noise_multiplier=self.noise_multiplier, noise=noise)
        steps += mechanism.noise_steps(dimension=steps.size, sensitivity=2 * STEPS)
        return steps.astype(np.float64) * (self.clip_norm / STEPS)
