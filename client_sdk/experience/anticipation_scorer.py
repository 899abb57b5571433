"""A scorer that prefers what the person may need about now.

Rules a reader can check line by line:

1. It changes what another scorer says of an action and never its confidence: an anticipation is no
   measurement of how often an action works.
2. An action about an item that is due, or about the category that may come next, is worth
   ``1 + confidence`` times as much; one of a kind that wins people back, ``1 + risk`` times.
3. What the guardrails refuse, no anticipation brings back: they are asked of every action anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.scoring import Scorer, Scores
from client_sdk.intelligence.anticipation import Anticipation
from client_sdk.signals.features.columns import FloatArray


class AnticipationScorer:
    """Another scorer, and what is anticipated.

    Args:
        base: Says how good each action is without it.
        anticipated: Gives what is anticipated now, such as ``home.anticipate``.
        win_back: Kinds of actions that are for people who may leave.

    >>> from client_sdk.experience.actions import Action
    >>> from client_sdk.experience.scoring import PriorScorer
    >>> due = Anticipation(kind="replenishment", about="oats", value=0.0, unit="days overdue",
    ...                    confidence=0.75, sentence="")
    >>> table = ActionTable([Action(action_id="a", item_id="oats"), Action(action_id="b")])
    >>> scorer = AnticipationScorer(PriorScorer(), lambda: [due])
    >>> scorer.score(table, np.zeros(0)).expected.round(4).tolist()
    [0.0875, 0.05]
    """

    def __init__(
        self,
        base: Scorer,
        anticipated: Callable[[], Sequence[Anticipation]],
        *,
        win_back: Iterable[str] = (),
    ) -> None:
        self._base = base
        self._anticipated = anticipated
        self._win_back = frozenset(win_back)

    def score(self, actions: ActionTable, features: FloatArray) -> Scores:
        """Score every action."""
        scores = self._base.score(actions, features)
        factor = np.ones(len(actions))
        for one in self._anticipated():
            if one.kind == "replenishment":
                rows = actions.of_items((one.about,))
            elif one.kind == "category":
                rows = actions.about((one.about.casefold(),))
            elif one.kind == "churn":
                rows = actions.of_kinds(self._win_back)
            else:
                continue
            strength = one.value if one.kind == "churn" else one.confidence
            factor[rows] = np.maximum(factor[rows], 1.0 + strength)
        return Scores(expected=scores.expected * factor, confidence=scores.confidence)
