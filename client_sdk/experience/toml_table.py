"""One table of a TOML file, asked key by key: values in their types, or one error with its line.

Rules a reader can check line by line:

1. Every value is asked for by its name and type; `TomlTable.done` refuses a name that nobody asked
   for.
2. An error names tables and keys, and says what kind of value came; never the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from client_sdk.experience.actions import is_code
from client_sdk.experience.toml_file import FileMistakeError, Place, TomlFile

CODE_WORDS: Final = "expected names of 1 to 64 of a-z, 0-9, _ and -"
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_DURATION: Final = re.compile(r"([0-9]{1,6}) (second|minute|hour|day)s?")
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (bool, "true or false"),
    (str, "text"),
    ((int, float), "a number"),
    (list, "a list"),
    (dict, "a table"),
)


class TomlTable:
    """One table of a file, asked key by key; `done` refuses what was not asked for.

    Args:
        file: The file.
        place: Where the table is.
        values: The table.

    >>> file = TomlFile.read("push = { limti = 3 }", name="policy.toml")
    >>> table = TomlTable.of(file).table("push")
    >>> table.whole("limit", least=0, most=9) is None
    True
    >>> table.done()
    Traceback (most recent call last):
    client_sdk.experience.toml_file.FileMistakeError: policy.toml, line 1: push.limti: expected no \
other key; got one: remove it or correct its name
    """

    def __init__(self, *, file: TomlFile, place: Place, values: Mapping[str, Any]) -> None:
        self._file, self._place, self._values = file, place, values
        self._asked: set[str] = set()

    @classmethod
    def of(cls, file: TomlFile) -> TomlTable:
        """Give the whole file as a table to ask."""
        return cls(file=file, place=(), values=file.tables)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are there."""
        return tuple(self._values)

    def need(self, key: str, what: str, example: str) -> None:
        """Refuse a table without a key, and say what to write."""
        if key not in self._values:
            raise self.error(key, f"expected {what}; got none: add {key} = {example}")

    def table(self, key: str) -> TomlTable:
        """Give a table under this one; an empty one where there is none."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "a table", value, f"write [{key}] above it")
        return TomlTable(file=self._file, place=(*self._place, key), values=value)

    def tables(self, key: str) -> list[TomlTable]:
        """Give the tables of a list, in their order; none where there is none."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self._wrong(key, "a list of tables", value, f"write [[{key}]] above each")
        return [
            TomlTable(file=self._file, place=(*self._place, key, number), values=each)
            for number, each in enumerate(value)
        ]

    def flag(self, key: str, *, default: bool) -> bool:
        """Give true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value, "write one of them")
        return value

    def number(
        self,
        key: str,
        *,
        least: float = -math.inf,
        most: float = math.inf,
        default: float | None = None,
    ) -> float | None:
        """Give a finite number in a range; the default where there is none."""
        value = self._take(key, default)
        if value is None:
            return None
        bounded = math.isfinite(least) or math.isfinite(most)
        what = f"a number from {least:g} to {most:g}" if bounded else "a finite number"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, what, value, f"write it as {key} = 1.0")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not (math.isfinite(number) and least <= number <= most):
            raise self.error(key, f"expected {what}; got another: correct it")
        return number

    def whole(self, key: str, *, least: int, most: int) -> int | None:
        """Give a whole number in a range; None where there is none."""
        value = self._take(key, None)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:
            what = f"a whole number from {least} to {most}"
            raise self.error(key, f"expected {what}; got another value: correct it")
        return value

    def text(self, key: str, *, default: str = "") -> str:
        """Give a text."""
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "text", value, 'write it in quotes, as "x"')
        return value

    def names(self, key: str, *, folded: bool = False) -> frozenset[str] | None:
        """Give different texts; None where there are none."""
        ordered = self.ordered_names(key)
        if ordered is None:
            return None
        return frozenset(name.casefold() for name in ordered) if folded else frozenset(ordered)

    def codes(self, key: str) -> frozenset[str] | None:
        """Give names of kinds or channels as an `Action` has them; None where there are none."""
        names = self.names(key)
        if names is not None and not all(map(is_code, names)):
            raise self.error(key, f"{CODE_WORDS}; got another name: correct it")
        return names

    def ordered_names(self, key: str) -> tuple[str, ...] | None:
        """Give texts in their order; None where there are none."""
        value = self._take(key, None)
        if value is None:
            return None
        good = isinstance(value, list) and all(isinstance(n, str) and n.strip() for n in value)
        if not good or len({name.casefold() for name in value}) != len(value):
            raise self.error(
                key, 'expected a list of different texts such as ["a", "b"]; got something else: '
                "correct it"
            )  # fmt: skip
        return tuple(value)

    def minute(self, key: str) -> int:
        """Give a time of day as minutes after midnight."""
        found = _CLOCK.match(self.text(key))
        if found is None:
            raise self.error(key, 'expected a time such as "21:30"; got none: add or correct it')
        return int(found[1]) * 60 + int(found[2])

    def time_s(self, key: str) -> float:
        """Give a time with its zone, as seconds since 1970 (UTC)."""
        example = "2027-01-15T00:00:00Z"
        self.need(key, "a time with its zone", example)
        value = self._take(key, None)
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self._wrong(key, "a time with its zone", value, f"write {key} = {example}")
        return value.timestamp()

    def duration_s(self, key: str) -> float | None:
        """Give a duration such as ``"7 days"``, as seconds; None where there is none."""
        value = self._take(key, None)
        if value is None:
            return None
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            what = "a whole number of seconds, minutes, hours or days"
            raise self._wrong(key, what, value, f'write {key} = "7 days"')
        return int(found[1]) * _SECONDS[found[2]]

    def done(self) -> None:
        """Refuse a key that nobody asked for.

        Raises:
            FileMistakeError: there is one.
        """
        for key in self._values:
            if key not in self._asked:
                raise self.error(
                    key, "expected no other key; got one: remove it or correct its name"
                )

    def error(self, key: str, what: str) -> FileMistakeError:
        """Make the error of a key; its line is that of the key, or of the table without it."""
        return self._file.mistake((*self._place, key), what)

    def _take(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        return self._values.get(key, default)

    def _wrong(self, key: str, what: str, value: object, remedy: str) -> FileMistakeError:
        came = next((words for kind, words in _KINDS if isinstance(value, kind)), "another value")
        if came == what:
            came += " of another form"
        return self.error(key, f"expected {what}; got {came}: {remedy}")
