"""The decisions that wait for a person, oldest first.

Rules a reader can check line by line:

1. What waited too long leaves the queue by itself; it is then refused.
2. The queue holds at most as many as the log does, and nothing that the log has not.
"""

from __future__ import annotations

from collections.abc import Iterable

from client_sdk.experience.decisions import Decision, Status
from client_sdk.experience.guardrails.policy import Review
from client_sdk.experience.review import HOUR_S, Waiting


class ReviewQueue:
    """What waits.

    Args:
        decisions: Those without a label, oldest first; the ones that do not wait are left out.
    """

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._decisions: dict[str, Decision] = {}
        for decision in decisions:
            self.add(decision)

    def add(self, decision: Decision) -> None:
        """Let a decision wait; nothing happens where it does not have to."""
        if decision.status is Status.WAITING:
            self._decisions[decision.decision_id] = decision

    def remove(self, decision_id: str) -> None:
        """Take one out: a person has said something."""
        del self._decisions[decision_id]

    def drop(self, decision_ids: Iterable[str]) -> None:
        """Take out what the log let go; nothing happens for what does not wait."""
        for decision_id in decision_ids:
            self._decisions.pop(decision_id, None)

    def clear(self) -> None:
        """Take all out."""
        self._decisions.clear()

    def waiting(self, now_s: float, review: Review) -> list[Waiting]:
        """Give what waits now."""
        found = []
        for decision_id, decision in list(self._decisions.items()):
            until_s = decision.time_s + review.expires_hours * HOUR_S
            if now_s > until_s or decision.proposed is None:
                del self._decisions[decision_id]
                continue
            found.append(
                Waiting(
                    decision_id=decision_id,
                    action=decision.proposed,
                    reason=decision.reason,
                    confidence=decision.confidence,
                    since_s=decision.time_s,
                    until_s=until_s,
                )
            )
        return found

    def action_ids(self, now_s: float, review: Review) -> frozenset[str]:
        """Give the ids of the actions that wait now."""
        if not self._decisions:
            return frozenset()
        return frozenset(waiting.action.action_id for waiting in self.waiting(now_s, review))

    def decision(self, decision_id: str, now_s: float, review: Review) -> Decision:
        """Give one that waits now.

        Raises:
            ValueError: it does not wait, or waited too long.
        """
        if all(waiting.decision_id != decision_id for waiting in self.waiting(now_s, review)):
            raise ValueError(
                "decision_id: expected a decision that waits for approval; got one that does not, "
                "or waited too long: look at what waits now"
            )
        return self._decisions[decision_id]
