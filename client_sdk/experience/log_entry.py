"""One entry of the decision log, written short: it is written before a decision is returned.

Rules a reader can check line by line:

1. `LogEntry.read` of `LogEntry.text` gives the same entry; its place in the log, the action and the
   stages included, floats bit for bit.
2. What a decision was made from is not in it: that is the evidence, which is read only when
   somebody asks why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decisions import Decision, Stage, Status
from client_sdk.signals.features.context import Context

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_WAITS: Final = "proposed"
_DONE: Final = "action"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEntry:
    """A decision in the log, with what it holds on to.

    Attributes:
        number: The place of the decision among all that were ever made.
        shown: The place of its action among all that were shown at once; 0 for none.
        decision: The decision.
        actions: The hash of the actions.
        actions_bytes: What they take.
        policy: The hash of the policy.
        n_bytes: What the rest takes.
    """

    number: int
    shown: int
    decision: Decision
    actions: str
    actions_bytes: int
    policy: str
    n_bytes: int

    def text(self, table: ActionTable) -> str:
        """Write it as JSON: a list, in the order in which `read` reads it.

        Args:
            table: The actions of the decision; each of them is written once, and then known.
        """
        one = self.decision
        action = one.action or one.proposed
        moment, context = one.moment, one.moment.context
        head = _encode(
            [
                self.number,
                self.shown,
                self.actions,
                self.actions_bytes,
                self.policy,
                self.n_bytes,
                one.time_s,
                [moment.name, moment.session, context.utc_offset_s, context.device, context.region],
                one.status,
                one.reason,
                one.model,
                one.policy,
                one.confidence,
                one.propensity,
                _WAITS if one.action is None else _DONE,
            ]
        )
        # A stage is written once: most are those of the verdict, which lasts for many decisions.
        stages = ",".join([stage.text for stage in one.stages])
        row = "null" if action is None else table.row_text(table.row_of[action.action_id])
        return f"{head[:-1]},[{stages}],{row}]"

    @classmethod
    def read(cls, decision_id: str, value: list[Any]) -> LogEntry:
        """Read what `text` gave.

        Args:
            decision_id: Under which it was kept.
            value: The list.
        """
        number, shown, actions, actions_bytes, policy, n_bytes, *rest = value
        time_s, moment, status, reason, model, name, confidence, propensity, *rest = rest
        role, stages, row = rest
        place, session, utc_offset_s, device, region = moment
        action = None if row is None else Action.from_json(row)
        context = Context(utc_offset_s=utc_offset_s, device=device, region=region)
        return cls(
            number=number,
            shown=shown,
            decision=Decision(
                decision_id=decision_id,
                time_s=time_s,
                moment=Moment(name=place, session=session, context=context),
                action=action if role == _DONE else None,
                proposed=action if role == _WAITS else None,
                status=Status(status),
                reason=reason,
                model=model,
                policy=name,
                confidence=confidence,
                propensity=propensity,
                stages=tuple(
                    Stage(name=stage, left=left, refused=refused) for stage, left, refused in stages
                ),
            ),
            actions=actions,
            actions_bytes=actions_bytes,
            policy=policy,
            n_bytes=n_bytes,
        )
