"""Guardrails on what is said: not after a complaint, not twice, not what is sensitive or unwanted.

Rules a reader can check line by line:

1. A rule whose fact is not known (never complained, nothing bought) refuses nothing.
2. A protected attribute is one that `signals.features.protected` lists; it is looked for in the
   topic, the tags, the names of the features and the name of the rule that proposes the action.
3. Topics and tags are one list of words for a rule: what is excluded as a topic is as a tag too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.guardrails.rule import listed
from client_sdk.experience.situation import Situation
from client_sdk.signals.features.columns import BoolArray
from client_sdk.signals.features.protected import sensitivity_of

HOUR_S: Final = 3_600.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True, kw_only=True)
class CoolDown:
    """Refuses what is not of the excepted kinds for a while after a complaint or a return."""

    after: Literal["complaint", "return"]
    hours: float
    except_kinds: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """What it comes after."""
        return f"cool-down:{self.after}"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what comes too early."""
        if not self.looks_at(situation):
            return np.zeros(len(actions), np.bool_)
        return ~actions.of_kinds(self.except_kinds)

    def looks_at(self, situation: Situation) -> bool:
        """Whether it is too early."""
        last_s = (
            situation.last_complaint_s if self.after == "complaint" else situation.last_return_s
        )
        return last_s is not None and situation.now_s - last_s < self.hours * HOUR_S

    def in_words(self) -> str:
        """Say how long."""
        but = f" but {listed(self.except_kinds)}" if self.except_kinds else ""
        return f"Nothing{but} for {self.hours:g} hours after a {self.after}."


@dataclass(frozen=True, kw_only=True)
class AlreadyBought:
    """Refuses an item that the person has; for ever, or for some days after the purchase."""

    within_days: float | None = None
    except_kinds: frozenset[str] = frozenset()
    name: str = "already-bought"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what is bought already."""
        return actions.of_items(self.looks_at(situation)) & ~actions.of_kinds(self.except_kinds)

    def looks_at(self, situation: Situation) -> frozenset[str]:
        """The items that count as bought now."""
        if self.within_days is None:
            return frozenset(situation.bought_s)
        since_s = situation.now_s - self.within_days * DAY_S
        return frozenset([item for item, at_s in situation.bought_s.items() if at_s > since_s])

    def in_words(self) -> str:
        """Say how long."""
        but = f", but for {listed(self.except_kinds)}" if self.except_kinds else ""
        days = "" if self.within_days is None else f" in the last {self.within_days:g} days"
        return f"Nothing about what the person bought{days} and kept{but}."


@dataclass(frozen=True, kw_only=True)
class OfferActive:
    """Refuses an offer that is active already; all of them where only one may be at a time."""

    kinds: frozenset[str]
    active_days: float
    one_at_a_time: bool = True
    name: str = "offer-active"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: offers that would be doubled."""
        offers = actions.of_kinds(self.kinds)
        if self.one_at_a_time and situation.offers:
            return offers
        return offers & (actions.named(situation.offers) | actions.of_items(situation.offers))

    def looks_at(self, situation: Situation) -> frozenset[str]:
        """The active offers."""
        return situation.offers

    def in_words(self) -> str:
        """Say what counts as an offer."""
        one = "and only one at a time" if self.one_at_a_time else "nor two of one item"
        return (
            f"No offer ({listed(self.kinds)}) twice within {self.active_days:g} days or while it "
            f"is active, {one}."
        )


@dataclass(frozen=True, kw_only=True)
class Never:
    """Refuses by name: ids of actions, kinds, topics and tags."""

    actions: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    name: str = "never"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:  # noqa: ARG002 - it holds at any time
        """bool[n]: what is never done."""
        return actions.once(
            self,
            lambda: (
                actions.named(self.actions)
                | actions.of_kinds(self.kinds)
                | actions.about(self.words)
            ),
        )

    def looks_at(self, situation: Situation) -> None:
        """Nothing: it holds in any situation."""

    def in_words(self) -> str:
        """Say the names."""
        return f"Never: {listed(self.actions | self.kinds | self.words)}."


@dataclass(frozen=True, kw_only=True)
class SensitiveTopics:
    """Refuses topics and tags that the app calls sensitive."""

    words: frozenset[str]
    name: str = "sensitive-topic"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:  # noqa: ARG002 - it holds at any time
        """bool[n]: what is about one of them."""
        return actions.once(self, lambda: actions.about(self.words))

    def looks_at(self, situation: Situation) -> None:
        """Nothing: it holds in any situation."""

    def in_words(self) -> str:
        """Say the topics."""
        return f"Nothing about {listed(self.words)}: these topics are sensitive."


@dataclass(frozen=True, kw_only=True)
class ProtectedAttributes:
    """Refuses an action whose topic, tags, feature names or rule name a protected attribute."""

    allow: frozenset[str] = frozenset()
    name: str = "protected-attribute"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:  # noqa: ARG002 - it holds at any time
        """bool[n]: what is aimed at a protected attribute."""
        return actions.once(self, lambda: self._naming(actions))

    def looks_at(self, situation: Situation) -> None:
        """Nothing: it holds in any situation."""

    def in_words(self) -> str:
        """Say what is refused."""
        but = f" (allowed by name: {listed(self.allow)})" if self.allow else ""
        return f"Nothing that names a protected attribute, such as health or religion{but}."

    def _naming(self, actions: ActionTable) -> BoolArray:
        known: dict[str, bool] = dict.fromkeys(self.allow, False)
        rows = [
            any(_is_protected(text, known) for text in (a.topic, a.rule, *a.tags, *a.feature_names))
            for a in actions.actions
        ]
        return np.array(rows, np.bool_)


@dataclass(frozen=True, kw_only=True)
class SoldOut:
    """Refuses an item that is out of stock."""

    name: str = "sold-out"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what can't be had."""
        return actions.of_items(situation.sold_out)

    def looks_at(self, situation: Situation) -> frozenset[str]:
        """The items that are out of stock."""
        return situation.sold_out

    def in_words(self) -> str:
        """Say it."""
        return "Nothing about an item that is sold out."


@dataclass(frozen=True, kw_only=True)
class LessOf:
    """Refuses topics, tags and items of which the person wants less."""

    name: str = "less-of-this"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what the person does not want."""
        return actions.about(situation.less) | actions.of_items(situation.less_items)

    def looks_at(self, situation: Situation) -> tuple[frozenset[str], frozenset[str]]:
        """The words and the items of which the person wants less."""
        return situation.less, situation.less_items

    def in_words(self) -> str:
        """Say it."""
        return "Nothing of which the person asked for less."


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Refuses an action that waits for a person's approval already."""

    name: str = "waits-for-approval"

    def refused(self, actions: ActionTable, situation: Situation) -> BoolArray:
        """bool[n]: what is in the review queue."""
        return actions.named(situation.waiting)

    def looks_at(self, situation: Situation) -> frozenset[str]:
        """What waits."""
        return situation.waiting

    def in_words(self) -> str:
        """Say it."""
        return "Nothing that waits for a person's approval already."


def _is_protected(text: str, known: dict[str, bool]) -> bool:
    found = known.get(text)
    if found is None:
        found = known[text] = sensitivity_of(text) == "protected"
    return found
