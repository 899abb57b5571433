"""What happened: one frozen value for each release. Accountants interpret it later.

Guarantee: none by itself. An event holds every fact on which a claim rests (mechanism, noise
multiplier, clip norm, participation, adjacency, whom one must trust, where the noise came from), so
that any accountant can recompute the claim; a running ε is never stored.

Neighbouring relation: `ADJACENCY`, and `LOCAL_ADJACENCY` for noise that each device adds itself.
The sum is divided by the report goal, which is public and fixed before anyone answers, so a person
who is taken out is replaced by the zero vector.

A training run is **one** event: the whole release of n rounds whose noise a `Factorisation`
correlates. What is derived from other facts (sensitivity, participation, purpose, assumptions) is a
property; it is written into the stored form for the reader and checked when read.

Which norm the clip bounds, and what the noise multiplier is over:

| mechanism | clip bounds | noise multiplier |
|---|---|---|
| Gaussian, one round or factorised | L2 | white noise's deviation / (clip · its sensitivity) |
| discrete Gaussian | L2 | its σ / clip |
| discrete Laplace | L1 | √2 · its scale / clip |
| local Gaussian | L2 | standard deviation at the device / (2 · clip) |

Edge cases:

| input | outcome |
|---|---|
| no noise (``UNSAFE_NO_NOISE``, multiplier 0) | a valid event; every accountant says ε = ∞ |
| noise with multiplier 0, negative, infinite or NaN | `ValueError` |
| a mechanism of rounds without its factorisation, or the reverse | `ValueError` |
| a factorisation of another name than the mechanism | `ValueError` |
| Poisson sampling with correlated noise or limited participation | `ValueError`: not accountable |
| a local release with the words of a central one, or the reverse | `ValueError` |
| assumed population without the simulated one, or smaller than it | `ValueError` |
| assumed population, noise from the operating system | allowed; a simulation all the same |
| stored bytes of version 1 | read as what they were: one round, any time, no sampling |
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
from privacy.factorisation import Factorisation, FactorisationName

EVENT_VERSION: Final = 2
ADJACENCY: Final = "add-or-remove one person (zero-out, fixed denominator)"
LOCAL_ADJACENCY: Final = "replace one person's whole contribution (local)"
TRUSTED: Final = "the aggregator sees each clipped vector; nobody else"
LOCAL_TRUSTED: Final = "nobody: each device adds its own noise before it sends"
ALL_TIME: Final = "all time"
POISSON_ASSUMPTION: Final = (
    "Poisson sampling: in every round each person is drawn by an independent coin of one known "
    "probability, answers whenever drawn, and nobody sees who was drawn"
)


class MechanismName(StrEnum):
    """How a sum, or the sums of a run, were released."""

    GAUSSIAN = "gaussian"
    INDEPENDENT_ROUNDS = "independent-rounds"
    TREE = "tree"
    BANDED_TOEPLITZ = "banded-toeplitz"
    BLT = "blt"
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    DISCRETE_LAPLACE = "discrete-laplace"
    LOCAL_GAUSSIAN = "local-gaussian"
    UNSAFE_NO_NOISE = "unsafe-no-noise"


# How a tree's estimates are combined is post-processing: one mechanism, whichever way.
_MECHANISM_OF: Final[Mapping[FactorisationName, MechanismName]] = {
    FactorisationName.INDEPENDENT_ROUNDS: MechanismName.INDEPENDENT_ROUNDS,
    FactorisationName.TREE: MechanismName.TREE,
    FactorisationName.TREE_HONAKER: MechanismName.TREE,
    FactorisationName.BANDED_TOEPLITZ: MechanismName.BANDED_TOEPLITZ,
    FactorisationName.BLT: MechanismName.BLT,
}
FACTORISED: Final = frozenset(_MECHANISM_OF.values())
_MAY_BE_SAMPLED: Final = frozenset({MechanismName.GAUSSIAN, MechanismName.INDEPENDENT_ROUNDS})


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
    """One release of one bounded sum, or of all the sums of one training run.

    Attributes:
        kind: The task.
        task_id: The order's id, or the run's, 32 hexadecimal digits.
        population: Name of the people who share a budget.
        mechanism: How it was released.
        noise_multiplier: Noise over the sensitivity of the whole release (see the module's table);
            0 without noise.
        noise_source: Where the noise came from.
        clip_norm: Largest norm of one contribution.
        dimension: Length of each sum.
        report_goal: The fixed denominator, in people.
        factorisation: How the noise of the rounds is correlated; None for one round.
        window: Which budget window it is booked in.
        sampling_probability: Only where the accounting relies on `POISSON_ASSUMPTION`; else None.
        assumed: Set in a simulation that stands for more people than it has.
        adjacency: The neighbouring relation; `ADJACENCY`, or `LOCAL_ADJACENCY` for a local one.
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
    factorisation: Factorisation | None = None
    window: str = ALL_TIME
    sampling_probability: float | None = None
    assumed: AssumedPopulation | None = None
    adjacency: str = ADJACENCY
    trusted: str = TRUSTED

    def __post_init__(self) -> None:
        if not self.population or not self.task_id or not self.window:
            raise ValueError("population, task_id and window must not be empty")
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0.0):
            raise ValueError(f"clip_norm must be finite and above 0; got {self.clip_norm}")
        if self.dimension < 1 or self.report_goal < 1:
            raise ValueError("dimension and report_goal must be at least 1")
        self._check_noise()
        self._check_rounds()
        self._check_claim()

    def _check_noise(self) -> None:
        noisy = self.mechanism is not MechanismName.UNSAFE_NO_NOISE
        if noisy and not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0.0):
            raise ValueError(
                f"a {self.mechanism.value} release needs a noise multiplier above 0; "
                f"got {self.noise_multiplier}"
            )
        if not noisy and self.noise_multiplier != 0.0:
            raise ValueError("a release without noise has noise multiplier 0")
        if noisy == (self.noise_source is NoiseSource.NONE):
            raise ValueError("noise_source must be 'none' exactly where there is no noise")

    def _check_rounds(self) -> None:
        plan = self.factorisation
        noisy = self.mechanism is not MechanismName.UNSAFE_NO_NOISE
        if noisy and (self.mechanism in FACTORISED) != (plan is not None):
            raise ValueError(
                f"a release by {self.mechanism.value} "
                + ("needs its factorisation" if plan is None else "is of one round")
            )
        if noisy and plan is not None and _MECHANISM_OF[plan.name] is not self.mechanism:
            raise ValueError(f"the factorisation is {plan.name.value}, not {self.mechanism.value}")
        rate = self.sampling_probability
        if rate is None:
            return
        if not 0.0 < rate < 1.0:
            raise ValueError(f"sampling_probability lies strictly between 0 and 1; got {rate}")
        if self.mechanism not in _MAY_BE_SAMPLED:
            raise ValueError(f"Poisson sampling cannot be accounted for {self.mechanism.value}")
        if plan is not None and (plan.min_separation, plan.max_participations) != (1, plan.rounds):
            raise ValueError("under Poisson sampling a person may be in every round: b 1, k n")

    def _check_claim(self) -> None:
        local = self.mechanism is MechanismName.LOCAL_GAUSSIAN
        expected = LOCAL_ADJACENCY if local else ADJACENCY
        if self.adjacency != expected:
            raise ValueError(f"the adjacency of this mechanism is {expected!r}")
        if not self.trusted or local != (self.trusted == LOCAL_TRUSTED):
            raise ValueError("a local release trusts nobody, any other one somebody; say whom")

    @property
    def purpose(self) -> Purpose:
        """The consent under which the people took part; fixed by the task."""
        return PURPOSE_OF[self.kind]

    @property
    def rounds(self) -> int:
        """How many sums are released."""
        return 1 if self.factorisation is None else self.factorisation.rounds

    @property
    def max_participations(self) -> int:
        """In how many of the sums one person may be."""
        return 1 if self.factorisation is None else self.factorisation.max_participations

    @property
    def min_separation(self) -> int:
        """Smallest difference of the indices of two rounds that hold the same person."""
        return 1 if self.factorisation is None else self.factorisation.min_separation

    @property
    def sensitivity(self) -> float:
        """Largest change of what the white noise covers when one person is taken out.

        In L2, in L1 for discrete Laplace; in a local release when one person is replaced.
        """
        if self.mechanism is MechanismName.LOCAL_GAUSSIAN:
            return 2.0 * self.clip_norm
        unit = 1.0 if self.factorisation is None else self.factorisation.sensitivity()
        return self.clip_norm * unit

    @property
    def noise_std(self) -> float:
        """Standard deviation of the white noise on each entry of the sum.

        Where rounds are correlated: of Z, before it is correlated. In a local release: of all the
        devices' noise in the sum of a full report.
        """
        scale = 1.0 if self.assumed is None else self.assumed.scale
        local = self.mechanism is MechanismName.LOCAL_GAUSSIAN
        devices = math.sqrt(self.report_goal) if local else 1.0
        return self.noise_multiplier * self.sensitivity * scale * devices

    @property
    def assumes(self) -> tuple[str, ...]:
        """What the claim takes for granted beyond its adjacency, in words."""
        said = []
        if self.sampling_probability is not None:
            said.append(f"{POISSON_ASSUMPTION} (probability {self.sampling_probability:.6g})")
        if self.rounds > 1 and self.sampling_probability is None:
            said.append(
                f"nobody is in more than {self.max_participations} of {self.rounds} rounds, "
                f"at least {self.min_separation} apart; enforced by devices and aggregator"
            )
        return tuple(said)

    @property
    def simulated(self) -> bool:
        """Whether this release can be a claim to the world (False) or only a forecast (True)."""
        return self.assumed is not None or self.noise_source is NoiseSource.SEEDED_SIMULATION

    @property
    def assumed_population(self) -> int | None:
        """The number of people that a simulation stands for, or None where nothing is assumed."""
        return None if self.assumed is None else self.assumed.people

    def to_json(self) -> bytes:
        """Canonical JSON of version 2, with what is derived, for the reader."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.assumed is not None:
            values["assumed"] = asdict(self.assumed)
        if self.factorisation is not None:
            values["factorisation"] = self.factorisation.to_values()
        return canonical_json({"version": EVENT_VERSION, **values, **self._derived()})

    def _derived(self) -> dict[str, Any]:
        return {
            "purpose": self.purpose.value,
            "rounds": self.rounds,
            "max_participations": self.max_participations,
            "min_separation": self.min_separation,
            "sensitivity": self.sensitivity,
            "assumes": list(self.assumes),
        }

    @classmethod
    def from_json(cls, data: bytes | str) -> ReleaseEvent:
        """Read what `to_json` wrote, in this version or in version 1.

        Raises:
            EventFormatError: anything else.
        """
        try:
            return cls._from_values(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise EventFormatError("not a release event of version 1 or 2") from error

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> ReleaseEvent:
        left = dict(values)
        version = left.pop("version")
        if type(version) is not int or version not in _NAMES:
            raise EventFormatError("expected event version 1 or 2")
        if set(left) != _NAMES[version]:
            raise EventFormatError("a field is missing or unknown")
        for name, kinds in _FIELD_TYPES.items():
            if name in left and type(left[name]) not in kinds:
                raise EventFormatError(f"field {name!r} has the wrong type")
        derived = {name: left.pop(name) for name in _DERIVED if name in left}
        assumed, plan = left["assumed"], left.get("factorisation")
        event = cls(
            **{
                **left,
                "kind": TaskKind(left["kind"]),
                "mechanism": MechanismName(left["mechanism"]),
                "noise_source": NoiseSource(left["noise_source"]),
                "assumed": None if assumed is None else AssumedPopulation(**assumed),
                "factorisation": None if plan is None else Factorisation.from_values(plan),
            }
        )
        event._check_derived(derived)
        if version == 1 and event.mechanism not in _VERSION_1_MECHANISMS:
            raise EventFormatError("version 1 had no such mechanism")
        return event

    def _check_derived(self, told: Mapping[str, Any]) -> None:
        """What was written for the reader must be what the facts say."""
        for name, value in self._derived().items():
            if name not in told:
                continue
            same = told[name] == value
            if name == "sensitivity":
                # Re-derived by another numpy, the last digits may differ.
                same = math.isclose(told[name], value, rel_tol=1e-9)
            if not same:
                raise EventFormatError(f"{name!r} does not follow from the other fields")


_DERIVED: Final = frozenset(
    {"purpose", "rounds", "max_participations", "min_separation", "sensitivity", "assumes"}
)
_VERSION_1_MECHANISMS: Final = frozenset({MechanismName.GAUSSIAN, MechanismName.UNSAFE_NO_NOISE})
_STORED: Final = frozenset(field.name for field in fields(ReleaseEvent))
_NEW_IN_2: Final = frozenset({"factorisation", "window", "sampling_probability"})
_NAMES: Final[Mapping[int, frozenset[str]]] = {
    1: (_STORED - _NEW_IN_2) | {"purpose", "max_participations"},
    2: _STORED | _DERIVED,
}
_FIELD_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "task_id": (str,),
    "population": (str,),
    "noise_multiplier": (float, int),
    "clip_norm": (float, int),
    "dimension": (int,),
    "report_goal": (int,),
    "rounds": (int,),
    "max_participations": (int,),
    "min_separation": (int,),
    "sensitivity": (float, int),
    "assumes": (list,),
    "window": (str,),
    "sampling_probability": (float, int, type(None)),
    "adjacency": (str,),
    "trusted": (str,),
}
