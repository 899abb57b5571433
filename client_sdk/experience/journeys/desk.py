"""Journeys on the device: a runner proposes, the decider judges, content says it.

Rules a reader can check line by line:

1. Nothing is shown that the decider did not let through, under the guardrails in use: a proposal is
   one question to it, with a decision, an id and a reason in the log.
2. What it refused is taken back in the journey's state, so that it counts for no cap of the journey
   and comes again another time. What waits for a person counts, and counts anew once approved.
3. A state is durable before its messages are given out. A step that fails moves nobody.
4. A text is filled after the decision, from what the journey could see; facts, features and opt-ins
   that there is no yes to are not seen. A copywriter is asked outside of the lock.
5. A release's journeys count before the app's of the same name. A person goes on in another version
   where they were (`migrate`), at the first step in it.

This is the one file of journeys that acts; `store` is the one that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from client_sdk.experience.actions import Moment
from client_sdk.experience.content.copywriter import Copy, CopyDesk, brief_for
from client_sdk.experience.content.usable import Scalar, Usable
from client_sdk.experience.content.variants import Written
from client_sdk.experience.decider import Decider
from client_sdk.experience.decisions import Status
from client_sdk.experience.journeys.limits import noted, refusal, seen_by, taken_back
from client_sdk.experience.journeys.message import JourneyStep, Message
from client_sdk.experience.journeys.migrate import fits, migrate
from client_sdk.experience.journeys.parts import ActionRule
from client_sdk.experience.journeys.programme import Programme
from client_sdk.experience.journeys.runner import Proposal, Runner, proposal_of
from client_sdk.experience.journeys.state import JourneyState
from client_sdk.experience.journeys.store import JourneyStore
from client_sdk.experience.person import PreferenceReader
from client_sdk.experience.review import Attributed, Waiting
from client_sdk.ports import Clock
from client_sdk.signals.events import Event
from client_sdk.signals.features.context import Context
from client_sdk.signals.features.vector import FeatureVector
from client_sdk.signals.signals import ConsentGate
from client_sdk.wire import Item, Purpose

MOMENT = Moment(name="journey")
"""Where an app that says nothing else asks: at no place and, for quiet hours, in no time zone."""

APPROVED = "Because somebody read the proposal and approved it."
"""The reason of a message that waited; the journey's own was said when it was proposed."""


class JourneyDesk:
    """The journeys of one person; `Homebody` makes it.

    Args:
        store: Keeps where the person is.
        consent: Is asked before anything of the person is read.
        clock: Tells the time.
        lock: Shared with whoever else uses the store.
        features: Reads the person's features; called with a yes to personalise only.
        preferences: Gives what the person asked for.
        decider: Gives what judges.
        item: Finds an item of the catalogue, for a copywriter's facts.
        key: Whose choice of variants it is, such as the device's pseudonym.
    """

    def __init__(
        self,
        *,
        store: JourneyStore,
        consent: ConsentGate,
        clock: Clock,
        lock: AbstractContextManager[object],
        features: Callable[[Context], FeatureVector],
        preferences: PreferenceReader,
        decider: Callable[[], Decider],
        item: Callable[[str], Item | None],
        key: str,
    ) -> None:
        self._store = store
        self._consent = consent
        self._clock = clock
        self._lock = lock
        self._features = features
        self._preferences = preferences
        self._decider = decider
        self._item = item
        self._key = key
        self._own: dict[str, Programme] = {}
        self._released: dict[str, Programme] = {}

    @property
    def programmes(self) -> Mapping[str, Programme]:
        """The journeys in use, by name."""
        with self._lock:
            return {**self._own, **self._released}

    def use(self, *programmes: Programme) -> None:
        """Bring the app's own journeys along: they count until a release brings one of the name."""
        with self._lock:
            self._own = _named(programmes)

    def take_release(self, programmes: Iterable[Programme]) -> None:
        """Use the journeys of a release, and those of no earlier one, from the next step on."""
        with self._lock:
            self._released = _named(programmes)

    def state(self, name: str) -> JourneyState | None:
        """Give where the person is, in the version in use; None where they never were in it.

        Raises:
            ValueError: there is no such journey.
            StaleJourneyError: what is stored is not as it was written: `forget` it.
        """
        with self._lock:
            return self._kept(self._programme(name))

    def next_due_s(self, name: str) -> float | None:
        """Say when to step again at the latest, if nothing happens; None for never.

        Raises:
            ValueError: there is no such journey.
            StaleJourneyError: as `state`.
        """
        with self._lock:
            programme = self._programme(name)
            state = self._kept(programme)
            return None if state is None else Runner(programme.journey).next_due_s(state)

    def step(
        self,
        name: str,
        event: Event | None = None,
        *,
        moment: Moment = MOMENT,
        facts: Mapping[str, Scalar] | None = None,
        copy_desk: CopyDesk | None = None,
        seed: int | None = None,
    ) -> JourneyStep:
        """Let one journey see an event, or that time has passed.

        Args:
            name: Of the journey.
            event: What the person did, after `Homebody.track`; None where only time has passed.
            moment: When and where the app asks, for the decider: caps per session and quiet hours
                go by it.
            facts: What the app says of this moment; those that the journey declares are seen, with
                the consent and the permission that each needs.
            copy_desk: Who writes; templates only by default.
            seed: Of the decider's draws; random by default.

        Returns:
            What was proposed, each with its decision. Do what is `Message.shown`, and nothing else.

        Raises:
            ValueError: there is no such journey.
            StaleJourneyError: as `state`.
            VaultError: something could not be written; nothing may be shown, and nobody moved.
        """
        with self._lock:
            now_s = self._clock.now_s()
            programme = self._programme(name)
            runner = Runner(programme.journey)
            stored = self._store.read(name)
            before = runner.begin(now_s) if stored is None else self._fitting(stored, programme)
            step = runner.step(before, event, self._usable(moment, now_s, facts), now_s)
            state, messages = step.state, []
            for proposal in step.proposals:
                action = proposal.action
                decision = self._decider().decide(moment, (action,), seed=seed)
                if decision.status is Status.NOTHING:
                    state = taken_back(
                        state, channel=action.channel, action_id=action.action_id, now_s=now_s
                    )
                message = Message(proposal=proposal, decision=decision)
                if message.shown:
                    message = self._written(programme, message, step.seen)
                messages.append(message)
            # Of a person without a yes not even the beginning is noted.
            if state != stored and self._consent.allows(Purpose.PERSONALISE):
                self._store.write(state)
        return JourneyStep(
            state=state,
            moved=state.at != before.at,
            messages=tuple(self._composed(message, copy_desk) for message in messages),
            withheld=step.withheld,
            reasons=step.reasons,
        )

    def approve(
        self,
        decision_id: str,
        *,
        by: str,
        note: str = "",
        facts: Mapping[str, Scalar] | None = None,
        copy_desk: CopyDesk | None = None,
    ) -> Message:
        """Say yes to a journey's action that waits; every guardrail and limit is asked again.

        It counts from now on, not from when it was proposed; the text is filled from what may be
        used now.

        Raises:
            ValueError: it does not wait, waited too long, is of no journey in use, or the limits of
                the journey withhold it by now: it goes on waiting.
            ConsentRequiredError: there is no yes to personalise any more.
        """
        with self._lock:
            waiting = {one.decision_id: one for one in self._decider().waiting()}
            action = None if decision_id not in waiting else waiting[decision_id].action
            programme = None if action is None else self.programmes.get(action.rule)
            rule = (
                None if programme is None or action is None else programme.rule_of(action.action_id)
            )
            if action is None or programme is None or rule is None:
                raise ValueError(
                    "decision_id: expected an action of a journey in use that waits; got another"
                )
            now_s = self._clock.now_s()
            usable = seen_by(programme.journey, self._usable(MOMENT, now_s, facts))
            state = self._room_for(programme, rule, waiting[decision_id], usable, now_s)
            decision = self._decider().approve(decision_id, by=by, note=note)
            message = Message(
                proposal=proposal_of(programme.journey, rule, action, reason=APPROVED),
                decision=decision,
            )
            if message.shown:
                message = self._written(programme, message, usable)
                self._store.write(noted(state, rule, action_id=action.action_id, now_s=now_s))
        return self._composed(message, copy_desk)

    def outcome(
        self, message: Message, kind: str, *, value: float = 1.0, time_s: float | None = None
    ) -> Attributed:
        """Say what came of a message; see `Decider.outcome`."""
        return self._decider().outcome(
            message.decision.decision_id, kind, value=value, time_s=time_s
        )

    def forget(self, *names: str) -> int:
        """Forget where the person is in journeys; give how many those were."""
        return self._store.forget(*names)

    def _programme(self, name: str) -> Programme:
        found = self.programmes.get(name)
        if found is None:
            raise ValueError(f"journey: expected one of {sorted(self.programmes)}; got another")
        return found

    def _kept(self, programme: Programme) -> JourneyState | None:
        state = self._store.read(programme.name)
        return None if state is None else self._fitting(state, programme)

    def _fitting(self, state: JourneyState, programme: Programme) -> JourneyState:
        if fits(state, programme.journey):
            return state
        return migrate(state, programme.journey, now_s=self._clock.now_s())

    def _room_for(
        self, programme: Programme, rule: ActionRule, one: Waiting, usable: Usable, now_s: float
    ) -> JourneyState:
        """Give the state as if the action had not been proposed, or refuse: no room for it now."""
        action = one.action
        state = taken_back(
            self._kept(programme) or Runner(programme.journey).begin(now_s),
            channel=action.channel,
            action_id=action.action_id,
            now_s=one.since_s,
        )
        refused = refusal(
            programme.journey,
            rule,
            action_id=action.action_id,
            state=state,
            usable=usable,
            now_s=now_s,
        )
        if refused is not None:
            raise ValueError(
                f"expected an action that the journey allows by now; got one that it withholds: "
                f"{refused.reason}"
            )
        return state

    def _usable(self, moment: Moment, now_s: float, facts: Mapping[str, Scalar] | None) -> Usable:
        consents = frozenset(str(one) for one in Purpose if self._consent.allows(one))
        personal = Purpose.PERSONALISE in consents
        return Usable.of(
            features=self._features(moment.context) if personal else None,
            preferences=self._preferences(),
            consents=consents,
            now_s=now_s,
            facts=facts,
        )

    def _written(self, programme: Programme, message: Message, seen: Usable) -> Message:
        proposal = message.proposal
        if not proposal.content:
            return message
        written = programme.content.choose(
            proposal.content,
            usable=seen,
            slots=proposal.slots,
            key=self._key,
            wanted=proposal.wanted,
        )
        return replace(message, written=written)

    def _composed(self, message: Message, desk: CopyDesk | None) -> Message:
        if message.written is None:
            return message
        return replace(message, copy=self._copy(message.proposal, message.written, desk))

    def _copy(self, proposal: Proposal, written: Written, desk: CopyDesk | None) -> Copy:
        if desk is None:
            return Copy(text=written.text, source="template")
        action = proposal.action
        return desk.write(
            brief_for(
                written,
                tone=desk.tone,
                item=None if action.item_id is None else self._item(action.item_id),
                stage=proposal.wanted.get("stage", ""),
                category=action.topic,
                compliance=proposal.wanted.get("compliance", ""),
                channel=action.channel,
                currency=desk.currency,
            )
        )


def _named(programmes: Iterable[Programme]) -> dict[str, Programme]:
    given = tuple(programmes)
    named = {programme.name: programme for programme in given}
    if len(named) != len(given):
        raise ValueError("programmes: expected each journey once; got one twice: rename one")
    return named
