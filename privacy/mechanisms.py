"""How a sum is released: integer noise on the lattice of the sum.

Guarantee: `GaussianMechanism` adds the rounded value of N(0, (noise_multiplier·sensitivity)²) to an
integer sum. Rounding noise and adding integers equals rounding the sum of both, so the release is
the Gaussian mechanism followed by post-processing: exactly the curve of `privacy.gaussian`, up to
the tail that `privacy.noise` states. All entries get noise, whether or not anyone touched them.

Neighbouring relation: that of the sensitivity, in lattice steps; add or remove one person.

Edge cases:

| case | outcome |
|---|---|
| a noise multiplier that is 0, negative, infinite or NaN | `ValueError` |
| an assumed population | noise is scaled by simulated / assumed people and labelled |
| noise beyond 2⁵³ steps | `ValueError`: float64 could no longer name each step |
| an event whose noise source is not that of the given noise | `NoiseSourceError` |
| `UnsafeNoNoise` | no noise; its event makes every accountant say ε = ∞ |

Test: tests/privacy/test_mechanisms.py, one contract class for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.errors import NoiseSourceError
from privacy.events import AssumedPopulation, MechanismName, NoiseSource, ReleaseEvent
from privacy.noise import TAIL_SIGMA, GaussianNoise

_MAX_STEPS: Final = 2.0**53


class Mechanism(Protocol):
    """Adds noise to a sum of integers."""

    @property
    def name(self) -> MechanismName:
        """The name in the release event."""
        ...

    @property
    def noise_source(self) -> NoiseSource:
        """The source in the release event."""
        ...

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        """Draw the noise of one release.

        Args:
            dimension: Length of the sum.
            sensitivity: Largest L2 change of the sum by one person, in lattice steps.

        Returns:
            int64[dimension], in lattice steps.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GaussianMechanism:
    """Independent Gaussian noise on each entry.

    Attributes:
        noise_multiplier: Standard deviation over sensitivity; above 0.
        noise: Where the normals come from.
        assumed: Only through `for_assumed_population`.
    """

    noise_multiplier: float
    noise: GaussianNoise
    assumed: AssumedPopulation | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0.0):
            raise ValueError(
                f"noise_multiplier must be finite and above 0; got {self.noise_multiplier}"
            )

    @classmethod
    def for_assumed_population(
        cls, *, noise_multiplier: float, noise: GaussianNoise, simulated_people: int, people: int
    ) -> GaussianMechanism:
        """Noise of a simulation that stands for ``people`` people; a forecast, labelled as one.

        >>> GaussianMechanism.for_assumed_population(
        ...     noise_multiplier=1.0, noise=GaussianNoise.from_seed_for_simulation(1),
        ...     simulated_people=100, people=1000).scale
        0.1
        """
        assumed = AssumedPopulation(simulated_people=simulated_people, people=people)
        return cls(noise_multiplier=noise_multiplier, noise=noise, assumed=assumed)

    @property
    def name(self) -> MechanismName:
        """The name in the release event."""
        return MechanismName.GAUSSIAN

    @property
    def noise_source(self) -> NoiseSource:
        """The source in the release event."""
        return self.noise.source

    @property
    def scale(self) -> float:
        """1 for a real release; simulated over assumed people for a forecast."""
        return 1.0 if self.assumed is None else self.assumed.scale

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        """Draw int64[dimension] noise in lattice steps."""
        std_steps = self.noise_multiplier * self.scale * sensitivity
        if std_steps * TAIL_SIGMA >= _MAX_STEPS:
            raise ValueError(f"noise_multiplier {self.noise_multiplier} is beyond the lattice")
        normals = self.noise.standard_normal(dimension)
        normals *= std_steps
        return np.rint(normals, out=normals).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class UnsafeNoNoise:
    """No noise and no privacy: for tests, and for the ceiling that a simulation shows beside."""

    @property
    def name(self) -> MechanismName:
        """The name in the release event."""
        return MechanismName.UNSAFE_NO_NOISE

    @property
    def noise_source(self) -> NoiseSource:
        """The source in the release event."""
        return NoiseSource.NONE

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:  # noqa: ARG002
        """Return zeros."""
        return np.zeros(dimension, dtype=np.int64)


def mechanism_for(event: ReleaseEvent, *, noise: GaussianNoise | None) -> Mechanism:
    """Make the mechanism that a reserved event describes, so that both cannot differ.

    Args:
        event: What the ledger reserved.
        noise: A source of the kind that the event names; None for a release without noise.

    Raises:
        NoiseSourceError: the noise is of another source than the event says.

    >>> from client_sdk.wire import TaskKind
    >>> event = ReleaseEvent(kind=TaskKind.ITEM_COUNTS, task_id="0" * 32, population="shop",
    ...     noise_multiplier=2.0, clip_norm=1.0, dimension=10, report_goal=100)
    >>> mechanism_for(event, noise=GaussianNoise.from_system()).noise_source.value
    'operating-system'
    """
    source = NoiseSource.NONE if noise is None else noise.source
    if source is not event.noise_source:
        raise NoiseSourceError(
            f"the event names noise from {event.noise_source.value}; got {source.value}"
        )
    if noise is None:
        return UnsafeNoNoise()
    return GaussianMechanism(
        noise_multiplier=event.noise_multiplier, noise=noise, assumed=event.assumed
    )
