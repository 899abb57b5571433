"""Limits: which of the actions that a state has may be proposed now, and why the others may not.

Rules a reader can check line by line:

1. An action comes through only where its guards hold, its channel is open if it needs to be, it did
   not come before if it may come once, and its channel's cap has room, in this order.
2. A cap counts what was proposed until `taken_back` says that it was refused: it can only be kept
   too well. A send in the future, after a clock was set back, counts as well.
3. `seen_by` hides every fact whose consent or opt-in is missing, before anything else looks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from client_sdk.experience.content.usable import Usable
from client_sdk.experience.journeys.conditions import all_hold
from client_sdk.experience.journeys.parts import ActionRule, Plan
from client_sdk.experience.journeys.state import JourneyState
from client_sdk.experience.journeys.tables import MAX_CAP


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """An action that was not proposed, and why, in plain words."""

    action_id: str
    channel: str
    reason: str


def seen_by(plan: Plan, usable: Usable) -> Usable:
    """Give what the journey may see: declared facts, each with the yes that it needs."""
    return usable.with_facts(
        {
            name: value
            for name, value in usable.facts.items()
            if name in plan.facts
            and plan.facts[name].consent in usable.consents
            and (not plan.facts[name].opt_in or plan.facts[name].opt_in in usable.opt_ins)
        }
    )


def refusal(
    plan: Plan,
    rule: ActionRule,
    *,
    action_id: str,
    state: JourneyState,
    usable: Usable,
    now_s: float,
) -> Withheld | None:
    """Say why an action may not come now; None where it may."""
    channel = plan.channels[rule.channel]
    reason = ""
    if channel.opt_in and channel.name not in usable.opt_ins:
        reason = f"{channel.name!r} is not open: the person did not opt in"
    elif not all_hold(rule.when, usable):
        unmet = next(one for one in rule.when if not one.holds(usable))
        reason = f"it needs that {unmet.in_words()}"
    elif rule.once and action_id in state.done:
        reason = "it comes only once, and came"
    elif _recent(state, channel.name, now_s - channel.per_s) >= channel.cap:
        reason = f"the cap of {channel.cap} is reached for {channel.name!r}"
    if not reason:
        return None
    return Withheld(action_id=action_id, channel=channel.name, reason=reason)


def noted(state: JourneyState, rule: ActionRule, *, action_id: str, now_s: float) -> JourneyState:
    """Write down that an action was proposed."""
    times = sorted((*state.sent_s.get(rule.channel, ()), now_s))[-MAX_CAP:]
    return dataclasses.replace(
        state,
        sent_s={**state.sent_s, rule.channel: tuple(times)},
        done=state.done | {action_id} if rule.once else state.done,
    )


def taken_back(state: JourneyState, *, channel: str, action_id: str, now_s: float) -> JourneyState:
    """Forget an action that was noted at a moment: a guardrail refused it, or it comes later."""
    times = list(state.sent_s.get(channel, ()))
    if now_s in times:
        times.remove(now_s)
    return dataclasses.replace(
        state,
        sent_s={**state.sent_s, channel: tuple(times)},
        done=state.done - {action_id},
    )


def _recent(state: JourneyState, channel: str, after_s: float) -> int:
    return sum(time_s > after_s for time_s in state.sent_s.get(channel, ()))
