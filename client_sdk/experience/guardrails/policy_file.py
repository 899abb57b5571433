"""A TOML file of rules, read strictly: one clear error with the file, the line and what to do.

Rules a reader can check line by line:

1. Every key is known, and of the type that is expected; a key that nobody asked for is an error.
2. The line of a key is found by parsing ever longer beginnings of the file, so it is the parser's
   own reading of the file, whatever is in texts and comments. That is done for an error only.
3. At most `MAX_LINES` lines.
4. An error names tables and keys, which are the app's own, and no value.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from client_sdk.experience.actions import is_code

CODE_WORDS: Final = "expected names of 1 to 64 of a-z, 0-9, _ and -"
MAX_LINES: Final = 1_000
MAX_CHARS: Final = 100_000
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_PARSER_LINE: Final = re.compile(r"\(at line (\d+), column \d+\)")


class PolicyFileError(ValueError):
    """A policy file is not as promised; the message names the file, the line and the remedy."""


class TableReader:
    """Reads one table of a file, key by key; `done` refuses what was not asked for.

    Args:
        text: The whole file.
        file: Its name, for errors.
        path: Where the table is, from the top.
        value: The table.

    >>> reader = TableReader.of_text("a = { limti = 3 }", file="policy.toml")
    >>> reader.table("a").done()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    client_sdk...PolicyFileError: policy.toml, line 1: [a] limti: expected no other key; got one...
    """

    def __init__(
        self, *, text: str, file: str, path: tuple[str, ...], value: Mapping[str, Any]
    ) -> None:
        self._text, self._file, self._path, self._value = text, file, path, value
        self._asked: list[str] = []

    @classmethod
    def of_text(cls, text: str, *, file: str) -> TableReader:
        """Parse a file.

        Raises:
            PolicyFileError: no TOML, or too long.
        """
        if text.count("\n") >= MAX_LINES or len(text) > MAX_CHARS:
            raise PolicyFileError(
                f"{file}, line 1: expected at most {MAX_LINES} lines and {MAX_CHARS} characters; "
                "got more: make it shorter"
            )
        try:
            value = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            found = _PARSER_LINE.search(str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            # Without the cause: the parser's words may hold a piece of the file.
            raise PolicyFileError(
                f"{file}, line {line}: expected TOML; got something else: correct this line"
            ) from None
        return cls(text=text, file=file, path=(), value=value)

    def __contains__(self, key: str) -> bool:
        return key in self._value

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are there."""
        return tuple(self._value)

    def table(self, key: str) -> TableReader:
        """Give a table under this one; an empty one where there is none."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "expected a table; got something else: write [name] above it")
        return TableReader(text=self._text, file=self._file, path=(*self._path, key), value=value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Give true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "expected true or false; got something else: write one of them")
        return value

    def number(
        self, key: str, *, least: float, most: float, default: float | None = None
    ) -> float | None:
        """Give a finite number in a range."""
        value = self._get(key, default)
        if value is None:
            return None
        wrong = isinstance(value, bool) or not isinstance(value, int | float)
        if wrong or not (math.isfinite(value) and least <= value <= most):
            raise self.error(
                key, f"expected a number from {least:g} to {most:g}; got something else: correct it"
            )
        return float(value)

    def whole(self, key: str, *, least: int, most: int) -> int | None:
        """Give a whole number in a range; None where there is none."""
        value = self._get(key, None)
        if value is not None and not (type(value) is int and least <= value <= most):
            raise self.error(
                key, f"expected a whole number from {least} to {most}; got something else: "
                "correct it"
            )  # fmt: skip
        return value

    def text(self, key: str, *, default: str = "") -> str:
        """Give a text."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, 'expected text; got something else: write it in quotes, as "x"')
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
        value = self._get(key, None)
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
        found = _TIME.match(self.text(key))
        if found is None:
            raise self.error(key, 'expected a time such as "21:30"; got none: add or correct it')
        return int(found[1]) * 60 + int(found[2])

    def done(self) -> None:
        """Refuse a key that nobody asked for.

        Raises:
            PolicyFileError: there is one.
        """
        for key in self._value:
            if key not in self._asked:
                raise self.error(
                    key, "expected no other key; got one: remove it or correct its name"
                )

    def error(self, key: str, what: str) -> PolicyFileError:
        """Make an error about a key; its line is that of the key, or of the table without it."""
        path = (*self._path, key) if key in self._value else self._path
        table = f"[{'.'.join(self._path)}] " if self._path else ""
        name = f"{table}{key}".strip()
        return PolicyFileError(f"{self._file}, line {line_of(self._text, path)}: {name}: {what}")

    def _get(self, key: str, default: Any) -> Any:
        self._asked.append(key)
        return self._value.get(key, default)


def line_of(text: str, path: tuple[str, ...]) -> int:
    """Say on which line of a TOML text a key, or a table, begins; 1 for the top."""
    lines = text.splitlines()
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            value: Any = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if path and _has(value, path):
            break
        begin = end
    else:
        return 1
    statement = range(begin, end)
    return next(
        (row + 1 for row in statement if lines[row].strip() and lines[row].strip()[0] != "#"), end
    )


def _has(value: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True
