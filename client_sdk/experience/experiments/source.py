"""A TOML file that knows its lines: what is wrong in it is one error with file, line and remedy.

Rules a reader can check line by line:

1. Text in, values out: nothing here opens a file.
2. Every value is asked for by its name and type; a name that nobody asked for is refused.
3. One error, the first: ``FILE, line N: FIELD: expected ...; got ...; what to write``. Where a key
   is missing, the line is that of its table.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
_Path = tuple[str | int, ...]

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\-]+)\s*\]\]?\s*(#.*)?")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*)\s*=")
_AT_LINE: Final = re.compile(r"^(.*?) \(at line ([0-9]+), column [0-9]+\)")
_DURATION: Final = re.compile(r"([0-9]{1,6}) (second|minute|hour|day)s?")
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}


class ExperimentFileError(ValueError):
    """The file is no experiment; the message names the file, the line and what to write."""


class FieldError(ValueError):
    """A field is not as promised.

    Args:
        field: Its name.
        message: What was expected, what came, what to write.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Table:
    """One table of a TOML file, asked field by field.

    >>> table = read_toml('share = 2.5', file="linen.toml")
    >>> table.number("share")
    2.5
    >>> table.number("holdout", 0.0)
    0.0
    >>> print(table.error("share", "expected a number from 0 to 1; got 2.5; write share = 0.2"))
    linen.toml, line 1: share: expected a number from 0 to 1; got 2.5; write share = 0.2
    """

    def __init__(
        self, values: Mapping[str, Any], *, file: str, lines: Mapping[_Path, int], path: _Path = ()
    ) -> None:
        self._left = dict(values)
        self._file = file
        self._lines = lines
        self._path = path

    def text(self, name: str, default: str | None = None) -> str:
        """Take a text."""
        value = self._take(name, default, f'expected a text; got none; add {name} = "..."')
        if not isinstance(value, str):
            raise self._wrong(name, "a text", value, f'{name} = "..."')
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Take a finite number."""
        value = self._take(name, default, f"expected a number; got none; add {name} = 1.0")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number", value, f"{name} = 1.0")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error(name, f"expected a finite number; got none; write {name} = 1.0")
        return number

    def time_s(self, name: str) -> float:
        """Take a time with its zone, as seconds since 1970 (UTC)."""
        example = f"{name} = 2027-01-15T00:00:00Z"
        value = self._take(name, None, f"expected a time; got none; add {example}")
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self._wrong(name, "a time with its zone", value, example)
        return value.timestamp()

    def optional_duration_s(self, name: str) -> float | None:
        """Take a duration such as ``"7 days"``, as seconds; None where there is none."""
        return self.duration_s(name) if name in self._left else None

    def duration_s(self, name: str) -> float:
        """Take a duration such as ``"7 days"``, as seconds."""
        example = f'{name} = "7 days"'
        value = self._take(name, None, f"expected a duration; got none; add {example}")
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise self._wrong(
                name, "a whole number of seconds, minutes, hours or days", value, example
            )
        return int(found[1]) * _SECONDS[found[2]]

    def table(self, name: str) -> Table | None:
        """Take the table of a name; None where there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(name, "a table", value, f"[{name}]")
        return self._inner(value, name)

    def tables(self, name: str) -> list[Table]:
        """Take the tables of a name, in their order; none where there is none."""
        value = self._left.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self._wrong(name, "a list of tables", value, f"[[{name}]]")
        return [self._inner(each, name, place) for place, each in enumerate(value)]

    def build(self, make: Callable[[], _T]) -> _T:
        """Make a value of this table's fields; what it refuses gets file and line.

        Raises:
            ExperimentFileError: a field is not as promised, or there is one that nobody asked for.
        """
        try:
            made = make()
        except FieldError as error:
            raise ExperimentFileError(f"{self._place(error.field)}: {error}") from error
        for name in self._left:
            raise self.error(
                name, "expected no such field; got one; take it out or correct its name"
            )
        return made

    def error(self, name: str, message: str) -> ExperimentFileError:
        """Make the error of a field."""
        return ExperimentFileError(f"{self._place(name)}: {name}: {message}")

    def _take(self, name: str, default: object, missing: str) -> Any:
        value = self._left.pop(name, default)
        if value is None:
            raise self.error(name, missing)
        return value

    def _wrong(self, name: str, expected: str, value: object, example: str) -> ExperimentFileError:
        return self.error(
            name, f"expected {expected}; got {type(value).__name__} of another form; "
            f"write {example}"
        )  # fmt: skip

    def _inner(self, values: Mapping[str, Any], *path: str | int) -> Table:
        return Table(values, file=self._file, lines=self._lines, path=self._path + path)

    def _place(self, name: str) -> str:
        path: _Path = (*self._path, name)
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self._file}, line {self._lines.get(path, 1)}"


def read_toml(text: str, *, file: str) -> Table:
    """Parse a TOML file.

    Args:
        text: What the file holds.
        file: Its name, for errors.

    Raises:
        ExperimentFileError: the text is not TOML.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.match(str(error))
        what = found[1] if found else str(error).partition(" (")[0]
        line = int(found[2]) if found else max(1, text.count("\n") + (not text.endswith("\n")))
        raise ExperimentFileError(
            f"{file}, line {line}: expected TOML; got something else ({what}); correct the line"
        ) from error
    return Table(values, file=file, lines=_lines(text))


def _lines(text: str) -> dict[_Path, int]:
    lines: dict[_Path, int] = {}
    counts: dict[str, int] = {}
    path: _Path = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.fullmatch(line):
            name = header[2]
            path = tuple(name.split("."))
            if header[1] == "[[":
                lines.setdefault(path, number)
                path += (counts.setdefault(name, 0),)
                counts[name] += 1
            lines.setdefault(path, number)
        elif key := _KEY.match(line):
            lines.setdefault((*path, *key[1].split(".")), number)
    return lines
