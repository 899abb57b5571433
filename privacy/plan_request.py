"""What is to be planned: people, rounds and a budget that can be; or a refusal with the numbers.

Guarantee: a `Request` that was made can be carried out by its people, if each of them takes part as
often as it says and no more.

Neighbouring relation: none; these are public numbers.

How participation follows from what is asked:

1. A minimum separation of b rounds needs b · M different people in any b rounds, so
   b ≤ N · availability / M; the largest such b (at most T) is the default: the less often one
   person is in the run, the less noise covers them.
2. k = ⌈T / b⌉ is the most that such a person can be in the run; a smaller one may be given.
3. T · M ≤ N · k, or there are not enough people for the run.

Edge cases:

| request | outcome |
|---|---|
| a number that is none, or out of range | `ValueError` |
| too few people for the report goal, the separation or the rounds | `ValueError` with the numbers |
| more people needed at once than can be reached, or δ above 1 / N | a warning |
| more participations than fit | as many as fit |

Test: tests/privacy/test_planner.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from client_sdk.wire import TaskKind
from privacy.factorisation import MAX_ROUNDS

DEFAULT_AVAILABILITY: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be planned.

    Attributes:
        population: N, people who may take part.
        report_goal: M, people in one round.
        rounds: T.
        epsilon: What all of it may cost.
        delta: At this δ.
        task: What is learned.
        min_separation: b; the largest possible one when None.
        max_participations: k; ⌈T / b⌉ when None.
        poisson: Also plan with Poisson sampling, for whoever can keep its assumption.
        availability: Share of the people who can be reached within b rounds, in (0, 1].
        dimension: Length of the vector of the task; a usual one when None.
    """

    population: int
    report_goal: int
    rounds: int
    epsilon: float
    delta: float
    task: TaskKind = TaskKind.ITEM_TRAINING
    min_separation: int | None = None
    max_participations: int | None = None
    poisson: bool = False
    availability: float = DEFAULT_AVAILABILITY
    dimension: int | None = None

    def __post_init__(self) -> None:
        for name in ("population", "report_goal", "rounds", "min_separation", "max_participations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{_words(name)} must be at least 1; got {value}")
        if self.dimension is not None and self.dimension < 1:
            raise ValueError(f"dimension must be at least 1; got {self.dimension}")
        if self.rounds > MAX_ROUNDS:
            raise ValueError(f"rounds must be at most {MAX_ROUNDS:,}; got {self.rounds:,}")
        if not (math.isfinite(self.epsilon) and self.epsilon > 0.0):
            raise ValueError(f"epsilon must be finite and above 0; got {self.epsilon}")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta must lie strictly between 0 and 1; got {self.delta}")
        if not 0.0 < self.availability <= 1.0:
            raise ValueError(f"availability must be above 0 and at most 1; got {self.availability}")
        self._check_people()

    def _check_people(self) -> None:
        goal, people = self.report_goal, self.population
        if goal > people:
            raise ValueError(f"a report goal of {goal:,} needs more than the {people:,} people")
        separation, participations = self.participation
        if separation > self.rounds:
            raise ValueError(
                f"min separation {separation} is more than the {self.rounds} rounds there are"
            )
        if separation * goal > people:
            raise ValueError(
                f"{separation} rounds apart needs {separation * goal:,} different people; there "
                f"are {people:,}: lower the report goal or the min separation "
                f"(at most {people // goal})"
            )
        if self.rounds * goal > people * participations:
            raise ValueError(
                f"{self.rounds:,} rounds of {goal:,} are {self.rounds * goal:,} reports; "
                f"{people:,} people give at most {people * participations:,} at "
                f"{participations} each"
            )

    @property
    def participation(self) -> tuple[int, int]:
        """The minimum separation b and the maximum participations k, given or derived."""
        reachable = int(self.population * self.availability)
        possible = max(1, min(reachable // self.report_goal, self.rounds))
        separation = self.min_separation or possible
        fitting = -(-self.rounds // separation)
        return separation, min(self.max_participations or fitting, fitting)

    @property
    def reachable(self) -> int:
        """How many people one release of everybody can count on; at least the report goal."""
        return max(int(self.population * self.availability), self.report_goal)

    def warnings(self) -> tuple[str, ...]:
        """Say what is legal and unwise."""
        said = []
        separation, _ = self.participation
        needed = separation * self.report_goal / self.population
        if needed > self.availability:
            said.append(
                f"{needed:.0%} of all people must be reachable within {separation} rounds; "
                f"{self.availability:.0%} were assumed to be"
            )
        if self.delta > 1.0 / self.population:
            said.append(
                f"delta {self.delta:g} is above 1 / population: it would allow to publish one "
                "person in full"
            )
        return tuple(said)


def _words(name: str) -> str:
    return name.replace("_", " ")
