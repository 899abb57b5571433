"""What a decision was made from, in a form that can be kept and replayed.

Rules a reader can check line by line:

1. Everything that `decisions.judge` and `decisions.conclude` look at is in it, and nothing else.
2. `Evidence.from_json` of `EvidenceWriter.text` concludes alike: scores are float32 when they are
   used (`Scores.of_rows`), and are kept bit for bit.
3. The actions are kept apart, under their hash: many decisions are about the same ones.
4. A writer does not write again what it wrote last: an object that it has seen, it knows the text
   of. So what it is given is a value and never changes; `Situation` promises that.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.scoring import Scores
from client_sdk.experience.situation import Situation, plain_of

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_LEFT_OUT: Final[tuple[object, ...]] = (None, frozenset(), {})


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

    @classmethod
    def from_json(
        cls, value: Mapping[str, Any], *, actions: ActionTable, policy: GuardrailPolicy
    ) -> Evidence:
        """Read what `EvidenceWriter.text` gave, through JSON."""
        return cls(
            actions=actions,
            situation=Situation.from_json(value["situation"]),
            policy=policy,
            seed=value["seed"],
            scores=_unpacked_scores(value["scores"]),
        )


class EvidenceWriter:
    """Writes everything of an evidence but the actions and the policy, as JSON.

    >>> from client_sdk.experience.action_table import ActionTable
    >>> evidence = Evidence(actions=ActionTable([]), situation=Situation(now_s=5.0), seed=7,
    ...                     policy=GuardrailPolicy(), scores=None)
    >>> text = EvidenceWriter().text(evidence)
    >>> again = Evidence.from_json(
    ...     json.loads(text), actions=evidence.actions, policy=evidence.policy)
    >>> again.situation == evidence.situation, again.seed
    (True, 7)
    """

    def __init__(self) -> None:
        # Field of a situation -> what it was last, and how that is written; empty for left out.
        self._written: dict[str, tuple[object, str]] = {}

    def text(self, evidence: Evidence) -> str:
        """Write it."""
        parts = []
        for name, given in vars(evidence.situation).items():
            known = self._written.get(name)
            if known is None or known[0] is not given:
                known = self._written[name] = (given, _field_text(name, given))
            if known[1]:
                parts.append(known[1])
        scores = _packed_scores(evidence.scores)
        packed = "null" if scores is None else f'"{scores}"'
        situation = ",".join(parts)
        return f'{{"situation":{{{situation}}},"seed":{evidence.seed},"scores":{packed}}}'


def _field_text(name: str, given: object) -> str:
    if given in _LEFT_OUT and name != "personal":
        return ""
    return f'"{name}":{_encode(plain_of(name, given))}'


def packed_actions(actions: ActionTable) -> str:
    """Give the actions as short text."""
    return base64.b64encode(zlib.compress(actions.encoded.encode(), 1)).decode()


def unpacked_actions(packed: str) -> ActionTable:
    """Read what `packed_actions` gave."""
    return ActionTable.from_encoded(zlib.decompress(base64.b64decode(packed)).decode())


def _packed_scores(scores: Scores | None) -> str | None:
    if scores is None:
        return None
    both = np.concatenate((scores.expected, scores.confidence)).astype("<f4")
    return base64.b64encode(both.tobytes()).decode()


def _unpacked_scores(packed: str | None) -> Scores | None:
    if packed is None:
        return None
    both = np.frombuffer(base64.b64decode(packed), "<f4")
    expected, confidence = both[: len(both) // 2], both[len(both) // 2 :]
    return Scores(expected=expected, confidence=confidence)
