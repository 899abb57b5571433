"""A policy tried on what has been: how much each of its rules would have refused.

Rules a reader can check line by line:

1. Nothing is decided and nothing is written.
2. What was done then is done again where the policy allows it, in the order of time; only that
   counts for caps, for fatigue and for active offers from then on.
3. What a person's events tell is folded as the trial goes on: a rule never sees the future.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, is_code
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.ledger import DAY_S, Ledger, Shown
from client_sdk.experience.situation import Situation
from client_sdk.signals.events import Event, EventKind

_SHARE_S = 30 * DAY_S


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """One question of the past.

    Attributes:
        actions: What could have been done.
        situation: As it was; counts and offers are those of the trial instead.
        session: The visit.
        done: Id of the action that was done; None for nothing.
    """

    actions: ActionTable
    situation: Situation
    session: str = ""
    done: str | None = None


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a policy would have refused.

    Attributes:
        questions: How many there were.
        done: In how many something was done.
        still_done: In how many the policy allows what was done.
        actions_refused: How many actions each rule refuses, over all questions.
        done_refused: How many of the actions that were done each rule refuses.
    """

    questions: int = 0
    done: int = 0
    still_done: int = 0
    actions_refused: Mapping[str, int] = field(default_factory=dict)
    done_refused: Mapping[str, int] = field(default_factory=dict)

    def in_words(self) -> list[str]:
        """Say it in plain sentences."""
        again = f"{self.still_done} would be done again and {self.done - self.still_done} refused"
        said = [f"Of {self.done} actions that were done, {again}."]
        for rule, count in sorted(self.done_refused.items(), key=lambda pair: (-pair[1], pair[0])):
            said.append(f"{rule} refuses {count} of them.")
        return said


def dry_run(policy: GuardrailPolicy, questions: Iterable[Question]) -> DryRun:
    """Try a policy on questions of the past, oldest first.

    >>> dry_run(GuardrailPolicy(), []).in_words()
    ['Of 0 actions that were done, 0 would be done again and 0 refused.']
    """
    ledger = Ledger()
    n = done = still = 0
    actions_refused: Counter[str] = Counter()
    done_refused: Counter[str] = Counter()
    for question in questions:
        n += 1
        row = None if question.done is None else question.actions.row_of[question.done]
        situation = _as_tried(policy, question, ledger)
        refusing = []
        for name, mask in policy.masks(question.actions, situation):
            actions_refused[name] += int(mask.sum())
            if row is not None and mask[row]:
                refusing.append(name)
        if row is None:
            continue
        done += 1
        done_refused.update(refusing)
        if not refusing:
            still += 1
            ledger.add(_shown(question.actions.actions[row], question))
    return DryRun(
        questions=n,
        done=done,
        still_done=still,
        actions_refused=+actions_refused,
        done_refused=+done_refused,
    )


def questions_of_events(
    events: Iterable[Event],
    *,
    opted_in: frozenset[str],
    utc_offset_s: int | None,
    channel: str = "push",
) -> Iterator[Question]:
    """Make a question of every message that was shown: the message itself, as it was then.

    Args:
        events: In any order. A message's ``channel``, ``topic`` and ``offer`` are read from its
            properties.
        opted_in: The channels that the person opened.
        utc_offset_s: The person's local time minus UTC; None for unknown.
        channel: Of a message that does not say.
    """
    shown_s: list[float] = []
    dismissed_s: list[float] = []
    bought_s: dict[str, float] = {}
    last_s: dict[str, float] = {}
    for event in sorted(events, key=lambda event: event.time_s):
        now_s = event.time_s
        if event.kind == EventKind.MESSAGE_SHOWN:
            shown = sum(time_s > now_s - _SHARE_S for time_s in shown_s)
            closed = sum(time_s > now_s - _SHARE_S for time_s in dismissed_s)
            action = _message(event, channel)
            yield Question(
                actions=ActionTable([action]),
                situation=Situation(
                    now_s=now_s,
                    utc_offset_s=utc_offset_s,
                    opted_in=opted_in,
                    bought_s=dict(bought_s),
                    dismissed_share=min(closed / shown, 1.0) if shown else None,
                    last_complaint_s=last_s.get(EventKind.SUPPORT),
                    last_return_s=last_s.get(EventKind.RETURN),
                ),
                done=action.action_id,
            )
            shown_s = [*(time_s for time_s in shown_s if time_s > now_s - _SHARE_S), now_s]
        elif event.kind == EventKind.MESSAGE_DISMISSED:
            dismissed_s.append(now_s)
        elif event.kind == EventKind.PURCHASE and event.item_id is not None:
            bought_s[event.item_id] = now_s
        elif event.kind == EventKind.RETURN and event.item_id is not None:
            bought_s.pop(event.item_id, None)
        last_s[event.kind] = now_s


def _as_tried(policy: GuardrailPolicy, question: Question, ledger: Ledger) -> Situation:
    situation = question.situation
    offers: frozenset[str] = frozenset()
    if policy.offers is not None:
        since_s = situation.now_s - policy.offers.active_days * DAY_S
        offers = frozenset(ledger.names_since(policy.offers.kinds, since_s))
    counts = ledger.counts(session=question.session, now_s=situation.now_s)
    return replace(situation, counts=counts, offers=offers, messages_7_days=0)


def _shown(action: Action, question: Question) -> Shown:
    return Shown(
        time_s=question.situation.now_s,
        channel=action.channel,
        session=question.session,
        kind=action.kind,
        action_id=action.action_id,
        item_id=action.item_id,
    )


def _message(event: Event, channel: str) -> Action:
    named, topic = event.properties.get("channel"), event.properties.get("topic")
    return Action(
        action_id=event.event_id,
        kind="offer" if event.properties.get("offer") is True else "message",
        channel=named if isinstance(named, str) and is_code(named) else channel,
        topic=topic if isinstance(topic, str) else "",
        item_id=event.item_id,
    )
