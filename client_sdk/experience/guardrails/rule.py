"""A guardrail, and how guardrails are joined.

Rules a reader can check line by line:

1. A rule is pure: it sees the actions and the situation, and says which it refuses, as a mask over
   all actions of a question. `AllOf` refuses what one of its rules refuses.
2. An empty `AllOf` or `AnyOf` refuses everything.
3. `in_words` says the whole rule in plain sentences.
4. A rule may be an `AttentiveRule` too: it says what of a situation it looks at, and refuses alike
   wherever that is equal. `experience.compiled` then asks it again only where that changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.situation import Situation
from client_sdk.signals.features.columns import BoolArray


class Rule(Protocol):
    """One limit on what may be done."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: which of the n actions may not be done."""
        ...

    def in_words(self) -> str:
        """Say the rule in a plain sentence."""
        ...


@runtime_checkable
class AttentiveRule(Rule, Protocol):
    """A rule that says what it looks at, so that it need not be asked about the same twice."""

    def looks_at(self, situation: Situation) -> Hashable:
        """All of a situation that the rule looks at; None where it holds in any situation.

        Returns:
            A value that never changes. For one table of actions the rule refuses the same in two
            situations wherever this is equal; it costs much less than to refuse.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class AllOf:
    """Passes what every rule passes; refuses everything where there is no rule.

    >>> table = ActionTable.from_encoded('[{"action_id":"a"}]')
    >>> AllOf(rules=()).refused(table, Situation(now_s=0.0)).tolist()
    [True]
    """

    rules: tuple[Rule, ...]
    name: str = "all-of"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what at least one rule refuses."""
        return _joined(self.rules, actions, situation, np.logical_or)

    def in_words(self) -> str:
        """Say every rule."""
        return " ".join(rule.in_words() for rule in self.rules) or "Everything is refused."


@dataclass(frozen=True, kw_only=True)
class AnyOf:
    """Passes what at least one rule passes; refuses everything where there is no rule."""

    rules: tuple[Rule, ...]
    name: str = "any-of"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what every rule refuses."""
        return _joined(self.rules, actions, situation, np.logical_and)

    def in_words(self) -> str:
        """Say every rule."""
        if not self.rules:
            return "Everything is refused."
        return f"One of these is enough: {' '.join(rule.in_words() for rule in self.rules)}"


def listed(names: Iterable[str]) -> str:
    """Say names in a row."""
    return ", ".join(sorted(names)) or "none"


def _joined(
    rules: tuple[Rule, ...],
    actions: ActionTable,
    situation: Situation,
    join: Callable[[BoolArray, BoolArray], BoolArray],
) -> BoolArray:
    if not rules:
        return np.ones(len(actions), np.bool_)
    first, *others = (rule.refused(actions, situation) for rule in rules)
    for mask in others:
        first = join(first, mask)
    return first
