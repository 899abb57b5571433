"""What a run is asked to do, checked when made; `SettingsError` says what is wrong in one line.

Nothing heavy is imported here, so that a mistake is told before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from simulations.data.interactions import LoadedData

Task = Literal["item-statistics", "item-training"]
EngineName = Literal["kernel", "devices", "superlink"]

TASKS: Final[tuple[Task, ...]] = get_args(Task)
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)
DEFAULT_EPSILONS: Final = (2.0, 8.0)
DEFAULT_DELTA: Final = 1e-6
DEFAULT_POPULATION: Final = 100_000
DEFAULT_SEEDS: Final = 3
# More is either a typing mistake or hours of work.
_MOST: Final = 1_000_000_000
_MOST_SEEDS: Final = 1_000
MOST_WORKERS: Final = 1_024
MOST_SEED: Final = 2**53 - 1


class SettingsError(ValueError):
    """The settings contradict themselves or the data; change them."""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What ``homebody demo`` does.

    Attributes:
        epsilons: Privacy budgets to compare, each > 0; one arm each.
        delta: Probability that the claim fails, in (0, 1).
        population: People that the noise is scaled to; the report says what the real ones get.
        seeds: How often the run is repeated with other random numbers, >= 1.
        superlink: Send the contributions of 32 devices through a real SuperLink.

    Raises:
        SettingsError: when a value is outside its range.
    """

    epsilons: tuple[float, ...] = DEFAULT_EPSILONS
    delta: float = DEFAULT_DELTA
    population: int = DEFAULT_POPULATION
    seeds: int = DEFAULT_SEEDS
    superlink: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilons", _checked_epsilons(self.epsilons))
        _check_delta(self.delta)
        _check_count("population", self.population)
        _check_count("seeds", self.seeds, most=_MOST_SEEDS)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {**asdict(self), "epsilons": list(self.epsilons)}


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """What ``homebody simulate`` does: all of it, so that equal settings are an equal run.

    Attributes:
        events: The events file; or ``people``, one of the two.
        items: The items file, where there is one.
        people: A folder of synthetic people, from ``homebody population make``.
        task: What devices contribute, one of `TASKS`.
        epsilons: Privacy budgets to compare, each > 0; one arm each.
        delta: Probability that the claim fails, in (0, 1).
        rounds: Rounds of item training, >= 1; item statistics are one round.
        cohort: Devices asked in a round; everyone when None.
        population: People that the noise is scaled to; the people in the data when None.
        top_items: How many of the most popular items the statistics cover; chosen when None.
        seed: First seed, >= 0.
        seeds: How many seeds, counted up from the first, >= 1.
        engine: How people are asked, one of `ENGINES`; chosen when None (`simulations.engines`).
        workers: Threads of the engine ``kernel``, >= 1; the result does not depend on it.

    Raises:
        SettingsError: when a value is outside its range or two contradict each other.
    """

    events: Path | None = None
    items: Path | None = None
    people: Path | None = None
    task: Task = "item-statistics"
    epsilons: tuple[float, ...] = DEFAULT_EPSILONS
    delta: float = DEFAULT_DELTA
    rounds: int = 1
    cohort: int | None = None
    population: int | None = None
    top_items: int | None = None
    seed: int = 0
    seeds: int = 1
    engine: EngineName | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        self._check_source()
        if self.task not in TASKS:
            raise SettingsError(f"task must be one of {', '.join(TASKS)}; got {self.task!r}")
        if self.engine not in (None, *ENGINES):
            raise SettingsError(f"engine must be one of {', '.join(ENGINES)}; got {self.engine!r}")
        object.__setattr__(self, "epsilons", _checked_epsilons(self.epsilons))
        _check_delta(self.delta)
        _check_count("rounds", self.rounds)
        _check_count("seeds", self.seeds, most=_MOST_SEEDS)
        _check_count("seed", self.seed, least=0)
        _check_count("workers", self.workers, most=MOST_WORKERS)
        if self.workers != 1 and self.engine in {"devices", "superlink"}:
            raise SettingsError(
                f"workers are threads of the engine kernel; with {self.engine} leave them out"
            )
        for name in ("cohort", "population", "top_items"):
            value = getattr(self, name)
            if value is not None:
                _check_count(name.replace("_", "-"), value)
        if self.task == "item-statistics" and self.rounds != 1:
            raise SettingsError(
                f"item-statistics is a single round, got rounds {self.rounds}; "
                "leave rounds out, or take the task item-training"
            )
        if self.cohort is not None and self.population is not None:
            _check_cohort(self.cohort, self.population, "the population")

    def _check_source(self) -> None:
        if (self.events is None) == (self.people is None):
            got = "neither" if self.events is None else "both"
            raise SettingsError(f"give --events FILE or --people FOLDER, one of them; got {got}")
        if self.people is None:
            return
        if self.items is not None:
            raise SettingsError("items describe events; synthetic people have none: leave it out")
        if self.engine in {"devices", "superlink"}:
            raise SettingsError(
                f"synthetic people have no devices, so the engine {self.engine} cannot ask them; "
                "take the engine kernel, or give --events"
            )

    def load(self) -> LoadedData:
        """Load the events and check the settings against them.

        Raises:
            DataError: the files cannot be used.
            SettingsError: the cohort or the number of top items is larger than what there is; or
                these settings are about synthetic people.
        """
        from simulations.data.loader import load_events

        if self.events is None:
            raise SettingsError("these settings are about synthetic people; there are no events")
        loaded = load_events(self.events, self.items)
        self.check(people=loaded.quality.people, items=loaded.quality.items)
        return loaded

    def check(self, *, people: int, items: int) -> None:
        """Check the settings against the number of people and items in the data.

        Raises:
            SettingsError: the cohort or the number of top items is larger than what there is.
        """
        if self.cohort is not None:
            _check_cohort(self.cohort, people, "the number of people in the data")
        if self.top_items is not None and self.top_items > items:
            raise SettingsError(
                f"top-items must be at most the number of items, {items}; got {self.top_items}"
            )

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values; files by name, without their folders."""
        return {
            **asdict(self),
            **{name: _name_of(getattr(self, name)) for name in ("events", "items", "people")},
            "epsilons": list(self.epsilons),
        }


def _name_of(path: Path | None) -> str | None:
    """Give a file's or a folder's own name; ``.`` and ``..`` have one too."""
    return None if path is None else (path.name or path.resolve().name)


def arm_name(epsilon: float) -> str:
    """Name the arm that learns together under a budget.

    Example:
        >>> arm_name(2.0), arm_name(0.5)
        ('together-eps-2', 'together-eps-0.5')
    """
    return f"together-eps-{epsilon:.12g}"


def _checked_epsilons(epsilons: Sequence[float]) -> tuple[float, ...]:
    """Give the budgets, each once, or say what is wrong."""
    if not epsilons:
        raise SettingsError("epsilon needs at least one value")
    for epsilon in epsilons:
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise SettingsError(f"epsilon must be a finite number > 0, got {epsilon:g}")
    return tuple(dict.fromkeys(float(epsilon) for epsilon in epsilons))


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise SettingsError(f"delta must be between 0 and 1 (both excluded), got {delta:g}")


def _check_count(name: str, value: int, *, least: int = 1, most: int = _MOST) -> None:
    if not least <= value <= most:
        raise SettingsError(f"{name} must be from {least} to {most}, got {value}")


def _check_cohort(cohort: int, people: int, what: str) -> None:
    if cohort > people:
        raise SettingsError(f"cohort must be at most {what}, {people}; got {cohort}")
