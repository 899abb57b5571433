"""The edge of this room: bytes of a CSV file become rows of text, or one clear `DataError`.

Rules a reader can check line by line:

1. Plain or gzip (told by the first bytes, not by the name), UTF-8 with or without a byte order
   mark, comma-separated, quotes as in RFC 4180, one header row, blank lines skipped.
2. Every row has as many fields as the header; field and column names are stripped of spaces.
3. Whatever goes wrong names the file and the line, never the content of another field.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulations.data.interactions import DataError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_SHOWN_CHARACTERS: Final = 40


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that a loader understands.

    Attributes:
        field: The loader's word for it.
        names: Headers that mean it, in lower case.
        required: Whether a file without it is refused.
    """

    field: str
    names: tuple[str, ...]
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """An open file: where each field stands, and its rows.

    Attributes:
        file: The file's name, for messages.
        position: Field to column number, for the columns that the file has.
        ignored: Headers that no column claims.
        rows: Line number and stripped fields of every data row.
    """

    file: str
    position: Mapping[str, int]
    ignored: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]


@contextmanager
def open_table(path: Path, columns: Sequence[Column]) -> Iterator[Table]:
    """Open a CSV file and read its header; errors of reading become `DataError`.

    Args:
        path: The file.
        columns: What to look for in the header.

    Yields:
        The table; its rows are read as they are asked for.

    Raises:
        DataError: the file is missing, unreadable, not UTF-8 text, without a header, a required
            column is missing or there twice, or, later, a row is ragged.
    """
    line = 0
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC  # a pipe cannot seek back
            binary = gzip.GzipFile(fileobj=raw) if packed else raw
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            reader = csv.reader(text, strict=True)
            header = _read_header(reader, path.name)
            position, ignored = _place(header, columns, path.name)

            def rows() -> Iterator[tuple[int, list[str]]]:
                nonlocal line
                width = len(header)
                line = reader.line_num
                for row in reader:
                    line = reader.line_num
                    if len(row) == width:
                        yield line, [field.strip() for field in row]
                    elif row and row != [""]:
                        raise DataError(
                            f"expected {width} fields, as in the header, got {len(row)}",
                            file=path.name,
                            line=line,
                        )

            yield Table(file=path.name, position=position, ignored=ignored, rows=rows())
    except UnicodeDecodeError as error:
        problem = "expected UTF-8 text (plain or gzip), got other bytes"
        raise DataError(problem, file=path.name, line=line + 1) from error
    except csv.Error as error:
        problem = f"expected comma-separated values with closed quotes ({error})"
        raise DataError(problem, file=path.name, line=line + 1) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = "the gzip data is damaged or cut off"
        raise DataError(problem, file=path.name, line=line + 1) from error
    except OSError as error:
        problem = f"cannot be read ({error.strerror or type(error).__name__})"
        raise DataError(problem, file=path.name) from error


def shown(text: str) -> str:
    """Quote what came, cut to a length that fits into a message.

    Example:
        >>> shown("x" * 100)
        "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'"
    """
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return repr(cut)


def _read_header(reader: Iterator[list[str]], file: str) -> list[str]:
    """Give the first row that is not blank, in lower case."""
    for row in reader:
        names = [name.strip().lower() for name in row]
        if any("\0" in name for name in names):
            raise DataError("expected a line of column names, got binary data", file=file, line=1)
        if any(names):
            return names
    raise DataError("the file is empty; expected a line of column names", file=file)


def _place(
    header: list[str], columns: Sequence[Column], file: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Find each known column in the header."""
    position: dict[str, int] = {}
    claimed: set[int] = set()
    for column in columns:
        found = [at for at, name in enumerate(header) if name in column.names]
        claimed.update(found)
        if len(found) > 1:
            raise DataError(f"column {column.names[0]!r} is there twice", file=file, line=1)
        if found:
            position[column.field] = found[0]
        elif column.required:
            needed = ",".join(c.names[0] for c in columns if c.required)
            problem = (
                f"column {column.names[0]!r} is missing; expected a header with at least "
                f"{needed}, got {shown(','.join(header))}"
            )
            raise DataError(problem, file=file, line=1)
    return position, tuple(name for at, name in enumerate(header) if at not in claimed)
