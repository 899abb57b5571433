"""Validation: what is wrong with a journey before anybody is in it.

Rules a reader can check line by line:

1. Every name that is used exists: states, channels, slots, facts, features, opt-ins.
2. Every state is reached from the start; a state without a way out is terminal, and a terminal one
   has none.
3. Two triggers of one state conflict where the same kind of event could fire both, or both are
   timers, unless their priorities differ or their conditions exclude each other.
4. Every channel has a cap and a window that the memory of sends covers. Those of `ALWAYS_OPT_IN`
   need an opt-in, whatever the file says. No channel is a source that a permission opens.
5. An action in a channel that needs an opt-in has it as a guard of its own, so that a reader sees
   it beside the action.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from client_sdk.experience.actions import Action
from client_sdk.experience.content.usable import FAVOURITES
from client_sdk.experience.journeys.conditions import Condition, exclude
from client_sdk.experience.journeys.parts import ActionRule, Plan, Problem, Transition
from client_sdk.experience.journeys.tables import MAX_CAP, MAX_WINDOW_DAYS
from client_sdk.experience.preferences import SOURCES
from client_sdk.experience.toml_file import Place

ALWAYS_OPT_IN: Final = frozenset(
    {"email", "e-mail", "sms", "push", "phone", "call", "post", "whatsapp", "messenger"}
)
"""Channels that nobody may use unasked (ePrivacy Directive, Art. 13)."""

_DAY_S: Final = 86_400.0


def problems_of(plan: Plan) -> tuple[Problem, ...]:
    """Find everything that is wrong; empty where the journey is valid."""
    return (
        *_channels(plan),
        *_sources(plan),
        *_states(plan),
        *_moves(plan),
        *_acts(plan),
        *_reach(plan),
        *_conflicts(plan),
    )


def _channels(plan: Plan) -> Iterator[Problem]:
    for name, channel in plan.channels.items():
        place: Place = ("channels", name)
        if not 1 <= channel.cap <= MAX_CAP:
            yield Problem(place=(*place, "cap"), text=f"expected a cap from 1 to {MAX_CAP}: add it")
        if not 0 < channel.per_s <= MAX_WINDOW_DAYS * _DAY_S:
            yield Problem(
                place=(*place, "per"), text=f"expected at most {MAX_WINDOW_DAYS} days: shorten it"
            )
        if name in SOURCES or name in plan.opt_ins:
            yield Problem(
                place=place,
                text=f"expected a way to send; got {name!r}, which is a source that a permission "
                "opens: take it out, or rename one of the two",
            )
        if name in ALWAYS_OPT_IN and not channel.opt_in:
            yield Problem(
                place=(*place, "opt_in"),
                text=f"expected true: nobody may use {name!r} unasked; write opt_in = true",
            )


def _sources(plan: Plan) -> Iterator[Problem]:
    opened = _opt_ins(plan)
    for name, fact in plan.facts.items():
        if fact.opt_in and fact.opt_in not in opened:
            yield _unknown(("facts", name, "opt_in"), "an opt-in", fact.opt_in, opened)
    known = {"feature": plan.features, "favourite": FAVOURITES, "fact": tuple(plan.facts)}
    for name, slot in plan.slots.items():
        if slot.source not in known[slot.kind]:
            yield _unknown(
                ("slots", name, "from"), f"a declared {slot.kind}", slot.source, known[slot.kind]
            )
        if slot.opt_in and slot.opt_in not in opened:
            yield _unknown(("slots", name, "opt_in"), "an opt-in", slot.opt_in, opened)


def _states(plan: Plan) -> Iterator[Problem]:
    for name in ("start", "fallback"):
        if getattr(plan, name) not in plan.states:
            yield _unknown((name,), "a state", getattr(plan, name), plan.states)
    if plan.start in plan.states and plan.states[plan.start].terminal:
        yield Problem(place=("start",), text="expected a state that is not terminal: name another")


def _moves(plan: Plan) -> Iterator[Problem]:
    for number, transition in enumerate(plan.transitions):
        place: Place = ("transitions", number)
        for key, name in (("from", transition.source), ("to", transition.target)):
            if name not in plan.states:
                yield _unknown((*place, key), "a state", name, plan.states)
        if transition.source in plan.states and plan.states[transition.source].terminal:
            yield Problem(
                place=place,
                text=f"expected no way out of the terminal state {transition.source!r}: remove it, "
                "or the word terminal",
            )
        if transition.on and transition.without:
            yield Problem(
                place=(*place, "without"), text="expected it with 'after' only: remove it"
            )
        yield from _conditions(plan, transition.when, place, event=bool(transition.on))


def _acts(plan: Plan) -> Iterator[Problem]:
    for name, state in plan.states.items():
        ids = [rule.action_id for rule in (*state.enter, *state.exit)]
        for way, rules in (("enter", state.enter), ("exit", state.exit)):
            for number, rule in enumerate(rules):
                place: Place = ("states", name, way, number)
                if ids.count(rule.action_id) > 1:
                    yield Problem(
                        place=(*place, "id"),
                        text="expected each action id once in a state; got one twice: rename one",
                    )
                try:
                    action_of(plan, name, rule)
                except ValueError as error:
                    yield Problem(place=place, text=f"expected an action; {error}: correct it")
                yield from _act(plan, rule, place)


def _act(plan: Plan, rule: ActionRule, place: Place) -> Iterator[Problem]:
    channel = plan.channels.get(rule.channel)
    if channel is None:
        yield _unknown((*place, "channel"), "a channel", rule.channel, plan.channels)
    elif channel.opt_in and not any(
        (one.subject, one.name, one.value) == ("opt_in", rule.channel, True) for one in rule.when
    ):
        yield Problem(
            place=(*place, "when"),
            text=f"expected a guard, since {rule.channel!r} needs an opt-in; got none: write "
            f'when = [{{ opt_in = "{rule.channel}" }}]',
        )
    for slot in rule.slots:
        if slot not in plan.slots:
            yield _unknown((*place, "slots"), "a slot under [slots]", slot, plan.slots)
    if rule.slots and not rule.content:
        yield Problem(place=(*place, "slots"), text="expected 'content' beside slots: add it")
    yield from _conditions(plan, rule.when, place, event=False)


def _conditions(
    plan: Plan, conditions: Iterable[Condition], place: Place, *, event: bool
) -> Iterator[Problem]:
    known: dict[str, Iterable[str]] = {
        "feature": plan.features,
        "favourite": FAVOURITES,
        "fact": plan.facts,
        "opt_in": _opt_ins(plan),
    }
    for number, condition in enumerate(conditions):
        at = (*place, "when", number)
        names = known.get(condition.subject)
        if names is not None and condition.name not in names:
            yield _unknown(at, f"a known {condition.subject}", condition.name, names)
        if condition.subject == "event" and not event:
            yield Problem(
                place=at, text="expected no test of the event: there is one only with 'on'"
            )


def _reach(plan: Plan) -> Iterator[Problem]:
    reached, waiting = {plan.start}, [plan.start]
    while waiting:
        for transition in plan.leaving(waiting.pop()):
            if transition.target not in reached:
                reached.add(transition.target)
                waiting.append(transition.target)
    for name, state in plan.states.items():
        # Everybody whose state is gone may come to the fallback.
        if name not in reached and name != plan.fallback:
            yield Problem(
                place=("states", name),
                text=f"the state {name!r} is unreachable from {plan.start!r}: add a transition "
                "to it, or remove it",
            )
        if not state.terminal and all(one.target == name for one in plan.leaving(name)):
            yield Problem(
                place=("states", name),
                text=f"the state {name!r} is a dead end: add a transition out of it, or write "
                "terminal = true",
            )


def _conflicts(plan: Plan) -> Iterator[Problem]:
    places = {id(transition): number for number, transition in enumerate(plan.transitions)}
    for first, second in itertools.combinations(plan.transitions, 2):
        if first.source == second.source and _could_both_fire(first, second):
            what = f"on {first.on!r}" if first.on else "by time"
            yield Problem(
                place=("transitions", places[id(second)]),
                text=f"conflicts with the transition #{places[id(first)] + 1}: both can leave "
                f"{first.source!r} {what} at one moment: give one of them a higher priority, "
                "or conditions that exclude each other",
            )


def _could_both_fire(first: Transition, second: Transition) -> bool:
    same_trigger = first.on == second.on
    return (
        same_trigger and first.priority == second.priority and not exclude(first.when, second.when)
    )


def action_id(plan: Plan, state: str, rule: ActionRule) -> str:
    """Give the name by which the app and the decision log know an action."""
    return f"{plan.name}/{state}/{rule.action_id}"


def action_of(plan: Plan, state: str, rule: ActionRule, item_id: str | None = None) -> Action:
    """Make the action that a rule proposes.

    Raises:
        ValueError: it would be none, such as one with too many tags.
    """
    return Action(
        action_id=action_id(plan, state, rule),
        kind=rule.kind,
        channel=rule.channel,
        topic=rule.topic,
        item_id=item_id,
        tags=rule.tags,
        value=float(rule.value),
        high_impact=rule.high_impact,
        rule=plan.name,
    )


def _opt_ins(plan: Plan) -> tuple[str, ...]:
    channels = [name for name, channel in plan.channels.items() if channel.opt_in]
    return (*channels, *plan.opt_ins)


def _unknown(place: Place, what: str, name: str, known: Iterable[str]) -> Problem:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    remedy = f"write {near[0]!r}" if near else f"use one of {names}" if names else "declare it"
    return Problem(place=place, text=f"expected {what}; got {name!r}: {remedy}")
