"""The parts of a journey: channels, facts, states, actions, transitions, and all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from client_sdk.experience.content.slots import SlotRule
from client_sdk.experience.journeys.conditions import Condition
from client_sdk.experience.toml_file import Place
from client_sdk.signals.features.standard import STANDARD

STANDARD_FEATURES: Final = tuple(definition.name for definition in STANDARD)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One way to reach the person: at most ``cap`` actions in ``per_s`` seconds."""

    name: str
    cap: int
    per_s: float
    opt_in: bool


@dataclass(frozen=True, kw_only=True)
class FactRule:
    """One thing that the app says of a moment, and what allows its use."""

    name: str
    meaning: str
    consent: str
    opt_in: str = ""


@dataclass(frozen=True, kw_only=True)
class ActionRule:
    """What is done on the way into a state or out of it; the fields are those of the file."""

    action_id: str
    channel: str
    kind: str = "message"
    content: str = ""
    slots: tuple[str, ...] = ()
    topic: str = ""
    tags: tuple[str, ...] = ()
    value: float = 1.0
    high_impact: bool = False
    once: bool = False
    wanted: Mapping[str, str] = field(default_factory=dict)
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a person can be."""

    name: str
    meaning: str
    terminal: bool = False
    enter: tuple[ActionRule, ...] = ()
    exit: tuple[ActionRule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Transition:
    """What moves a person: an event of a kind, or a time without events of some kinds."""

    source: str
    target: str
    because: str
    on: str = ""
    after_s: float | None = None
    without: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()
    priority: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a journey file says, not validated yet.

    Attributes:
        name: It never changes.
        version: Rises with every change.
        title: In a few words.
        start: The first state.
        fallback: Where people go whose state a new version does not have.
        channels: By name; so are the following, but the transitions.
        opt_ins: What each source means, beside the channels that need an opt-in.
        facts: What the app may say.
        slots: What texts are filled with.
        states: In the order of the file.
        transitions: In the order of the file.
        features: The features that the app has.
    """

    name: str
    version: int
    title: str
    start: str
    fallback: str
    channels: Mapping[str, Channel]
    opt_ins: Mapping[str, str]
    facts: Mapping[str, FactRule]
    slots: Mapping[str, SlotRule]
    states: Mapping[str, State]
    transitions: tuple[Transition, ...]
    features: tuple[str, ...] = STANDARD_FEATURES

    def leaving(self, state: str) -> tuple[Transition, ...]:
        """The transitions out of a state: those of higher priority first."""
        return self._leaving.get(state, ())

    @cached_property
    def _leaving(self) -> Mapping[str, tuple[Transition, ...]]:
        found: dict[str, list[Transition]] = {}
        for transition in sorted(self.transitions, key=lambda one: -one.priority):
            found.setdefault(transition.source, []).append(transition)
        return {name: tuple(transitions) for name, transitions in found.items()}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with a journey, where, and what to do."""

    place: Place
    text: str
