"""The runner: one step of one person through one journey; a pure function.

Rules a reader can check line by line:

1. A step looks at an event first, then at timers, and makes at most one move: who comes back is not
   reminded of having been away.
2. Of several transitions that could fire, the highest priority counts; of timers, then the one that
   was due first, then the order of the file. The same step gives the same result, always.
3. Without a yes to personalise, or during a pause, nothing moves, nothing is noted and nothing is
   proposed. In a terminal state nothing happens any more.
4. A move runs the actions on the way out, then those on the way in; `limits` decides on each.
5. The runner proposes. What is shown is for the app, or for the decision and its guardrails.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from client_sdk.experience.actions import Action
from client_sdk.experience.content.slots import SlotRule
from client_sdk.experience.content.usable import Usable
from client_sdk.experience.journeys.conditions import all_hold
from client_sdk.experience.journeys.journey import Journey
from client_sdk.experience.journeys.limits import Withheld, noted, refusal, seen_by
from client_sdk.experience.journeys.parts import ActionRule, Plan, Transition
from client_sdk.experience.journeys.state import JourneyState, StaleJourneyError
from client_sdk.experience.journeys.validate import action_id, action_of
from client_sdk.signals.events import Event
from client_sdk.wire import Purpose


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One action that the journey proposes.

    Attributes:
        action: For the decision and its guardrails.
        content: The message of the content library; empty for none.
        wanted: Which variants of it.
        slots: What its texts may be filled with, by slot.
        reason: A sentence for the person.
    """

    action: Action
    content: str
    wanted: Mapping[str, str]
    slots: Mapping[str, SlotRule]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step gave.

    Attributes:
        state: Where the person is now; keep it.
        proposals: What could be done, in this order.
        withheld: What was not proposed, and why.
        reasons: What happened, in plain words.
        seen: What the journey could see: fill texts from this, and from nothing else.
    """

    state: JourneyState
    seen: Usable
    proposals: tuple[Proposal, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    reasons: tuple[str, ...] = field(default=())


def proposal_of(plan: Plan, rule: ActionRule, action: Action, *, reason: str) -> Proposal:
    """Put together what a rule proposes: the action, and what may be said with it."""
    return Proposal(
        action=action,
        content=rule.content,
        wanted=rule.wanted,
        slots={slot: plan.slots[slot] for slot in rule.slots},
        reason=reason,
    )


class Runner:
    """Steps people through one journey; holds no state.

    Args:
        journey: The journey.
    """

    def __init__(self, journey: Journey) -> None:
        self._journey = journey

    @property
    def journey(self) -> Journey:
        """The journey."""
        return self._journey

    def begin(self, now_s: float) -> JourneyState:
        """Put a person at the start; nothing is proposed by that."""
        journey = self._journey
        return JourneyState(
            journey=journey.name, version=journey.version, at=journey.start, entered_s=now_s
        )

    def step(self, state: JourneyState, event: Event | None, usable: Usable, now_s: float) -> Step:
        """Make one step.

        Args:
            state: Where the person is.
            event: What they did; None where only time has passed.
            usable: What may be used now.
            now_s: Seconds since 1970 (UTC).

        Raises:
            StaleJourneyError: the state is of another journey or version, or in no state of it.
        """
        self._fit(state)
        seen = seen_by(self._journey, usable)
        held = self._held(state, usable)
        if held:
            return Step(state=state, seen=seen, reasons=(held,))
        chosen = None
        if event is not None:
            chosen = self._on(state, event, seen)
            if chosen is None:
                state = self._noticed(state, event, now_s)
        if chosen is None:
            chosen = self._due(state, seen, now_s)
        if chosen is None:
            return Step(state=state, seen=seen, reasons=("Nothing to do now.",))
        return self._moved(state, chosen, event, seen, now_s)

    def next_due_s(self, state: JourneyState) -> float | None:
        """Say when to step again at the latest, if nothing happens; None for never.

        Raises:
            StaleJourneyError: as `step`.
        """
        self._fit(state)
        return min((due for due, _ in self._timers(state)), default=None)

    def _fit(self, state: JourneyState) -> None:
        journey = self._journey
        if (state.journey, state.version) != (journey.name, journey.version):
            raise StaleJourneyError(
                f"expected a state of {journey.name!r}, version {journey.version}; got another: "
                "migrate it first"
            )
        if state.at not in journey.states:
            raise StaleJourneyError(
                f"expected a state that {journey.name!r} has; got another: begin the journey anew"
            )

    def _held(self, state: JourneyState, usable: Usable) -> str:
        if self._journey.states[state.at].terminal:
            return "The journey is over."
        if usable.paused:
            return "The person's pause lasts: nothing moves."
        if Purpose.PERSONALISE not in usable.consents:
            return "No yes to personalise: nothing moves."
        return ""

    def _on(self, state: JourneyState, event: Event, seen: Usable) -> Transition | None:
        for transition in self._journey.leaving(state.at):
            if transition.on == event.kind and all_hold(transition.when, seen, event):
                return transition
        return None

    def _due(self, state: JourneyState, seen: Usable, now_s: float) -> Transition | None:
        able = [
            (-timer.priority, due, place, timer)
            for place, (due, timer) in enumerate(self._timers(state))
            if due <= now_s and all_hold(timer.when, seen)
        ]
        return min(able, key=lambda entry: entry[:3])[3] if able else None

    def _timers(self, state: JourneyState) -> Iterator[tuple[float, Transition]]:
        for transition in self._journey.leaving(state.at):
            if transition.after_s is not None:
                seen = [state.seen_s[kind] for kind in transition.without if kind in state.seen_s]
                yield max([state.entered_s, *seen]) + transition.after_s, transition

    def _noticed(self, state: JourneyState, event: Event, now_s: float) -> JourneyState:
        """Note when an event came, if a timer of this state waits for its kind."""
        waited = {kind for one in self._journey.leaving(state.at) for kind in one.without}
        if event.kind not in waited:
            return state
        latest = max(state.seen_s.get(str(event.kind), now_s), now_s)
        return dataclasses.replace(state, seen_s={**state.seen_s, str(event.kind): latest})

    def _moved(
        self,
        state: JourneyState,
        transition: Transition,
        event: Event | None,
        seen: Usable,
        now_s: float,
    ) -> Step:
        item = state.item_id if event is None or event.item_id is None else event.item_id
        moved = dataclasses.replace(
            state, at=transition.target, entered_s=now_s, seen_s={}, item_id=item
        )
        states = self._journey.states
        rules = [(transition.source, rule) for rule in states[transition.source].exit]
        rules += [(transition.target, rule) for rule in states[transition.target].enter]
        proposals, withheld = [], []
        for name, rule in rules:
            known = action_id(self._journey, name, rule)
            refused = refusal(
                self._journey, rule, action_id=known, state=moved, usable=seen, now_s=now_s
            )
            if refused is not None:
                withheld.append(refused)
                continue
            moved = noted(moved, rule, action_id=known, now_s=now_s)
            proposals.append(
                proposal_of(
                    self._journey,
                    rule,
                    action_of(self._journey, name, rule, item),
                    reason=f"Because {transition.because}.",
                )
            )
        moves = f"From {transition.source!r} to {transition.target!r}"
        return Step(
            state=moved,
            seen=seen,
            proposals=tuple(proposals),
            withheld=tuple(withheld),
            reasons=(f"{moves}, because {transition.because}.",),
        )
