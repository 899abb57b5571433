"""A sweep's values: what stays, what varies, how it is searched; and the cells that follow.

>>> Knob.at(0.1, 10.0, steps=3, log=True).values
(0.1, 1.0, 10.0)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np

from simulations.evaluation.metrics import METRICS
from simulations.scenarios.forms import OneOf, Whole
from simulations.scenarios.scenario import MOST_SEED, Scenario

KNOBS: Final = ("clip", "cohort", "top_items", "min_separation", "rounds")
"""What is tuned for each goal; keys of a scenario's task."""
MOST_CELLS: Final = 10_000
MOST_SEEDS: Final = 100
_DIGITS: Final = 12

Value = float | int


@dataclass(frozen=True, kw_only=True)
class Search:
    """How settings are tried and chosen."""

    kind: Annotated[str, OneOf("how settings are tried", words=("grid", "random"))] = "grid"
    cells: Annotated[
        int | None,
        Whole("settings drawn for each goal; with random", least=1, most=MOST_CELLS, example="20"),
    ] = None
    seed: Annotated[int, Whole("of what is drawn; with random", least=0, most=MOST_SEED)] = 0
    choose_by: Annotated[str, OneOf("what is compared on validation", words=METRICS)] = METRICS[0]
    validation_seeds: Annotated[
        int, Whole("seeds of each setting on validation", least=1, most=MOST_SEEDS)
    ] = 1
    test_seeds: Annotated[
        int, Whole("seeds of the chosen settings on test", least=1, most=MOST_SEEDS)
    ] = 3


@dataclass(frozen=True, kw_only=True)
class Knob:
    """What one setting may be.

    Attributes:
        values: Of a grid, in their order.
        low: Of a range that is drawn from; None where there are only values.
        high: Its end.
        log: Whether it is drawn evenly by its logarithm.
        whole: Whether it is a whole number.
    """

    values: tuple[Value, ...]
    low: Value | None = None
    high: Value | None = None
    log: bool = False
    whole: bool = False

    @classmethod
    def at(
        cls, low: Value, high: Value, *, steps: int, log: bool = False, whole: bool = False
    ) -> Knob:
        """Give a range, with its grid of so many values."""
        ends = (math.log(low), math.log(high)) if log else (low, high)
        evenly = np.linspace(*ends, steps)
        found = np.exp(evenly) if log else evenly
        values = [round(each) if whole else _rounded(each) for each in found.tolist()]
        return cls(values=tuple(dict.fromkeys(values)), low=low, high=high, log=log, whole=whole)

    def draw(self, rng: np.random.Generator) -> Value:
        """Draw one."""
        if self.low is None or self.high is None:
            return self.values[int(rng.integers(len(self.values)))]
        if self.whole and not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        drawn = float(rng.uniform(*ends))
        found = math.exp(drawn) if self.log else drawn
        return round(found) if self.whole else _rounded(found)


@dataclass(frozen=True, kw_only=True, order=True)
class Goal:
    """What settings are chosen for.

    Attributes:
        epsilon: The budget; infinite for no noise.
        population: People that the noise is scaled to; None for who is there.
    """

    epsilon: float
    population: int | None

    @property
    def is_private(self) -> bool:
        """Whether there is noise."""
        return math.isfinite(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Settings that are tried for a goal.

    Attributes:
        number: Its place in the sweep, from 0.
        goal: What for.
        settings: The knobs that vary, by name.
    """

    number: int
    goal: Goal
    settings: Mapping[str, Value]

    def scenario(self, base: Scenario, *, seed: int) -> Scenario:
        """Give the scenario with this cell's settings.

        Raises:
            ScenarioError: they contradict each other.
        """
        epsilon = (self.goal.epsilon,) if self.goal.is_private else base.privacy.epsilon
        settings: Mapping[str, Any] = self.settings
        return replace(
            base,
            seed=seed,
            task=replace(base.task, **settings),
            privacy=replace(base.privacy, epsilon=epsilon, population=self.goal.population),
        )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One file's content.

    Attributes:
        name: What to call it.
        base: What stays.
        beside: The folder that file names of the base are seen from.
        epsilons: Budgets, in their order; infinite for no noise.
        populations: People that the noise is scaled to; None for who is there.
        knobs: What is tuned.
        search: How.
        arms: Arms to compare with, by their names in `simulations.arms.registry`.
        lines: Key under ``vary`` to its line in the file, for errors.
    """

    name: str
    base: Scenario
    beside: Path
    epsilons: tuple[float, ...]
    populations: tuple[int | None, ...]
    knobs: Mapping[str, Knob]
    search: Search
    arms: tuple[str, ...]
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def goals(self) -> list[Goal]:
        """Every ε with every population; without noise a population says nothing."""
        return [
            Goal(epsilon=epsilon, population=population)
            for epsilon in self.epsilons
            for population in (self.populations if math.isfinite(epsilon) else (None,))
        ]

    @property
    def tried(self) -> list[Mapping[str, Value]]:
        """The settings that are tried for each goal, each once."""
        if self.search.kind == "random":
            rng = np.random.default_rng(self.search.seed)
            drawn = [
                {name: knob.draw(rng) for name, knob in self.knobs.items()}
                for _ in range(self.search.cells or 1)
            ]
        else:
            drawn = [
                dict(zip(self.knobs, values, strict=True))
                for values in itertools.product(*(knob.values for knob in self.knobs.values()))
            ]
        return list({tuple(each.items()): each for each in drawn}.values())

    @property
    def cells(self) -> list[Cell]:
        """Everything that is tried, goal by goal."""
        pairs = itertools.product(self.goals, self.tried)
        return [
            Cell(number=number, goal=goal, settings=settings)
            for number, (goal, settings) in enumerate(pairs)
        ]

    def seeds(self, how_many: int) -> range:
        """Count seeds up from the base's."""
        return range(self.base.seed, self.base.seed + how_many)


def _rounded(value: float) -> float:
    """Cut the noise of the last digits off, so that a value reads as it was meant."""
    return float(f"{value:.{_DIGITS}g}")
