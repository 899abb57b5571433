"""What a key of a scenario may hold: the reader and the JSON Schema both follow from it.

A table is a dataclass whose fields are ``Annotated[type, Form(...)]``: the form reads the key and
describes it. A rule between two keys is the dataclass's own (`ScenarioError` names the key).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Final, Protocol, TypeVar, get_type_hints

from client_sdk.experience.toml_file import FileMistakeError, Place
from client_sdk.experience.toml_table import TomlTable

HOURS: Final = 24
_Table = TypeVar("_Table")


class ScenarioError(ValueError):
    """Two keys contradict each other, or a value cannot be.

    Attributes:
        place: The key, from the table that raised it.
        problem: What was expected, what came, what to do.
    """

    def __init__(self, place: str | Place, problem: str) -> None:
        self.place: Place = (place,) if isinstance(place, str) else place
        self.problem = problem
        super().__init__(f"{'.'.join(map(str, self.place))}: {problem}")


class ScenarioTable(TomlTable):
    """A table that also holds lists of numbers."""

    def table(self, key: str) -> ScenarioTable:
        """Give a table under this one; an empty one where there is none."""
        super().table(key)
        values = self._values.get(key, {})
        return ScenarioTable(file=self._file, place=(*self._place, key), values=values)

    def tables(self, key: str) -> list[TomlTable]:
        """Give the tables of a list, in their order; none where there is none."""
        return [
            ScenarioTable(
                file=self._file, place=(*self._place, key, at), values=self._values[key][at]
            )
            for at in range(len(super().tables(key)))
        ]

    def numbers(
        self, key: str, *, least: float, most: float, entries: int | None
    ) -> tuple[float, ...]:
        """Give a list of finite numbers in a range.

        Args:
            key: Which.
            least: The smallest.
            most: The largest.
            entries: How many; None for any number but none.
        """
        value = self._take(key, None)
        count = "" if entries is None else f"{entries} "
        what = f"a list of {count}numbers from {least:g} to {most:g}"
        if not isinstance(value, list):
            raise self._wrong(key, what, value, f"write {key} = [...]")
        if len(value) != entries if entries is not None else not value:
            raise self.error(key, f"expected {what}; got {len(value)} entries: correct their count")
        for at, each in enumerate(value):
            if isinstance(each, bool) or not isinstance(each, int | float):
                raise self.error(key, f"expected {what}; entry {at + 1} is no number: correct it")
            if not (math.isfinite(each) and least <= each <= most):
                raise self.error(key, f"expected {what}; entry {at + 1} is another: correct it")
        return tuple(map(float, value))

    def raw(self, key: str) -> object:
        """Give a value as it stands, to choose how it is read."""
        return self._values.get(key)

    def mistake(self, place: Place, problem: str) -> FileMistakeError:
        """Make the error of a place below this table."""
        return self._file.mistake((*self._place, *place), problem)


class Form(Protocol):
    """What one key may hold."""

    @property
    def says(self) -> str: ...  # noqa: D102
    @property
    def example(self) -> str: ...  # noqa: D102

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give the value, or raise `FileMistakeError`."""
        ...

    def schema(self) -> dict[str, Any]:
        """Describe the values, as JSON Schema (draft 2020-12)."""
        ...


@dataclass(frozen=True)
class Number:
    """A finite number in a range."""

    says: str
    least: float
    most: float
    example: str = "1.0"

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give the number."""
        return table.number(key, least=self.least, most=self.most)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Share(Number):
    """A share of people, from 0 to 1."""

    least: float = 0.0
    most: float = 1.0
    example: str = "0.1"


@dataclass(frozen=True)
class Hourly:
    """A share for each local hour of the day from midnight, or one for all of them."""

    says: str
    example: str = "0.5"

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give 24 shares."""
        if isinstance(table.raw(key), list):
            return table.numbers(key, least=0.0, most=1.0, entries=HOURS)
        return (table.number(key, least=0.0, most=1.0),) * HOURS

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        share = {"type": "number", "minimum": 0.0, "maximum": 1.0}
        hours = {"type": "array", "items": share, "minItems": HOURS, "maxItems": HOURS}
        return {"anyOf": [share, hours]}


@dataclass(frozen=True)
class Numbers:
    """A list of numbers, at least one."""

    says: str
    least: float
    most: float
    example: str = "[2.0, 8.0]"

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give them."""
        return table.numbers(key, least=self.least, most=self.most, entries=None)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        number = {"type": "number", "minimum": self.least, "maximum": self.most}
        return {"type": "array", "items": number, "minItems": 1}


@dataclass(frozen=True)
class Whole:
    """A whole number in a range."""

    says: str
    least: int
    most: int
    example: str = "1"

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give the number."""
        return table.whole(key, least=self.least, most=self.most)

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    says: str
    words: tuple[str, ...]

    @property
    def example(self) -> str:
        """The first word."""
        return f'"{self.words[0]}"'

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give the word."""
        value = table.text(key)
        if value not in self.words:
            raise table.error(key, f"expected one of {list(self.words)}; got another: correct it")
        return value

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class FileName:
    """The name of a file, seen from the folder of the scenario."""

    says: str
    example: str = '"events.csv"'

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give the name."""
        value = table.text(key)
        if not value or "\0" in value:
            raise table.error(key, f"expected the name of a file; got none: write {self.example}")
        return value

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "string", "minLength": 1, "pattern": "^[^\u0000]*$"}


@dataclass(frozen=True)
class Inner:
    """A table under this one."""

    says: str
    of: type
    example: str = "{}"

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give what the table says."""
        return read_table(self.of, table.table(key))

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return schema_of(self.of)


@dataclass(frozen=True)
class InnerList:
    """A list of tables, at least one."""

    says: str
    of: type
    example: str = "[{}]"

    def read(self, table: ScenarioTable, key: str) -> Any:
        """Give what each table says."""
        inner = table.tables(key)
        if not inner:
            raise table.error(key, f"expected at least one table; got none: write [[{key}]]")
        return tuple(read_table(self.of, each) for each in inner if isinstance(each, ScenarioTable))

    def schema(self) -> dict[str, Any]:
        """Describe it."""
        return {"type": "array", "items": schema_of(self.of), "minItems": 1}


def read_table(of: type[_Table], table: ScenarioTable) -> _Table:
    """Read a table into its dataclass.

    Raises:
        FileMistakeError: an unknown key, a missing one, a wrong value, or two that contradict.
    """
    forms = _forms(of)
    for key in table.keys:
        if key not in forms:
            near = difflib.get_close_matches(key, forms, n=1)
            remedy = f"write {near[0]}" if near else "remove it"
            raise table.error(key, f"expected one of {sorted(forms)}; got another key: {remedy}")
    values: dict[str, Any] = {}
    for key, (form, required) in forms.items():
        if key in table:
            values[key] = form.read(table, key)
        elif required:
            raise table.error(
                key, f"expected {form.says}; got none: add {key} = {form.example}"
                if not isinstance(form, Inner) else f"expected this table; got none: add [{key}]"
            )  # fmt: skip
    try:
        return of(**values)
    except ScenarioError as error:
        raise table.mistake(error.place, error.problem) from None


def schema_of(of: type) -> dict[str, Any]:
    """Describe a table as a JSON Schema (draft 2020-12)."""
    forms = _forms(of)
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            key: {"description": form.says, **form.schema()} for key, (form, _) in forms.items()
        },
    }
    required = [key for key, (_, needed) in forms.items() if needed]
    return schema | ({"required": required} if required else {})


def _forms(of: type) -> Mapping[str, tuple[Form, bool]]:
    """Give each key's form, and whether it has to be there."""
    hints = get_type_hints(of, include_extras=True)
    declared: tuple[Field[Any], ...] = fields(of)
    return {
        each.name: (
            hints[each.name].__metadata__[0],
            each.default is MISSING and each.default_factory is MISSING,
        )
        for each in declared
    }
