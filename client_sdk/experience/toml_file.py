r"""TOML that knows its lines: policies, journeys, content and experiments are all read through it.

Rules a reader can check line by line:

1. The values are `tomllib`'s. The lines come from a second look at the text, which cuts it into
   headers and entries as TOML does: a bracket or a ``=`` inside of a text or a comment is none.
2. Every mistake is one `FileMistakeError`: ``FILE, line N: PLACE: expected ...; got ...: remedy``.
   A place that is not there has the line of what it should stand in; the whole file has line 1.
3. Two ways to ask: `content.shape.check`, against a declared table, or `toml_table.TomlTable`, key
   by key. Both refuse a key that nobody knows.
4. These files are an app's own texts: an error may show a name from the file.

>>> file = TomlFile.read("[a]\nb = 1\n[[c]]\nd = 2\n", name="app.toml")
>>> file.line(("c", 0, "d")), file.line(("a", "none"))
(4, 1)
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

Place = tuple[str | int, ...]
"""Keys, and positions in lists from 0, such as ``("transitions", 2, "to")``."""

MAX_FILE_CHARS: Final = 1_000_000
_AT: Final = re.compile(r"\(at line (\d+)")
# Texts and comments whole, so that what is inside of one counts for nothing; then what counts.
_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}=\n]",
    re.DOTALL,
)
_HEADER: Final = re.compile(r"(\[\[?)(.*?)\]\]?\s*(?:#.*)?", re.DOTALL)


class FileMistakeError(ValueError):
    """A file is not as promised; the message names file, line, place and remedy.

    Attributes:
        file: Its name, or what it is where it came as text.
        line: From 1; 1 where the whole file is meant.
    """

    def __init__(self, problem: str, *, file: str, line: int = 1) -> None:
        super().__init__(f"{file}, line {line}: {problem}")
        self.file = file
        self.line = line


@dataclass(frozen=True, kw_only=True)
class TomlFile:
    """What a file says, and where.

    Attributes:
        name: The file's name.
        tables: Its values.
        text: The text that they were read from.
    """

    name: str
    tables: Mapping[str, Any]
    text: str

    @cached_property
    def lines(self) -> Mapping[Place, int]:
        """The line of each header and key; looked for when the first mistake is made."""
        return _lines(self.text)

    @classmethod
    def read(
        cls, source: Path | str, *, name: str, max_chars: int = MAX_FILE_CHARS, max_lines: int = 0
    ) -> TomlFile:
        """Read a file, or the text itself.

        Args:
            source: A `Path`, or text.
            name: What to call it in an error, where it is text.
            max_chars: The longest text.
            max_lines: The most lines; 0 for any number.

        Raises:
            FileMistakeError: no UTF-8, no TOML, or too long.
            OSError: the file cannot be read.
        """
        text = source
        if isinstance(source, Path):
            name = source.name
            try:
                text = source.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise FileMistakeError(
                    "expected UTF-8 text; got other bytes: save it as UTF-8", file=name
                ) from None
        text = str(text).replace("\r\n", "\n")
        n_lines = text.count("\n") + 1
        if len(text) > max_chars or 0 < max_lines < n_lines:
            lines = f"{max_lines} lines and " if max_lines else ""
            raise FileMistakeError(
                f"expected at most {lines}{max_chars} characters; got more: make it shorter",
                file=name,
            )
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _AT.search(str(error))
            line = int(found[1]) if found else max(1, n_lines - text.endswith("\n"))
            what = str(error).split(" (at ")[0]
            raise FileMistakeError(
                f"expected TOML; got something else ({what}): correct this line",
                file=name,
                line=line,
            ) from None
        except (RecursionError, ValueError):
            # ValueError: a whole number of thousands of digits.
            raise FileMistakeError(
                "expected tables in tables a few deep, and numbers of a few digits; got more: "
                "make them smaller",
                file=name,
            ) from None
        return cls(name=name, tables=tables, text=text)

    def line(self, place: Place) -> int:
        """Give the line of a place, or of what it stands in."""
        for length in range(len(place), 0, -1):
            found = self.lines.get(place[:length])
            if found is not None:
                return found
        return 1

    def mistake(self, place: Place, problem: str) -> FileMistakeError:
        """Make the error for one place."""
        where = in_words(place)
        return FileMistakeError(
            f"{where}: {problem}" if where else problem, file=self.name, line=self.line(place)
        )


def in_words(place: Place) -> str:
    """Write a place as a reader counts.

    >>> in_words(("states", "cart", "enter", 0, "channel"))
    'states.cart.enter #1.channel'
    """
    said = ""
    for part in place:
        said += f" #{part + 1}" if isinstance(part, int) else f".{part}"
    return said.lstrip(".")


def _lines(text: str) -> dict[Place, int]:
    """Find the headers and keys of a text that is TOML."""
    found: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    at: Place = ()
    for line, key, mark in _statements(text):
        parts = _parts(key)
        if mark:
            at = _opened(parts, counts, is_list=mark == "[[")
            place = at
        else:
            place = (*at, *parts)
        for length in range(1, len(place) + 1):
            found.setdefault(place[:length], line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str, str]]:
    """Cut a text into statements: the line, the key, and ``[`` or ``[[`` for a header."""
    begin = depth = 0
    line, equals = 1, -1
    for token in _TOKEN.finditer(f"{text}\n"):
        what = token[0]
        if what == "=" and depth == 0 and equals < 0:
            equals = token.start()
        elif what in "[{":
            depth += 1
        elif what in "]}":
            depth -= 1
        elif what == "\n" and depth == 0:
            statement = text[begin : token.start()]
            bare = statement.lstrip()
            header = _HEADER.fullmatch(bare) if equals < 0 else None
            if equals >= 0:
                yield line, text[begin:equals], ""
            elif header:
                yield line, header[2], header[1]
            line += statement.count("\n") + 1
            begin, equals = token.end(), -1


def _parts(key: str) -> list[str]:
    """Split a dotted key as TOML does: the parser says what is quoted."""
    value: Any = tomllib.loads(f"{key.strip()} = 0")
    parts: list[str] = []
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts.append(part)
    return parts


def _opened(parts: list[str], counts: dict[Place, int], *, is_list: bool) -> Place:
    """Give the place of a header; a part that is a list means its latest entry."""
    at: Place = ()
    for part in parts[:-1]:
        at = (*at, part)
        if at in counts:
            at = (*at, counts[at] - 1)
    at = (*at, parts[-1])
    if is_list:
        counts[at] = counts.get(at, 0) + 1
        return (*at, counts[at] - 1)
    return at
