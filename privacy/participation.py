"""How often people really were in a run, and what is still to be paid for it.

Guarantee: a run that was reserved as `ReleaseEvent` ``event``, with the `supplement_for` it booked,
costs what the realised participation costs: the noise is what it was, the sensitivity that of the
realised (b, k), and a Gaussian of sensitivity s' under noise made for s is one of noise multiplier
``noise_multiplier · s / s'`` (`privacy.factorisation`). ρ = 1/(2σ²) adds up exactly, so the
supplement is the Gaussian release of the difference.

Neighbouring relation: `privacy.events.ADJACENCY`, one person with all their rounds.

Edge cases:

| case | outcome |
|---|---|
| nobody was in two rounds | b is the number of rounds, k is 1 |
| nobody took part | the same: nothing can be worse |
| realised as planned, or milder | no supplement, and nothing is given back |
| paid for before | only the difference is left |
| rounds whose participants were lost | `worst_case`: all of them by one person, b = 1 |
| a release without noise, or of one round | `ValueError` |

Test: tests/privacy/test_participation.py (all patterns of small runs against the matrix).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from privacy.events import MechanismName, ReleaseEvent
from privacy.factorisation import Factorisation

_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Realised:
    """How often people were in a run.

    Attributes:
        min_separation: Smallest difference of two rounds of one person, at least 1.
        max_participations: Most rounds of one person, at least 1.
    """

    min_separation: int
    max_participations: int

    def of(self, planned: Factorisation) -> Factorisation:
        """Give the run's strategy under this participation, whose sensitivity is what it cost."""
        return replace(
            planned,
            min_separation=self.min_separation,
            max_participations=self.max_participations,
        )


def realised_of(rounds_of_people: Iterable[Sequence[int]], *, rounds: int) -> Realised:
    """Find the realised participation.

    Args:
        rounds_of_people: For each person the numbers of their rounds, rising.
        rounds: Of the run.

    >>> realised_of([[0, 4, 7], [3]], rounds=10)
    Realised(min_separation=3, max_participations=3)
    """
    separation, participations = rounds, 1
    for numbers in rounds_of_people:
        participations = max(participations, len(numbers))
        gaps = (later - earlier for earlier, later in pairwise(numbers))
        separation = min(separation, *gaps, rounds)
    return Realised(min_separation=separation, max_participations=participations)


def worst_case(planned: Factorisation, *, lost_rounds: int) -> Realised:
    """Bound the participation of a run of which some rounds' participants are not known any more.

    Somebody may have been in each lost round, and as often as planned in the others.

    >>> from privacy.factorisation import FactorisationName
    >>> worst_case(Factorisation(name=FactorisationName.INDEPENDENT_ROUNDS, rounds=9,
    ...     min_separation=3, max_participations=2), lost_rounds=4)
    Realised(min_separation=1, max_participations=6)
    """
    most = min(planned.rounds, lost_rounds + planned.participations)
    return Realised(min_separation=1, max_participations=most)


def supplement_for(
    event: ReleaseEvent, realised: Realised, *, paid: Sequence[ReleaseEvent] = ()
) -> ReleaseEvent | None:
    """Describe the release whose price is still to be paid for a run.

    Args:
        event: The run, as reserved.
        realised: How often people were, or may have been, in it.
        paid: Supplements that were booked before.

    Returns:
        A one-round Gaussian with a task id of its own; None where everything is paid for.

    Raises:
        ValueError: not a run with noise.
    """
    planned = event.factorisation
    if planned is None or event.mechanism is MechanismName.UNSAFE_NO_NOISE:
        raise ValueError("only a run with noise has a realised participation to pay for")
    ratio = realised.of(planned).sensitivity() / planned.sensitivity()
    owed = (ratio / event.noise_multiplier) ** 2
    covered = math.fsum(each.noise_multiplier**-2 for each in (event, *paid))
    if owed <= covered * (1.0 + _ROUNDING):
        return None
    name = hashlib.sha256(f"supplement {len(paid)} {event.task_id}".encode()).hexdigest()[:32]
    return replace(
        event,
        task_id=name,
        mechanism=MechanismName.GAUSSIAN,
        factorisation=None,
        noise_multiplier=1.0 / math.sqrt(owed - covered),
    )
