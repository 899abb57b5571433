"""A ledger as an auditor reads it: from a database or an export, without the right to write.

Guarantee: nothing here writes, creates a table or takes a lock that a writer waits for; a SQLite
file is opened read-only. What is read is as stored; `privacy.chain` says whether it is whole.

Edge cases:

| what is named | outcome |
|---|---|
| a file that isn't there | `LedgerUnreadableError`; nothing is created |
| a file that is no SQLite database and no export, or holds no ledger | `LedgerUnreadableError` |
| a database that can't be reached | `LedgerUnreadableError`, without the password |
| an export (``.jsonl``) with a line that is no row | `LedgerUnreadableError` with the line |

Test: tests/aggregator/test_privacy_commands.py.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aggregator.errors import AggregatorError
from privacy.budget import Scope, scope_of
from privacy.chain import LedgerRow, Reservation, RowKind

EXPORT_SUFFIX: Final = ".jsonl"
_COLUMNS: Final = tuple(each.name for each in fields(LedgerRow))
_NUMBERS: Final = frozenset({"seq", "at_ms"})


class LedgerUnreadableError(AggregatorError):
    """There is no ledger to read where one was named; the message says what is there instead."""


@dataclass(frozen=True, kw_only=True)
class Booked:
    """One reservation with what its rows say beyond it.

    Attributes:
        reservation: The release, and what became of it.
        reserved_at_ms: When it was reserved.
        settled_at_ms: When it was committed or voided; None while it is open.
        budget: ε and δ of the budget that admitted it; None where the row has none.
        hash: Of the row that reserved it.
    """

    reservation: Reservation
    reserved_at_ms: int
    settled_at_ms: int | None
    budget: tuple[float, float] | None
    hash: str

    @property
    def scope(self) -> Scope:
        """Whose budget it is paid from."""
        return scope_of(self.reservation.event)


def read_rows(source: str) -> tuple[LedgerRow, ...]:
    """Read every row as stored, unverified.

    Args:
        source: A SQLite file, an exported ``.jsonl`` file, or a database's URL.

    Raises:
        LedgerUnreadableError: there is no ledger.
    """
    if "://" in source:
        return _from_database(source)
    path = Path(source)
    if not path.is_file():
        raise LedgerUnreadableError(f"there is no file {_shown(source)}")
    if path.suffix == EXPORT_SUFFIX:
        return _from_export(path)
    return _from_database(f"sqlite:///file:{quote(str(path.absolute()))}?mode=ro&uri=true")


def to_lines(rows: Sequence[LedgerRow]) -> str:
    """Write rows as JSON lines, from which `read_rows` reads the same rows."""
    return "".join(json.dumps(asdict(row), ensure_ascii=True) + "\n" for row in rows)


def booked(rows: Sequence[LedgerRow], reservations: Sequence[Reservation]) -> tuple[Booked, ...]:
    """Put beside each reservation what its rows say, oldest first.

    Args:
        rows: A verified chain.
        reservations: What `privacy.chain.reservations_of` read from it.
    """
    settled = {
        row.reservation: row.at_ms for row in rows if row.kind in (RowKind.COMMIT, RowKind.VOID)
    }
    by_number = {row.seq: row for row in rows}
    found = []
    for each in reservations:
        row = by_number[each.row]
        found.append(
            Booked(
                reservation=each,
                reserved_at_ms=row.at_ms,
                settled_at_ms=settled.get(each.id),
                budget=_budget(json.loads(row.body).get("budget")),
                hash=row.hash,
            )
        )
    return tuple(found)


def to_csv(found: Sequence[Booked]) -> str:
    """Write one line a release, for people who do not read JSON."""
    stream = io.StringIO()
    lines = [_cells(each) for each in found]
    writer = csv.DictWriter(stream, fieldnames=list(lines[0]) if lines else ["row"])
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _cells(each: Booked) -> dict[str, Any]:
    """Give one release's columns."""
    reservation, event = each.reservation, each.reservation.event
    cells: dict[str, Any] = {
        "row": reservation.row,
        "reserved_at": when(each.reserved_at_ms),
        "settled_at": "" if each.settled_at_ms is None else when(each.settled_at_ms),
        "state": reservation.state.value,
        "counts_as_spent": "yes" if reservation.counts else "no",
        "accepted_reports": reservation.accepted,
        "population": event.population,
        "simulation": "yes" if event.simulated else "no",
        "assumed_population": event.assumed_population,
        "purpose": event.purpose.value,
        "window": event.window,
        "task": event.kind.value,
        "task_id": event.task_id,
        "mechanism": event.mechanism.value,
        "rounds": event.rounds,
        "min_separation": event.min_separation,
        "max_participations": event.max_participations,
        "noise_multiplier": event.noise_multiplier,
        "sensitivity": event.sensitivity,
        "noise_std": event.noise_std,
        "noise_source": event.noise_source.value,
        "clip_norm": event.clip_norm,
        "dimension": event.dimension,
        "report_goal": event.report_goal,
        "sampling_probability": event.sampling_probability,
        "adjacency": event.adjacency,
        "trusted": event.trusted,
        "assumes": "; ".join(event.assumes),
        "budget_epsilon": None if each.budget is None else each.budget[0],
        "budget_delta": None if each.budget is None else each.budget[1],
        "supplements": reservation.supplements,
        "reservation": reservation.id,
        "row_hash": each.hash,
    }
    return {name: _cell(value) for name, value in cells.items()}


def _cell(value: Any) -> Any:
    """Keep a spreadsheet from taking a name for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def when(at_ms: int) -> str:
    """Write a time of a row as ISO 8601, UTC; as it is where no calendar has it."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def _budget(told: Any) -> tuple[float, float] | None:
    try:
        return float(told["epsilon"]), float(told["delta"])
    except (TypeError, KeyError, ValueError):
        return None


def _from_database(url: str) -> tuple[LedgerRow, ...]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise LedgerUnreadableError(f"{_shown(url)} is no database URL") from error
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise LedgerUnreadableError(f"expected SQLite or PostgreSQL; got {engine.dialect.name}")
    _refuse_new_file(engine.url.database, engine.dialect.name)
    columns = ", ".join(_COLUMNS)
    try:
        with engine.connect() as connection:
            # The names are this module's own.
            found = connection.execute(text(f"SELECT {columns} FROM ledger ORDER BY seq"))  # noqa: S608
            return tuple(_row(dict(row)) for row in found.mappings())
    except (SQLAlchemyError, ValueError) as error:
        where = engine.url.render_as_string(hide_password=True)
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()
        said = f": {cause[0]}" if cause else ""
        raise LedgerUnreadableError(f"there is no ledger in {_shown(where)}{said[:200]}") from error
    finally:
        engine.dispose()


def _refuse_new_file(database: str | None, dialect: str) -> None:
    """SQLite would create a file that isn't there."""
    if dialect != "sqlite" or (database or "").startswith("file:"):
        return
    if not database or not Path(database).is_file():
        raise LedgerUnreadableError(f"there is no file {_shown(database or ':memory:')}")


def _from_export(path: Path) -> tuple[LedgerRow, ...]:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            rows.append(_row(json.loads(line)))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise LedgerUnreadableError(f"{path.name}, line {number}: no ledger row") from error
    return tuple(rows)


def _row(values: dict[str, Any]) -> LedgerRow:
    if set(values) != set(_COLUMNS):
        raise ValueError("a column is missing or unknown")
    for name, value in values.items():
        if type(value) is not (int if name in _NUMBERS else str):
            raise ValueError(f"{name} has the wrong type")
    return LedgerRow(**values)


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:200])
