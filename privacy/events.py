"""What happened: one frozen value for each release. Accountants interpret it later.

Guarantee: none by itself. An event holds every fact on which a claim rests (mechanism, noise
multiplier, clip norm, adjacency, whom one must trust, where the noise came from), so that any
accountant can recompute the claim; a running ε is never stored.

Neighbouring relation: `ADJACENCY`, the only one that this version can account for. The sum is
divided by the report goal, which is public and fixed before anyone answers, so a person who is
taken out is replaced by the zero vector.

Edge cases:

| input | outcome |
|---|---|
| no noise (``UNSAFE_NO_NOISE``, multiplier 0) | a valid event; every accountant says ε = ∞ |
| Gaussian with multiplier 0, negative, infinite or NaN | `ValueError` |
| more than one participation of a person in one sum | `ValueError`: the sum admits one |
| assumed population without the simulated one, or smaller than it | `ValueError` |
| assumed population, noise from the operating system | allowed; a simulation all the same |
| stored bytes of another version, with a missing or an unknown field | `EventFormatError` |

Test: tests/privacy/test_events.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final

from client_sdk.wire import PURPOSE_OF, Purpose, TaskKind, canonical_json
from privacy.errors import EventFormatError

EVENT_VERSION: Final = 1
ADJACENCY: Final = "add-or-remove one person (zero-out, fixed denominator)"
TRUSTED: Final = "the aggregator sees each clipped vector; nobody else"


class MechanismName(StrEnum):
    """How a sum was released."""

    GAUSSIAN = "gaussian"
    UNSAFE_NO_NOISE = "unsafe-no-noise"


class NoiseSource(StrEnum):
    """Where the randomness came from; a claim to the world needs `OPERATING_SYSTEM`."""

    OPERATING_SYSTEM = "operating-system"
    SEEDED_SIMULATION = "seeded-simulation"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class AssumedPopulation:
    """A simulation's claim to stand for more people than it has.

    The noise on the sum is scaled by ``simulated_people / people``, so that the *mean* carries the
    noise it would carry at ``people`` people. Whatever is computed from such a release is a
    forecast, and every output that shows it must say so (`label`).
    """

    simulated_people: int
    people: int

    def __post_init__(self) -> None:
        if not 1 <= self.simulated_people <= self.people:
            raise ValueError(
                "an assumed population is at least as large as the simulated one; got "
                f"{self.people} for {self.simulated_people} simulated people"
            )

    @property
    def scale(self) -> float:
        """Factor on the noise of the sum, in (0, 1]."""
        return self.simulated_people / self.people

    @property
    def label(self) -> str:
        """The words that every output carries.

        >>> AssumedPopulation(simulated_people=6040, people=60400).label
        'simulation: noise as if 60,400 people took part (6,040 simulated)'
        """
        return (
            f"simulation: noise as if {self.people:,} people took part "
            f"({self.simulated_people:,} simulated)"
        )


@dataclass(frozen=True, kw_only=True)
class ReleaseEvent:
    """One release of one bounded sum.

    Attributes:
        kind: The task.
        task_id: The order's id, 32 hexadecimal digits.
        population: Name of the people who share a budget.
        mechanism: How the sum was released.
        noise_multiplier: Standard deviation of the noise over the sensitivity; 0 without noise.
        noise_source: Where the noise came from.
        clip_norm: Largest L2 norm of one contribution.
        dimension: Length of the sum.
        report_goal: The fixed denominator, in people.
        max_participations: How often one person may be in this sum; 1 in this version.
        assumed: Set in a simulation that stands for more people than it has.
        adjacency: The neighbouring relation; `ADJACENCY`.
        trusted: Whom the claim asks one to trust.

    >>> event = ReleaseEvent(kind=TaskKind.ITEM_COUNTS, task_id="0" * 32, population="shop",
    ...     noise_multiplier=2.0, clip_norm=1.0, dimension=10, report_goal=100)
    >>> event.purpose, event.sensitivity, event.noise_std
    (<Purpose.STATISTICS: 'statistics'>, 1.0, 2.0)
    >>> ReleaseEvent.from_json(event.to_json()) == event
    True
    """

    kind: TaskKind
    task_id: str
    population: str
    noise_multiplier: float
    clip_norm: float
    dimension: int
    report_goal: int
    mechanism: MechanismName = MechanismName.GAUSSIAN
    noise_source: NoiseSource = NoiseSource.OPERATING_SYSTEM
    max_participations: int = 1
    assumed: AssumedPopulation | None = None
    adjacency: str = ADJACENCY
    trusted: str = TRUSTED

    def __post_init__(self) -> None:
        if not self.population or not self.task_id:
            raise ValueError("population and task_id must not be empty")
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0.0):
            raise ValueError(f"clip_norm must be finite and above 0; got {self.clip_norm}")
        if self.dimension < 1 or self.report_goal < 1:
            raise ValueError("dimension and report_goal must be at least 1")
        if self.max_participations != 1:
            raise ValueError(
                f"one person is in one sum once; got max_participations {self.max_participations}"
            )
        if self.adjacency != ADJACENCY:
            raise ValueError(f"the only adjacency of this version is {ADJACENCY!r}")
        self._check_noise()

    def _check_noise(self) -> None:
        noisy = self.mechanism is MechanismName.GAUSSIAN
        if noisy and not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0.0):
            raise ValueError(
                f"a Gaussian release needs a noise multiplier above 0; got {self.noise_multiplier}"
            )
        if not noisy and self.noise_multiplier != 0.0:
            raise ValueError("a release without noise has noise multiplier 0")
        if noisy == (self.noise_source is NoiseSource.NONE):
            raise ValueError("noise_source must be 'none' exactly where there is no noise")

    @property
    def purpose(self) -> Purpose:
        """The consent under which the people took part; fixed by the task."""
        return PURPOSE_OF[self.kind]

    @property
    def sensitivity(self) -> float:
        """Largest change of the sum, in L2, when one person is taken out."""
        return self.clip_norm * self.max_participations

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each entry of the sum."""
        scale = 1.0 if self.assumed is None else self.assumed.scale
        return self.noise_multiplier * self.sensitivity * scale

    @property
    def simulated(self) -> bool:
        """Whether this release can be a claim to the world (False) or only a forecast (True)."""
        return self.assumed is not None or self.noise_source is NoiseSource.SEEDED_SIMULATION

    @property
    def assumed_population(self) -> int | None:
        """The number of people that a simulation stands for, or None where nothing is assumed."""
        return None if self.assumed is None else self.assumed.people

    def to_json(self) -> bytes:
        """Canonical JSON; the purpose is written for the reader and checked when read."""
        return canonical_json({"version": EVENT_VERSION, "purpose": self.purpose, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes | str) -> ReleaseEvent:
        """Read what `to_json` wrote.

        Raises:
            EventFormatError: anything else.
        """
        try:
            return cls._from_values(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise EventFormatError(f"not a release event of version {EVENT_VERSION}") from error

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> ReleaseEvent:
        left = dict(values)
        if left.pop("version") != EVENT_VERSION:
            raise EventFormatError(f"expected event version {EVENT_VERSION}")
        purpose = left.pop("purpose")
        if set(left) != {field.name for field in fields(cls)}:
            raise EventFormatError("a field is missing or unknown")
        for name, kinds in _FIELD_TYPES.items():
            if type(left[name]) not in kinds:
                raise EventFormatError(f"field {name!r} has the wrong type")
        assumed = left.pop("assumed")
        event = cls(
            **{
                **left,
                "kind": TaskKind(left["kind"]),
                "mechanism": MechanismName(left["mechanism"]),
                "noise_source": NoiseSource(left["noise_source"]),
                "assumed": None if assumed is None else AssumedPopulation(**assumed),
            }
        )
        if event.purpose != purpose:
            raise EventFormatError("the purpose is not that of the task")
        return event


_FIELD_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "task_id": (str,),
    "population": (str,),
    "noise_multiplier": (float, int),
    "clip_norm": (float, int),
    "dimension": (int,),
    "report_goal": (int,),
    "max_participations": (int,),
    "adjacency": (str,),
    "trusted": (str,),
}
