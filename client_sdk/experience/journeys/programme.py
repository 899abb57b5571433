"""A programme: a journey and what it says, each checked against the other.

Rules a reader can check line by line:

1. Every message that an action names is in the library, approved under the rules that it wants.
2. Every slot that a text of such a message has, the action allows: no variant waits in vain.
3. Nothing here runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from client_sdk.experience.content.variants import ContentLibrary
from client_sdk.experience.journeys.journey import InvalidJourneyError, Journey
from client_sdk.experience.journeys.parts import STANDARD_FEATURES, ActionRule, Plan, Problem
from client_sdk.experience.journeys.validate import action_id
from client_sdk.experience.toml_file import Place, TomlFile


@dataclass(frozen=True, kw_only=True, eq=False)
class Programme:
    """A journey and what it says.

    Attributes:
        journey: The journey.
        content: Its messages.

    Raises:
        InvalidJourneyError: they do not fit together; the message names the first problem.
    """

    journey: Journey
    content: ContentLibrary

    def __post_init__(self) -> None:
        problems = tuple(problems_of_texts(self.journey, self.content))
        if problems:
            raise InvalidJourneyError(problems)

    @classmethod
    def from_toml(
        cls,
        journey: Path | str,
        content: Path | str,
        *,
        features: Iterable[str] = STANDARD_FEATURES,
        names: tuple[str, str] = ("journey", "content"),
    ) -> Self:
        """Read both files.

        Args:
            journey: A `Path`, or text.
            content: A `Path`, or text.
            features: The names of the features that the app has.
            names: What to call the two in an error, where they are text.

        Raises:
            FileMistakeError: one of them is not as promised, or they do not fit together.
            OSError: a file cannot be read.
        """
        plan = Journey.from_toml(journey, features=features, name=names[0])
        library = ContentLibrary.from_toml(content, name=names[1])
        try:
            return cls(journey=plan, content=library)
        except InvalidJourneyError as error:
            first = error.problems[0]
            raise TomlFile.read(journey, name=names[0]).mistake(first.place, first.text) from None

    @property
    def name(self) -> str:
        """The journey's name."""
        return self.journey.name

    def rule_of(self, name: str) -> ActionRule | None:
        """Find the rule of an action by the name that the decision log has; None for another's."""
        for state, rule in _rules(self.journey):
            if action_id(self.journey, state, rule) == name:
                return rule
        return None


def problems_of_texts(plan: Plan, content: ContentLibrary) -> Iterator[Problem]:
    """Find every action whose message can't be said as it wants; none where all can."""
    for name, state in plan.states.items():
        for way, rules in (("enter", state.enter), ("exit", state.exit)):
            for number, rule in enumerate(rules):
                if rule.content:
                    yield from _problems(rule, content, ("states", name, way, number))


def _problems(rule: ActionRule, content: ContentLibrary, at: Place) -> Iterator[Problem]:
    if rule.content not in content.messages:
        near = difflib.get_close_matches(rule.content, content.messages, n=1)
        remedy = f"write {near[0]!r}" if near else "add it to the content file"
        yield Problem(
            place=(*at, "content"),
            text=f"expected a message of the content file; got {rule.content!r}: {remedy}",
        )
        return
    missing = sorted(content.slots_of(rule.content) - set(rule.slots))
    if missing:
        yield Problem(
            place=(*at, "slots"),
            text=f"expected every slot of the message {rule.content!r}; got none of {missing}: "
            "add them, or take them out of the text",
        )
    approved = content.messages[rule.content][0].compliance
    if rule.wanted.get("compliance", approved) != approved:
        yield Problem(
            place=(*at, "compliance"),
            text=f"expected the rules that the message was approved under, {approved or 'none'!r}; "
            "got others: name another message, or have this one approved",
        )


def _rules(plan: Plan) -> Iterator[tuple[str, ActionRule]]:
    for name, state in plan.states.items():
        for rule in (*state.enter, *state.exit):
            yield name, rule
