"""A decision: from what may be done to what is done, in stages that the log shows.

Rules a reader can check line by line:

1. Nothing here reads a clock, a store or a random source: `conclude` gives the same for the same
   actions, situation, scores, policy and seed. That is what a replay checks.
2. The stages: eligibility (a yes to personalise, the channels, the stock), the scores, the other
   guardrails, the minimum confidence, the draw, the review.
3. The draw is the last thing that chance touches. What is drawn from has passed every guardrail and
   the minimum confidence, so the logged propensity is exactly the chance of the logged action.
4. Without a yes to personalise only a fallback is done, and nothing is scored, drawn or explored.
5. A fallback passes every guardrail; only the confidence is not asked of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.exploration import draw
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.scoring import Scores
from client_sdk.experience.situation import Situation
from client_sdk.signals.features.columns import BoolArray, IntArray

ELIGIBILITY_RULES: Final = frozenset({"no-policy", "unknown-channel", "opt-in", "sold-out"})


class Status(StrEnum):
    """How a decision ended."""

    CHOSEN = "chosen"
    FALLBACK = "fallback"
    WAITING = "waiting"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a decision: how many actions were left after it, and what refused the others."""

    name: str
    left: int
    refused: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """The stage as JSON: its name, what is left, what refused how many."""
        return json.dumps([self.name, self.left, dict(self.refused)], separators=(",", ":"))

    def in_words(self) -> str:
        """Say it in a sentence."""
        why = ", ".join(f"{count} by {rule}" for rule, count in self.refused.items())
        return f"{self.name}: {self.left} left{f'; refused: {why}' if why else ''}."


_DRAWN: Final = Stage(name="draw", left=1)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided, and why.

    Attributes:
        decision_id: By which outcomes and questions name it.
        time_s: Seconds since 1970 (UTC).
        moment: In which it was asked.
        action: What to do; None where nothing may be done, or a person has to approve it first.
        status: How it ended.
        reason: One plain sentence for the person.
        model: What scored the actions; empty where nothing did.
        policy: The name of the policy.
        confidence: How much of the expected value is known, 0 to 1; None where nothing was scored.
        propensity: The probability with which the action was drawn; 1 for a fallback; None for
            nothing.
        stages: What each stage left.
        proposed: The action that waits for approval; None where none does.
        logged: Whether it is in the log; without consent nothing is.
    """

    decision_id: str
    time_s: float
    moment: Moment
    action: Action | None
    status: Status
    reason: str
    model: str
    policy: str
    confidence: float | None
    propensity: float | None
    stages: tuple[Stage, ...]
    proposed: Action | None = None
    logged: bool = True

    def in_words(self) -> list[str]:
        """Say everything in plain sentences: the reason, the rule, the model, the stages."""
        said = [self.reason]
        if self.action is not None and self.action.rule:
            said.append(f"Proposed by {self.action.rule}.")
        if self.model and self.confidence is not None:
            said.append(f"Scored by {self.model}, with a confidence of {self.confidence:.0%}.")
        if self.propensity is not None and self.propensity < 1.0:
            said.append(f"Drawn with a probability of {self.propensity:.1%}.")
        return said + [stage.in_words() for stage in self.stages]

    def to_json(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "moment": self.moment.to_json(),
            **{
                name: None if action is None else action.to_json()
                for name, action in (("action", self.action), ("proposed", self.proposed))
            },
            "stages": [[stage.name, stage.left, dict(stage.refused)] for stage in self.stages],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Decision:
        """Read what `to_json` gave, through JSON."""
        given: dict[str, Any] = {name: value[name] for name in _PLAIN}
        for name in ("action", "proposed"):
            given[name] = None if value[name] is None else Action.from_json(value[name])
        return cls(
            **{**given, "status": Status(given["status"])},
            moment=Moment.from_json(value["moment"]),
            stages=tuple(
                Stage(name=name, left=left, refused=refused)
                for name, left, refused in value["stages"]
            ),
        )


_PLAIN: Final = (
    "decision_id",
    "time_s",
    "status",
    "reason",
    "model",
    "policy",
    "confidence",
    "propensity",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What the guardrails say of the actions of one question.

    Attributes:
        rows: int64[m], the actions that passed, in order.
        refused: How many each rule refuses; an action may be refused by several.
        eligible: How many are left after the rules of eligibility.
    """

    rows: IntArray
    refused: Mapping[str, int]
    eligible: int

    @cached_property
    def all_sure(self) -> Stage:
        """The stage of confidence where every action that passed has enough of it."""
        return Stage(name="confidence", left=len(self.rows))

    @cached_property
    def stages(self) -> tuple[Stage, Stage, Stage]:
        """Eligibility, scores, guardrails: every decision with consent begins by these."""
        refused = self.refused.items()
        return (
            Stage(
                name="eligibility",
                left=self.eligible,
                refused={rule: n for rule, n in refused if rule in ELIGIBILITY_RULES},
            ),
            Stage(name="scores", left=self.eligible),
            Stage(
                name="guardrails",
                left=len(self.rows),
                refused={rule: n for rule, n in refused if rule not in ELIGIBILITY_RULES},
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What `conclude` gives: the row of the action, and how it came to it.

    Attributes:
        row: Which action; None for nothing.
        status: How it ended.
        confidence: Of the action.
        propensity: Of the action.
        stages: What each stage left.
    """

    row: int | None
    status: Status
    confidence: float | None
    propensity: float | None
    stages: tuple[Stage, ...]


def judge(actions: ActionTable, situation: Situation, policy: GuardrailPolicy) -> Verdict:
    """Ask every guardrail of a policy about every action."""
    return verdict_of(len(actions), policy.masks(actions, situation))


def verdict_of(n: int, masks: Iterable[tuple[str, BoolArray]]) -> Verdict:
    """Sum up what each rule refuses.

    Args:
        n: The number of actions.
        masks: The name of each rule and bool[n], what it refuses.
    """
    refused = np.zeros(n, np.bool_)
    not_eligible: BoolArray = np.zeros(n, np.bool_)
    counts: dict[str, int] = {}
    for name, mask in masks:
        count = int(np.count_nonzero(mask))
        if count:
            counts[name] = counts.get(name, 0) + count
            refused |= mask
            if name in ELIGIBILITY_RULES:
                not_eligible |= mask
    eligible = n - int(np.count_nonzero(not_eligible))
    return Verdict(rows=np.flatnonzero(~refused), refused=counts, eligible=eligible)


def conclude(
    actions: ActionTable,
    verdict: Verdict,
    scores: Scores | None,
    policy: GuardrailPolicy,
    *,
    seed: int,
) -> Conclusion:
    """Choose among what passed.

    Args:
        actions: Of the question.
        verdict: What the guardrails left of them.
        scores: Of the rows that passed, in their order; None without a yes to personalise.
        policy: Says the minimum confidence, the fallback, the exploration, the review.
        seed: Of the draw, 0 to 2**63 - 1.
    """
    passed = len(verdict.rows)
    eligibility, scored, guardrails = verdict.stages
    if scores is None:
        stages = [eligibility, guardrails]
        stages.append(Stage(name="consent", left=0, refused={"no-consent": passed}))
        return _fall_back(actions, verdict, policy, stages, personal=False)
    stages = [eligibility, scored, guardrails]
    expected = scores.expected
    rows, certain = verdict.rows, scores.confidence
    # Mostly one look at the least sure one is enough.
    if passed and np.minimum.reduce(certain) < policy.minimum_confidence:
        sure = np.flatnonzero(certain >= policy.minimum_confidence)
        expected, rows, certain = expected[sure], rows[sure], certain[sure]
    unsure = passed - len(rows)
    stages.append(
        Stage(name="confidence", left=len(rows), refused={"minimum-confidence": unsure})
        if unsure
        else verdict.all_sure
    )
    if not len(rows):
        return _fall_back(actions, verdict, policy, stages, personal=True)
    place, propensity = draw(expected, policy.exploration, seed)
    row, confidence = int(rows[place]), float(certain[place])
    stages.append(_DRAWN)
    status = Status.CHOSEN
    if _waits(actions, row, policy) or confidence < policy.review.below_confidence:
        status = Status.WAITING
        stages.append(Stage(name="review", left=0, refused={"waits-for-approval": 1}))
    return Conclusion(
        row=row,
        status=status,
        confidence=confidence,
        propensity=propensity,
        stages=tuple(stages),
    )


def _waits(actions: ActionTable, row: int, policy: GuardrailPolicy) -> bool:
    return policy.review.high_impact and bool(actions.high_impact[row])


def _fall_back(
    actions: ActionTable,
    verdict: Verdict,
    policy: GuardrailPolicy,
    stages: list[Stage],
    *,
    personal: bool,
) -> Conclusion:
    passed = set(verdict.rows.tolist()) if policy.fallback else set()
    rows = [actions.row_of.get(name) for name in policy.fallback]
    row = next((row for row in rows if row in passed), None)
    if row is not None and _waits(actions, row, policy) and not personal:
        # What waits has to be kept, and nothing is kept without consent.
        row = None
    status = Status.NOTHING if row is None else Status.FALLBACK
    stages.append(Stage(name="fallback", left=int(row is not None)))
    if row is not None and _waits(actions, row, policy):
        status = Status.WAITING
        stages.append(Stage(name="review", left=0, refused={"waits-for-approval": 1}))
    return Conclusion(
        row=row,
        status=status,
        confidence=None,
        propensity=None if row is None else 1.0,
        stages=tuple(stages),
    )


def decided(decision: Decision, actions: ActionTable, conclusion: Conclusion) -> Decision:
    """Give a decision with another conclusion."""
    action = None if conclusion.row is None else actions.actions[conclusion.row]
    waits = conclusion.status is Status.WAITING
    return replace(
        decision,
        action=None if waits else action,
        proposed=action if waits else None,
        status=conclusion.status,
        confidence=conclusion.confidence,
        propensity=conclusion.propensity,
        stages=conclusion.stages,
    )
