"""What a decision was made from, in a form that can be kept and replayed.

Rules a reader can check line by line:

1. Everything that `decisions.judge` and `decisions.conclude` look at is in it, and nothing else.
2. `Evidence.from_json` of `Evidence.to_json` concludes alike: scores are float32 when they are used
   (`Scores.of_rows`), and are kept bit for bit.
3. The actions are kept apart, under their hash: many decisions are about the same ones.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.scoring import Scores
from client_sdk.experience.situation import Situation


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a decision was made from.

    Attributes:
        actions: All actions of the question.
        situation: Of the moment.
        policy: The guardrails.
        seed: Of the draw.
        scores: Of the actions that passed, in their order; None where nothing was scored.
    """

    actions: ActionTable
    situation: Situation
    policy: GuardrailPolicy
    seed: int
    scores: Scores | None

    def to_json(self) -> dict[str, Any]:
        """Give everything but the actions and the policy as plain JSON."""
        return {
            "situation": self.situation.to_json(),
            "seed": self.seed,
            "scores": _packed_scores(self.scores),
        }

    @classmethod
    def from_json(
        cls, value: Mapping[str, Any], *, actions: ActionTable, policy: GuardrailPolicy
    ) -> Evidence:
        """Read what `to_json` gave, through JSON."""
        return cls(
            actions=actions,
            situation=Situation.from_json(value["situation"]),
            policy=policy,
            seed=value["seed"],
            scores=_unpacked_scores(value["scores"]),
        )


def packed_actions(actions: ActionTable) -> str:
    """Give the actions as short text."""
    return base64.b64encode(zlib.compress(actions.encoded.encode(), 1)).decode()


def unpacked_actions(packed: str) -> ActionTable:
    """Read what `packed_actions` gave."""
    return ActionTable.from_encoded(zlib.decompress(base64.b64decode(packed)).decode())


def _packed_scores(scores: Scores | None) -> list[str] | None:
    if scores is None:
        return None
    columns = (scores.expected, scores.confidence)
    return [base64.b64encode(column.astype("<f4").tobytes()).decode() for column in columns]


def _unpacked_scores(packed: Sequence[str] | None) -> Scores | None:
    if packed is None:
        return None
    expected, confidence = (np.frombuffer(base64.b64decode(text), "<f4") for text in packed)
    return Scores(expected=expected, confidence=confidence)
