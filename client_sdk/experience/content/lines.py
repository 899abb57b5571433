"""TOML with line numbers: what a file says, and where it says it.

Rules a reader can check line by line:

1. The values are `tomllib`'s. The lines come from a second look at the text, which finds headers
   and keys; a place that it cannot find has the line of what it stands in.
2. Every mistake is one `FileMistakeError`: file, line, place, what was expected, what came, what to
   do. Journeys and content are an app's own texts, so an error may show a name from the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Place = tuple[str | int, ...]
"""Keys, and positions in lists from 0, such as ``("transitions", 2, "to")``."""

MAX_FILE_CHARS: Final = 1_000_000
_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_PATH: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*(\[\[?)\s*({_PATH})\s*\]\]?\s*(?:#.*)?$")
_ENTRY: Final = re.compile(rf"\s*({_PATH})\s*=(.*)$")
_AT: Final = re.compile(r"\(at line (\d+)")
# Strings and comments, so that a bracket inside of one opens nothing.
_QUIET: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*')


class FileMistakeError(ValueError):
    """A file is not as promised; the message names file, line, place and remedy.

    Attributes:
        file: Its name, or what it is where it came as text.
        line: From 1; None where the whole file is meant.
    """

    def __init__(self, problem: str, *, file: str, line: int | None = None) -> None:
        super().__init__(
            f"{file}: {problem}" if line is None else f"{file}, line {line}: {problem}"
        )
        self.file = file
        self.line = line


@dataclass(frozen=True, kw_only=True)
class TomlFile:
    r"""What a file says, and where.

    Attributes:
        name: The file's name.
        tables: Its values.
        lines: The line of each header and key that was found.

    >>> file = TomlFile.read('[a]\nb = 1\n[[c]]\nd = 2\n', name="app.toml")
    >>> file.line(("c", 0, "d")), file.line(("a", "none"))
    (4, 1)
    """

    name: str
    tables: Mapping[str, Any]
    lines: Mapping[Place, int]

    @classmethod
    def read(cls, source: Path | str, *, name: str) -> TomlFile:
        """Read a file, or the text itself.

        Args:
            source: A `Path`, or text.
            name: What to call it in an error, where it is text.

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
        if len(text) > MAX_FILE_CHARS:
            raise FileMistakeError(
                f"expected at most {MAX_FILE_CHARS} characters; got more: split it", file=name
            )
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _AT.search(str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            what = str(error).split(" (at ")[0]
            raise FileMistakeError(
                f"expected TOML; got something else ({what}): correct this line",
                file=name,
                line=line,
            ) from None
        except RecursionError:
            raise FileMistakeError(
                "expected tables in tables a few deep; got many more: flatten it", file=name
            ) from None
        return cls(name=name, tables=tables, lines=_lines(text))

    def line(self, place: Place) -> int | None:
        """Give the line of a place, or of what it stands in."""
        for length in range(len(place), 0, -1):
            found = self.lines.get(place[:length])
            if found is not None:
                return found
        return None

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
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), start=1):
        rest = line
        if quote:
            if quote not in line:
                continue
            rest, quote = line.split(quote, 1)[1], ""
        elif depth == 0:
            header, entry = _HEADER.match(line), _ENTRY.match(line)
            if header:
                at = _opened(_parts(header[2]), counts, is_list=header[1] == "[[")
                found.setdefault(at, number)
                continue
            if entry:
                found.setdefault((*at, *_parts(entry[1])), number)
                rest = entry[2]
        for mark in ('"""', "'''"):
            if rest.count(mark) % 2:
                rest, quote = rest.rsplit(mark, 1)[0], mark
        bare = _QUIET.sub("", rest)
        depth += sum(bare.count(mark) for mark in "[{") - sum(bare.count(mark) for mark in "]}")
        depth = max(depth, 0)
    return found


def _parts(path: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, path)]


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
