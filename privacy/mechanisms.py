"""How a sum is released: integer noise on the lattice of the sum.

Guarantee: `GaussianMechanism` adds the rounded value of N(0, (noise_multiplier·sensitivity)²) to an
integer sum. Rounding noise and adding integers equals rounding the sum of both, so the release is
the Gaussian mechanism followed by post-processing: exactly the curve of `privacy.gaussian`, up to
the tail that `privacy.noise` states. All entries get noise, whether or not anyone touched them.
`RoundMechanism` adds the noise of one round of a run (`privacy.correlated`); the guarantee is
that of the whole run. `privacy.discrete` and `privacy.local` hold the others.

Neighbouring relation: that of the sensitivity, in lattice steps; add or remove one person.

Edge cases:

| case | outcome |
|---|---|
| a noise multiplier that is 0, negative, infinite or NaN | `ValueError` |
| an assumed population | noise is scaled by simulated / assumed people and labelled |
| noise beyond 2⁵³ steps | `ValueError`: float64 could no longer name each step |
| an event whose noise source is not that of the given noise | `NoiseSourceError` |
| seeded noise for a discrete mechanism | `NoiseSourceError`: OpenDP draws from the system |
| a run's event without the state of its noise, or with that of another | `ValueError` |
| a second draw from one `RoundMechanism` | `NoiseStateError`: a round has one noise |
| a local release | the sum gets no more noise: each device added its own |
| `UnsafeNoNoise` | no noise; its event makes every accountant say ε = ∞ |

Test: tests/privacy/test_mechanisms.py, one contract class for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.correlated import NoiseState, apply, init
from privacy.errors import NoiseSourceError, NoiseStateError
from privacy.events import AssumedPopulation, MechanismName, NoiseSource, ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName
from privacy.noise import GaussianNoise

_ONE_ROUND: Final = Factorisation(
    name=FactorisationName.INDEPENDENT_ROUNDS, rounds=1, min_separation=1, max_participations=1
)


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
        """Draw int64[dimension] noise in lattice steps: a run of one round."""
        state = init(factorisation=_ONE_ROUND, dimension=dimension, key=self.noise.new_key())
        noise, _ = apply(state, std_steps=self.noise_multiplier * self.scale * sensitivity)
        return noise


class RoundMechanism:
    """The noise of the next round of a run, once.

    Args:
        event: The run's event, which the ledger reserved.
        state: Where the run's noise stands; moved on by `noise_steps`.

    Raises:
        ValueError: the event is not of a run, or the state is of another one.
    """

    def __init__(self, *, event: ReleaseEvent, state: NoiseState) -> None:
        plan = event.factorisation
        if plan is None or plan != state.factorisation or event.dimension != state.dimension:
            raise ValueError("the noise state is not of the run that the event describes")
        self._event = event
        self._plan = plan
        self._state = state
        self._drawn = False

    @property
    def name(self) -> MechanismName:
        """The name in the release event."""
        return self._event.mechanism

    @property
    def noise_source(self) -> NoiseSource:
        """The source in the release event."""
        return self._event.noise_source

    @property
    def state(self) -> NoiseState:
        """Where the run's noise stands: save it before the noisy sum is handed out."""
        return self._state

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:
        """Return the round's int64[dimension] noise in lattice steps.

        Args:
            dimension: That of the event.
            sensitivity: One clip norm in lattice steps; what one person moves over the whole run is
                derived from the factorisation.

        Raises:
            NoiseStateError: the round's noise was handed out, or the run is over.
        """
        if dimension != self._event.dimension:
            raise ValueError(f"the run's dimension is {self._event.dimension}; got {dimension}")
        if self._drawn:
            raise NoiseStateError("this round has its noise; it is never drawn twice")
        assumed = self._event.assumed
        std_steps = self._event.noise_multiplier * self._plan.sensitivity() * sensitivity
        std_steps *= 1.0 if assumed is None else assumed.scale
        noise, self._state = apply(self._state, std_steps=std_steps)
        self._drawn = True
        return noise


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


@dataclass(frozen=True, kw_only=True)
class NoiseAtDevices:
    """No noise on the sum of a local release: every device added its own (`privacy.local`).

    Attributes:
        noise_source: What the devices' noise came from, as the event says.
    """

    noise_source: NoiseSource

    @property
    def name(self) -> MechanismName:
        """The name in the release event."""
        return MechanismName.LOCAL_GAUSSIAN

    def noise_steps(self, *, dimension: int, sensitivity: int) -> NDArray[np.int64]:  # noqa: ARG002
        """Return zeros."""
        return np.zeros(dimension, dtype=np.int64)


def mechanism_for(
    event: ReleaseEvent, *, noise: GaussianNoise | None, state: NoiseState | None = None
) -> Mechanism:
    """Make the mechanism that a reserved event describes, so that both cannot differ.

    Args:
        event: What the ledger reserved.
        noise: A source of the kind that the event names; None for a release without noise.
        state: For a run of rounds, where its noise stands; its key came from a source of that kind.

    Raises:
        NoiseSourceError: the noise is of another source than the event says.
        ValueError: a state where the event is of one round, or none where it is of a run.

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
    if (state is None) != (event.factorisation is None):
        raise ValueError("the state of a run's noise belongs to the event of a run, and only there")
    if state is not None:
        return RoundMechanism(event=event, state=state)
    if event.mechanism is MechanismName.LOCAL_GAUSSIAN:
        return NoiseAtDevices(noise_source=source)
    if event.mechanism in (MechanismName.DISCRETE_GAUSSIAN, MechanismName.DISCRETE_LAPLACE):
        return _discrete(event)
    return GaussianMechanism(
        noise_multiplier=event.noise_multiplier, noise=noise, assumed=event.assumed
    )


def _discrete(event: ReleaseEvent) -> Mechanism:
    from privacy.discrete import DiscreteGaussianMechanism, DiscreteLaplaceMechanism

    if event.noise_source is not NoiseSource.OPERATING_SYSTEM:
        raise NoiseSourceError("discrete noise comes from the operating system alone")
    if event.assumed is not None:
        raise ValueError("discrete noise is not scaled to an assumed population")
    if event.mechanism is MechanismName.DISCRETE_GAUSSIAN:
        return DiscreteGaussianMechanism(noise_multiplier=event.noise_multiplier)
    return DiscreteLaplaceMechanism(noise_multiplier=event.noise_multiplier)
