"""A journey in words: what a colleague who never saw the file needs to know."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from client_sdk.experience.journeys.conditions import Condition
from client_sdk.experience.journeys.parts import ActionRule, Plan, Transition

_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def explain(plan: Plan) -> list[str]:
    """Say what a journey does, in plain sentences."""
    said = [f"{plan.title} (version {plan.version}). People begin in {plan.start!r}."]
    said += [
        f"By {channel.name!r}: at most {channel.cap} in {duration_in_words(channel.per_s)}"
        + (", and only where the person opened it." if channel.opt_in else ".")
        for channel in plan.channels.values()
    ]
    for fact in plan.facts.values():
        needed = f", and {fact.opt_in!r} open" if fact.opt_in else ""
        said.append(f"The app may say {fact.name!r}, with a yes to {fact.consent!r}{needed}.")
    said += [
        f"{{{slot.name}}} is filled from the {slot.kind} {slot.source!r}, with a yes to "
        f"{slot.consent!r}."
        for slot in plan.slots.values()
    ]
    for name, state in plan.states.items():
        end = " The journey ends here." if state.terminal else ""
        said.append(f"{name!r}: {_sentence(state.meaning)}{end}")
        said += [f"  On the way in: {_action(rule)}." for rule in state.enter]
        said += [
            f"  {_sentence(f'{trigger_in_words(one)}, go to {one.target!r}')}"
            for one in plan.leaving(name)
        ]
        said += [f"  On the way out: {_action(rule)}." for rule in state.exit]
    said.append(f"Whose state a new version does not have goes to {plan.fallback!r}.")
    return said


def trigger_in_words(transition: Transition) -> str:
    """Say what makes a transition fire.

    >>> trigger_in_words(Transition(source="a", target="b", because="x", after_s=7200.0,
    ...                             without=("cart",)))
    'after 2 hours without cart'
    """
    if transition.after_s is None:
        said = f"on {transition.on}"
    else:
        said = f"after {duration_in_words(transition.after_s)}"
        if transition.without:
            said += f" without {' or '.join(transition.without)}"
    return said + _given(transition.when)


def duration_in_words(seconds: float) -> str:
    """Say a time in the largest unit that fits.

    >>> duration_in_words(86_400.0), duration_in_words(5400.0)
    ('1 day', '90 minutes')
    """
    whole = round(seconds)
    size, unit = next(entry for entry in _UNITS if whole % entry[0] == 0)
    count = whole // size
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _given(conditions: Iterable[Condition]) -> str:
    said = " and ".join(condition.in_words() for condition in conditions)
    return f", if {said}" if said else ""


def _action(rule: ActionRule) -> str:
    what = rule.content or rule.action_id
    extra = ", once" if rule.once else ""
    approved = ", after a person approved it" if rule.high_impact else ""
    return f"{rule.kind} {what!r} by {rule.channel!r}{_given(rule.when)}{extra}{approved}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
