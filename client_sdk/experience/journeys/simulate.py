"""Simulation: what a journey would have done to real histories, before anybody is in it.

Rules a reader can check line by line:

1. Every person goes through the runner that ships, event by event; between events and after the
   last one the clock stops where a timer is due, and then every ``tick_s`` while it waits.
2. Features are those of the SDK, folded from the person's own events so far.
3. The report has counts only. Nothing is random: the same histories give the same report.
4. Everybody is taken to have said yes to personalise; opt-ins are as the caller says, since the
   question is how much would be sent at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from client_sdk.experience.content.usable import Scalar, Usable
from client_sdk.experience.journeys.journey import Journey
from client_sdk.experience.journeys.parts import Plan
from client_sdk.experience.journeys.runner import Runner, Step
from client_sdk.experience.preferences import Preferences
from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features.feature_set import FeatureSet
from client_sdk.wire import Catalogue, Purpose

DAY_S: Final = 86_400.0
_WEEK_S: Final = 7 * DAY_S
_CONSENTS: Final = frozenset({str(Purpose.PERSONALISE)})


@dataclass(frozen=True, kw_only=True)
class SimulationReport:
    """What a journey would have done.

    Attributes:
        people: With at least one event.
        entered: Who left the start.
        finished: Who came to a terminal state.
        reached: State to how many people were ever in it.
        messages: Channel to how many actions were proposed.
        withheld: Reason to how many actions were not proposed.
        busiest_week: The most actions that one person had in seven days.
        person_weeks: How long all people were in the journey, together.
    """

    people: int
    entered: int
    finished: int
    reached: Mapping[str, int]
    messages: Mapping[str, int]
    withheld: Mapping[str, int]
    busiest_week: int
    person_weeks: float

    @property
    def messages_per_person_week(self) -> float:
        """How much a person would get a week, on average."""
        return sum(self.messages.values()) / self.person_weeks if self.person_weeks else 0.0

    def to_json(self) -> dict[str, Any]:
        """Give the counts as plain JSON."""
        return {
            **{
                name: dict(value) if isinstance(value, Mapping) else value
                for name, value in vars(self).items()
            },
            "messages_per_person_week": self.messages_per_person_week,
        }

    def in_words(self) -> list[str]:
        """Say what was counted, in plain sentences."""
        sent = ", ".join(f"{count} by {name}" for name, count in sorted(self.messages.items()))
        reached = ", ".join(f"{name} {count}" for name, count in self.reached.items())
        average = f"{self.messages_per_person_week:.3f} a person and week"
        busiest = f"the busiest week of one person has {self.busiest_week}"
        said = [
            f"{self.entered} of {self.people} people leave the start; {self.finished} finish.",
            f"Ever in a state: {reached}.",
            f"Messages: {sent or 'none'}.",
            f"That is {average}; {busiest}.",
        ]
        return said + [
            f"Not proposed, {count} time(s): {reason}."
            for reason, count in sorted(self.withheld.items())
        ]


def simulate(
    journey: Journey,
    histories: Iterable[Sequence[Event]],
    *,
    catalogue: Catalogue,
    features: FeatureSet | None = None,
    opt_ins: Iterable[str] = (),
    facts: Mapping[str, Scalar] | None = None,
    tick_s: float = DAY_S,
    tail_s: float = 4 * _WEEK_S,
    progress: Callable[[int], None] = lambda done: None,  # noqa: ARG005 - nobody looks by default
) -> SimulationReport:
    """Take people through a journey.

    Args:
        journey: The journey.
        histories: Each person's events, oldest first.
        catalogue: The items that the events are about.
        features: The app's features; the standard ones by default.
        opt_ins: What everybody is taken to have opened.
        facts: What the app is taken to say, always.
        tick_s: How often a timer that waits for its conditions is looked at.
        tail_s: How long people are followed after their last event.
        progress: Is told how many people are done, after each of them.

    Raises:
        ValueError: a time that is not above 0, or events that are not oldest first.
    """
    if tick_s <= 0 or tail_s < 0:
        raise ValueError("tick_s and tail_s: expected a time above 0; got another")
    told = _Told(journey, catalogue, features, frozenset(opt_ins), dict(facts or {}))
    counted = _Counted()
    for done, events in enumerate(histories, start=1):
        if events:
            counted.person(journey, _walk(journey, events, told, tick_s, tail_s), events, tail_s)
        progress(done)
    return counted.report(journey)


class _Told:
    """What a person's journey may use at a moment of the simulation."""

    def __init__(
        self,
        journey: Journey,
        catalogue: Catalogue,
        features: FeatureSet | None,
        opt_ins: frozenset[str],
        facts: Mapping[str, Scalar],
    ) -> None:
        self._catalogue, self._features = catalogue, features
        sources = frozenset(journey.opt_ins)
        self._preferences = Preferences(channels=opt_ins - sources, permissions=opt_ins & sources)
        self._facts = facts
        self._needs = {name: _looks_at_features(journey, name) for name in journey.states}
        self._any = any(self._needs.values())
        self._digest = Digest(features)

    def begin(self) -> None:
        """Begin with a person of whom nothing is known."""
        self._digest = Digest(self._features)

    def add(self, event: Event) -> None:
        """Learn one event, if any condition asks for features."""
        if self._any:
            self._digest.add([event])

    def at(self, state: str, now_s: float) -> Usable:
        """Give what may be used in a state; features are read only where something asks."""
        vector = None
        if self._needs[state]:
            vector = self._digest.features(self._catalogue, now_s=now_s)
        return Usable.of(
            features=vector,
            preferences=self._preferences,
            consents=_CONSENTS,
            now_s=now_s,
            facts=self._facts,
        )


class _Counted:
    """The counts so far."""

    def __init__(self) -> None:
        self._people = self._entered = self._finished = self._busiest = 0
        self._reached: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()
        self._withheld: Counter[str] = Counter()
        self._seconds = 0.0

    def person(
        self,
        journey: Journey,
        steps: Iterable[tuple[float, Step]],
        events: Sequence[Event],
        tail_s: float,
    ) -> None:
        """Count one person's steps."""
        self._people += 1
        self._seconds += events[-1].time_s + tail_s - events[0].time_s
        reached, times = {journey.start}, []
        for now_s, step in steps:
            reached.add(step.state.at)
            self._messages.update(one.action.channel for one in step.proposals)
            self._withheld.update(one.reason for one in step.withheld)
            times += [now_s] * len(step.proposals)
        self._reached.update(reached)
        self._entered += len(reached) > 1
        self._finished += any(journey.states[name].terminal for name in reached)
        first = 0
        for last, time_s in enumerate(times):
            while times[first] <= time_s - _WEEK_S:
                first += 1
            self._busiest = max(self._busiest, last - first + 1)

    def report(self, journey: Journey) -> SimulationReport:
        """Give what was counted."""
        return SimulationReport(
            people=self._people,
            entered=self._entered,
            finished=self._finished,
            reached={name: self._reached[name] for name in journey.states},
            messages={name: self._messages[name] for name in journey.channels},
            withheld=dict(self._withheld),
            busiest_week=self._busiest,
            person_weeks=self._seconds / _WEEK_S,
        )


def _walk(
    journey: Journey, events: Sequence[Event], told: _Told, tick_s: float, tail_s: float
) -> Iterator[tuple[float, Step]]:
    """Take one person through; give every step that moved them, and when."""
    runner, state = Runner(journey), None
    now_s = events[0].time_s
    state = runner.begin(now_s)
    told.begin()
    stops: list[tuple[float, Event | None]] = [(event.time_s, event) for event in events]
    for stop_s, event in [*stops, (events[-1].time_s + tail_s, None)]:
        if stop_s < now_s:
            raise ValueError("histories: expected events oldest first; got others")
        while not journey.states[state.at].terminal:
            due_s = runner.next_due_s(state)
            # A timer that is due and waits for its conditions is looked at every tick.
            wake_s = None if due_s is None else due_s if due_s > now_s else now_s + tick_s
            if wake_s is None or wake_s >= stop_s:
                break
            now_s = wake_s
            step = runner.step(state, None, told.at(state.at, now_s), now_s)
            if step.state.at != state.at or step.proposals or step.withheld:
                yield now_s, step
            state = step.state
        now_s = stop_s
        if event is not None:
            told.add(event)
        step = runner.step(state, event, told.at(state.at, now_s), now_s)
        if step.state.at != state.at or step.proposals or step.withheld:
            yield now_s, step
        state = step.state


def _looks_at_features(plan: Plan, state: str) -> bool:
    """Say whether a step from a state may ask for a feature or a favourite."""
    leaving = plan.leaving(state)
    rules = [*plan.states[state].exit]
    rules += [rule for one in leaving for rule in plan.states[one.target].enter]
    return any(
        condition.subject in ("feature", "favourite")
        for conditions in (*(one.when for one in leaving), *(rule.when for rule in rules))
        for condition in conditions
    )
