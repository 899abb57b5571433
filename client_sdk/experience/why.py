"""Why a decision came out as it did: decided again from the log, and compared.

Rules a reader can check line by line:

1. Nothing but what was logged is looked at: no clock, no store, no model.
2. The same means: the same action, status, propensity, confidence and stages, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client_sdk.experience.decisions import Decision, conclude, decided, judge
from client_sdk.experience.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Why:
    """A decision, decided again from what was logged.

    Attributes:
        decision: As it was logged.
        same: Whether deciding again gave the same action, status, propensity, confidence, stages.
        refused: The id of each action that a rule refused, and the names of those rules.
        policy: The policy in plain sentences, as it was then.
    """

    decision: Decision
    same: bool
    refused: dict[str, tuple[str, ...]]
    policy: list[str]

    def in_words(self) -> list[str]:
        """Say it in plain sentences."""
        again = "gives the same" if self.same else "does NOT give the same"
        return [*self.decision.in_words(), f"Deciding again from the log {again}."]


def decided_again(decision: Decision, evidence: Evidence) -> Why:
    """Decide again from the evidence.

    Args:
        decision: As it was logged.
        evidence: What it was made from.
    """
    actions, situation, policy = evidence.actions, evidence.situation, evidence.policy
    verdict = judge(actions, situation, policy)
    scores = evidence.scores
    same = scores is None or len(scores.expected) == len(verdict.rows)
    if same:
        again = conclude(actions, verdict, scores, policy, seed=evidence.seed)
        same = _outline(decision) == _outline(decided(decision, actions, again))
    refused: dict[str, tuple[str, ...]] = {}
    for name, mask in policy.masks(actions, situation):
        for row in np.flatnonzero(mask).tolist():
            action_id = actions.actions[row].action_id
            refused[action_id] = (*refused.get(action_id, ()), name)
    return Why(decision=decision, same=same, refused=refused, policy=policy.explain())


def _outline(decision: Decision) -> tuple[object, ...]:
    return (
        decision.action,
        decision.proposed,
        decision.status,
        decision.confidence,
        decision.propensity,
        decision.stages,
    )
