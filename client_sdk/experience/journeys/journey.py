"""A journey: states, what moves a person between them, and what is done on the way.

Rules a reader can check line by line:

1. A `Journey` that exists is valid: `validate` found nothing. Read one with `Journey.from_toml`.
2. It is a value: a new version is another journey, and `migrate` moves people to it.
3. Nothing here runs; `runner` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from client_sdk.experience.content.shape import check, seconds
from client_sdk.experience.content.slots import SlotRule
from client_sdk.experience.journeys.conditions import Condition
from client_sdk.experience.journeys.diagram import mermaid, svg
from client_sdk.experience.journeys.parts import (
    STANDARD_FEATURES,
    ActionRule,
    Channel,
    FactRule,
    Plan,
    Problem,
    State,
    Transition,
)
from client_sdk.experience.journeys.tables import FILE
from client_sdk.experience.journeys.validate import problems_of
from client_sdk.experience.journeys.words import explain
from client_sdk.experience.toml_file import FileMistakeError, Place, TomlFile


class InvalidJourneyError(ValueError):
    """A journey is not valid.

    Attributes:
        problems: All that was found, at least one.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems[0].text)
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Journey(Plan):
    """A journey that is valid; its fields are those of `Plan`.

    Raises:
        InvalidJourneyError: it is not; the message names the first problem.

    >>> journey = Journey.from_toml('''
    ... journey = "hello"
    ... version = 1
    ... title = "A greeting"
    ... start = "new"
    ... fallback = "new"
    ... channels.web = { cap = 1, per = "1 day", opt_in = false }
    ... [states.new]
    ... meaning = "Nobody said anything yet."
    ... [states.greeted]
    ... meaning = "The person was greeted."
    ... terminal = true
    ... enter = [{ id = "hello", channel = "web" }]
    ... [[transitions]]
    ... from = "new"
    ... to = "greeted"
    ... on = "screen"
    ... because = "you came by"
    ... ''')
    >>> journey.leaving("new")[0].target
    'greeted'
    """

    def __post_init__(self) -> None:
        problems = problems_of(self)
        if problems:
            raise InvalidJourneyError(problems)

    @classmethod
    def from_toml(
        cls,
        source: Path | str,
        *,
        features: Iterable[str] = STANDARD_FEATURES,
        name: str = "journey",
    ) -> Self:
        """Read a journey from a file, or from the text itself; see ``journey.schema.json``.

        Args:
            source: A `Path`, or text.
            features: The names of the features that the app has, such as `FeatureSet.names`.
            name: What to call it in an error, where it is text.

        Raises:
            FileMistakeError: it is not as promised; one message, with file, line and remedy.
            OSError: the file cannot be read.
        """
        file = TomlFile.read(source, name=name)
        check(file, FILE)
        fields = _read(file)
        try:
            return cls(**fields, features=tuple(features))
        except InvalidJourneyError as error:
            first = error.problems[0]
            raise file.mistake(first.place, first.text) from None

    def explain(self) -> list[str]:
        """Say in plain sentences what the journey does."""
        return explain(self)

    def diagram(self) -> str:
        """Draw the journey as Mermaid text; `svg` draws a picture."""
        return mermaid(self)

    def svg(self) -> str:
        """Draw the journey as one SVG file that needs nothing else."""
        return svg(self)


def mistakes_in(
    source: Path | str, *, features: Iterable[str] = STANDARD_FEATURES
) -> tuple[str, ...]:
    """Say everything that is wrong with a journey file; empty where it is valid.

    Args:
        source: A `Path`, or text.
        features: The names of the features that the app has.

    Returns:
        One message each, with file, line and remedy. A file that cannot be read as a journey at all
        has one.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        file = TomlFile.read(source, name="journey")
        check(file, FILE)
        plan = Plan(**_read(file), features=tuple(features))
    except FileMistakeError as error:
        return (str(error),)
    return tuple(str(file.mistake(one.place, one.text)) for one in problems_of(plan))


def _read(file: TomlFile) -> dict[str, Any]:
    tables = file.tables
    facts = {name: FactRule(name=name, **table) for name, table in tables.get("facts", {}).items()}
    return {
        "name": tables["journey"],
        "version": tables["version"],
        "title": tables["title"],
        "start": tables["start"],
        "fallback": tables["fallback"],
        "channels": {
            name: Channel(
                name=name, cap=table["cap"], per_s=seconds(table["per"]), opt_in=table["opt_in"]
            )
            for name, table in tables["channels"].items()
        },
        "opt_ins": {name: table["meaning"] for name, table in tables.get("opt_ins", {}).items()},
        "facts": facts,
        "slots": {
            name: _slot(file, name, table, facts) for name, table in tables.get("slots", {}).items()
        },
        "states": {
            name: State(
                name=name,
                meaning=table["meaning"],
                terminal=table.get("terminal", False),
                enter=_actions(file, table, ("states", name, "enter")),
                exit=_actions(file, table, ("states", name, "exit")),
            )
            for name, table in tables["states"].items()
        },
        "transitions": tuple(
            Transition(
                source=table["from"],
                target=table["to"],
                because=table["because"],
                on=table.get("on", ""),
                after_s=seconds(table["after"]) if "after" in table else None,
                without=tuple(table.get("without", ())),
                when=_conditions(file, table, ("transitions", number)),
                priority=table.get("priority", 0),
            )
            for number, table in enumerate(tables.get("transitions", ()))
        ),
    }


def _slot(
    file: TomlFile, name: str, table: Mapping[str, Any], facts: Mapping[str, FactRule]
) -> SlotRule:
    kind, _, source = table["from"].partition(":")
    # What a fact needs, every slot that is filled from it needs.
    opt_in = table.get("opt_in", "")
    if kind == "fact" and source in facts:
        opt_in = opt_in or facts[source].opt_in
    try:
        return SlotRule(
            name=name,
            kind=kind,
            source=source,
            consent=table["consent"],
            opt_in=opt_in,
            decimals=table.get("decimals", 0),
        )
    except ValueError as error:
        raise file.mistake(
            ("slots", name, "from"), f"{error}: write feature:NAME, favourite:MAP or fact:NAME"
        ) from None


def _actions(
    file: TomlFile, state: Mapping[str, Any], place: tuple[str, str, str]
) -> tuple[ActionRule, ...]:
    wanted = ("stage", "tone", "category", "compliance")
    read = []
    for number, table in enumerate(state.get(place[-1], ())):
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in table.items()
            if name not in (*wanted, "id", "when")
        }
        read.append(
            ActionRule(
                action_id=table["id"],
                wanted={name: table[name] for name in wanted if name in table},
                when=_conditions(file, table, (*place, number)),
                **fields,
            )
        )
    return tuple(read)


def _conditions(file: TomlFile, table: Mapping[str, Any], place: Place) -> tuple[Condition, ...]:
    read = []
    for number, given in enumerate(table.get("when", ())):
        try:
            read.append(Condition.from_table(given))
        except ValueError as error:
            raise file.mistake((*place, "when", number), str(error)) from None
    return tuple(read)
