"""A scenario's values: everything that a run depends on, checked when made.

``scenario.schema.json`` beside this file is `scenario_schema`, printed by
``python -m simulations.scenarios --schema``.

Shares are probabilities for each person, drawn one by one (`simulations.scenarios.draws`), so that
a person is the same in a small and in a large population; what a run really had is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final

from privacy.clipping import MAX_CLIP_NORM
from simulations.scenarios.forms import (
    HOURS,
    FileName,
    Hourly,
    Inner,
    InnerList,
    Number,
    Numbers,
    OneOf,
    ScenarioError,
    Share,
    Whole,
    schema_of,
)
from simulations.settings import TASKS

MOST_PEOPLE: Final = 100_000_000
MOST_SEED: Final = 2**53 - 1
_TOLERANCE: Final = 1e-6
_ALWAYS: Final = (1.0,) * HOURS


def _check_sum(key: str, shares: list[float]) -> None:
    total = math.fsum(shares)
    if abs(total - 1.0) > _TOLERANCE:
        raise ScenarioError(
            key, f"expected shares that add up to 1; got {total:g} in all: correct one"
        )


@dataclass(frozen=True, kw_only=True)
class People:
    """Who is there."""

    source: Annotated[
        str, OneOf("where people come from", words=("bundled", "events", "synthetic"))
    ]
    events: Annotated[str | None, FileName("events as CSV; with the source events")] = None
    items: Annotated[str | None, FileName("items as CSV; with the source events")] = None
    model: Annotated[
        str | None,
        FileName("a fitted population as JSON; by default fitted to the bundled sample"),
    ] = None
    count: Annotated[int | None, Whole("synthetic people", least=1, most=MOST_PEOPLE)] = None

    def __post_init__(self) -> None:
        belongs = {"events": "events", "items": "events", "model": "synthetic"}
        for key, source in {**belongs, "count": "synthetic"}.items():
            if getattr(self, key) is not None and self.source != source:
                raise ScenarioError(
                    key, f'expected only with source = "{source}"; got it with another: remove it'
                )
        if self.source == "events" and self.events is None:
            raise ScenarioError("events", 'expected a file; got none: add events = "events.csv"')
        if self.source == "synthetic" and self.count is None:
            raise ScenarioError("count", "expected a whole number; got none: add count = 10000")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What people are asked for, and when."""

    kind: Annotated[str, OneOf("what devices contribute", words=TASKS)]
    rounds: Annotated[int, Whole("rounds of item training", least=1, most=1_000_000)] = 1
    cohort: Annotated[
        int | None, Whole("people invited to a round; by default all", least=1, most=MOST_PEOPLE)
    ] = None
    quorum: Annotated[float, Share("fewest contributions, as a share of the cohort")] = 0.1
    clip: Annotated[
        float | None, Number("clip norm of item training", least=1e-6, most=MAX_CLIP_NORM)
    ] = None
    top_items: Annotated[
        int | None, Whole("items that the statistics cover", least=1, most=4_096)
    ] = None
    min_separation: Annotated[
        int | None,
        Whole("fewest rounds between two of one person; by default as many as turns allow",
              least=1, most=1_000_000),
    ] = None  # fmt: skip
    round_every_hours: Annotated[
        float, Number("simulated hours from one task to the next", least=0.0, most=8_760.0)
    ] = 24.0
    first_hour_utc: Annotated[
        float, Number("hour of the day of the first task (UTC)", least=0.0, most=23.99)
    ] = 0.0

    def __post_init__(self) -> None:
        if self.kind == "item-statistics":
            if self.rounds != 1:
                raise ScenarioError(
                    "rounds", "expected 1 with item-statistics; got more: remove it, or take "
                    "item-training",
                )  # fmt: skip
            if self.clip is not None:
                raise ScenarioError(
                    "clip", "expected only with item-training, for a history has norm 1; got it "
                    "with item-statistics: remove it",
                )  # fmt: skip
            if self.min_separation is not None:
                raise ScenarioError(
                    "min_separation", "expected only with item-training, for statistics are one "
                    "round; got it with item-statistics: remove it",
                )  # fmt: skip
        elif self.top_items is not None:
            raise ScenarioError(
                "top_items", "expected only with item-statistics; got it with item-training: "
                "remove it",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """The price; one arm for each epsilon, beside one without noise."""

    epsilon: Annotated[tuple[float, ...], Numbers("privacy budgets", least=1e-3, most=1e3)]
    delta: Annotated[float, Number("probability that the claim fails", least=1e-15, most=0.1)] = (
        1e-6
    )
    population: Annotated[
        int | None,
        Whole("people that the noise is scaled to; by default who is there", least=1,
              most=1_000_000_000),
    ] = None  # fmt: skip

    def __post_init__(self) -> None:
        if len(set(self.epsilon)) != len(self.epsilon):
            raise ScenarioError("epsilon", "expected each budget once; got one twice: remove one")


@dataclass(frozen=True, kw_only=True)
class Zone:
    """People of one time zone."""

    offset_hours: Annotated[float, Number("local time less UTC", least=-12.0, most=14.0)]
    share: Annotated[float, Share("share of people")]


@dataclass(frozen=True, kw_only=True)
class Availability:
    """When devices can be reached, and are free to work; each by local hour, drawn apart."""

    reachable: Annotated[tuple[float, ...], Hourly("share of devices that answer at all")] = _ALWAYS
    idle: Annotated[tuple[float, ...], Hourly("share that nobody uses")] = _ALWAYS
    charging: Annotated[tuple[float, ...], Hourly("share with power from outside")] = _ALWAYS
    unmetered: Annotated[tuple[float, ...], Hourly("share on a free network")] = _ALWAYS
    habit: Annotated[
        float,
        Share("how far people are alike from round to round: 0 draws anew, 1 draws once"),
    ] = 0.0
    zones: Annotated[tuple[Zone, ...], InnerList("time zones; by default all in UTC", of=Zone)] = (
        Zone(offset_hours=0.0, share=1.0),
    )

    def __post_init__(self) -> None:
        _check_sum("zones", [each.share for each in self.zones])
        if not any(self.reachable):
            raise ScenarioError(
                "reachable", "expected people at some hour; got 0 at every hour: raise one"
            )


@dataclass(frozen=True, kw_only=True)
class ClockSkew:
    """How far devices' clocks are off: normal, the same for a device at all times."""

    deviation_s: Annotated[float, Number("standard deviation in seconds", least=0.0, most=1e9)] = (
        0.0
    )
    wrong: Annotated[float, Share("share of devices whose clock is badly off")] = 0.0
    wrong_deviation_s: Annotated[
        float, Number("their standard deviation in seconds", least=0.0, most=1e9)
    ] = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Failures:
    """What goes wrong after a device accepted."""

    drop_out: Annotated[float, Share("share that vanishes before it has worked")] = 0.0
    stragglers: Annotated[float, Share("share whose answer comes after the deadline")] = 0.0
    clock_skew: Annotated[ClockSkew, Inner("how far clocks are off", of=ClockSkew)] = ClockSkew()


@dataclass(frozen=True, kw_only=True)
class Consent:
    """What people answer when they are asked to help learn together."""

    refuse: Annotated[float, Share("share that says no")] = 0.0
    expired: Annotated[float, Share("share whose yes has run out before the first round")] = 0.0
    withdraw_midway: Annotated[
        float, Share("share of those who get a model's order that withdraws at that moment")
    ] = 0.0
    ask_again_after_rounds: Annotated[
        int | None,
        Whole("rounds after which an invitation asks a person again; never by default", least=1,
              most=1_000_000),
    ] = None  # fmt: skip
    agree_when_asked_again: Annotated[float, Share("share of those that says yes then")] = 0.5
    asked_hours_before: Annotated[
        float, Number("hours from the first question to the first task", least=0.0, most=8_760.0)
    ] = 24.0

    def __post_init__(self) -> None:
        if self.refuse + self.expired > 1.0 + _TOLERANCE:
            raise ScenarioError(
                "refuse", "expected refuse and expired to be at most 1 together; got more: lower "
                "one",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """Devices that attack: each of one kind, always there, never refusing."""

    label_flipping: Annotated[float, Share("share that sends the opposite of its update")] = 0.0
    boosting: Annotated[float, Share("share that sends its update many times over")] = 0.0
    boost_factor: Annotated[float, Number("how many times", least=1.0, most=1e6)] = 100.0
    not_a_number: Annotated[float, Share("share that sends NaN")] = 0.0
    sybils: Annotated[float, Share("share that one actor has enrolled")] = 0.0
    sybil_items: Annotated[
        int, Whole("least sold items that each of the actor's devices claims to hold", least=1,
                   most=4_096)
    ] = 10  # fmt: skip
    from_round: Annotated[
        int, Whole("the first round of the attack; honest before", least=0, most=1_000_000)
    ] = 0

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each attack, in the order of `simulations.scenarios.attacks.Attack`."""
        return (self.label_flipping, self.boosting, self.not_a_number, self.sybils)

    def __post_init__(self) -> None:
        if sum(self.shares) > 1.0 + _TOLERANCE:
            raise ScenarioError(
                "label_flipping", "expected the shares of all attacks to be at most 1 together; "
                "got more: lower one",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One file's content; with the code's version it fixes every bit of a run.

    Raises:
        ScenarioError: two keys contradict each other.
    """

    seed: Annotated[int, Whole("of everything that is drawn", least=0, most=MOST_SEED)]
    people: Annotated[People, Inner("who is there", of=People)]
    task: Annotated[Task, Inner("what people are asked for, and when", of=Task)]
    privacy: Annotated[Privacy, Inner("the price", of=Privacy)]
    availability: Annotated[
        Availability, Inner("when devices can be reached and are free", of=Availability)
    ] = Availability()
    failures: Annotated[Failures, Inner("what goes wrong", of=Failures)] = Failures()
    consent: Annotated[Consent, Inner("what people answer", of=Consent)] = Consent()
    hostile: Annotated[Hostile, Inner("who attacks", of=Hostile)] = Hostile()

    def __post_init__(self) -> None:
        consent, count, cohort = self.consent, self.people.count, self.task.cohort
        asks_again = consent.ask_again_after_rounds
        if asks_again is not None and not self.task.round_every_hours:
            raise ScenarioError(
                ("consent", "ask_again_after_rounds"), "expected time to pass between rounds; got "
                "round_every_hours = 0, so that a new yes is as old as the no: raise it",
            )  # fmt: skip
        if asks_again is None and consent.refuse + consent.expired >= 1.0 - _TOLERANCE:
            raise ScenarioError(
                ("consent", "refuse"), "expected somebody who says yes; got nobody: lower it, or "
                "add ask_again_after_rounds",
            )  # fmt: skip
        if count is not None and cohort is not None:
            self.check_people(count)
        population = self.privacy.population
        if count is not None and population is not None and population < count:
            raise ScenarioError(
                ("privacy", "population"), f"expected at least the {count} people there are; got "
                "fewer: raise or remove it",
            )  # fmt: skip

    def check_people(self, people: int) -> None:
        """Check against how many people there are; a file of events is counted when it is read.

        Raises:
            ScenarioError: the cohort is larger.
        """
        if self.task.cohort is not None and self.task.cohort > people:
            raise ScenarioError(
                ("task", "cohort"), f"expected at most the {people} people there are; got more: "
                "lower or remove it",
            )  # fmt: skip


def scenario_schema() -> dict[str, Any]:
    """Describe a scenario file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A scenario of a Homebody simulation, written as TOML",
        **schema_of(Scenario),
    }
