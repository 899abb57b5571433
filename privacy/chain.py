"""The ledger's chain: rows in, verdict out. Pure; `aggregator.ledger` stores the rows.

Rules a reader can check line by line:

1. Rows are numbered 1, 2, 3 … without a gap.
2. Each row holds the hash of the row before it (the first: `GENESIS_HASH`) and of its own content.
3. A reservation begins with one ``reserve`` row and is settled at most once, by ``commit`` or
   ``void``.
4. A reservation counts as spent unless it was voided: a crash can over-count, never under-count.
5. ``note`` rows tell what became of a reservation that was not voided: the rounds of a run, and how
   often people really were in it. They change no price.

Guarantee: changing, adding, moving or removing a row breaks the chain at that row
(`LedgerTamperedError`), unless every later row is rewritten too. A rewritten or cut-off tail is
noticed against a `Head` that was noted elsewhere.

Neighbouring relation: none; rows hold no data of a person.

Edge cases: an empty chain is valid; a row of another version is a broken chain.

Test: tests/privacy/test_chain.py and tests/aggregator/test_ledger.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from client_sdk.wire import canonical_json
from privacy.errors import EventFormatError, LedgerTamperedError
from privacy.events import ReleaseEvent

GENESIS_HASH: Final = hashlib.sha256(b"homebody ledger 1").hexdigest()


class RowKind(StrEnum):
    """What a row records."""

    RESERVE = "reserve"
    COMMIT = "commit"
    VOID = "void"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """One row, as stored.

    Attributes:
        seq: 1, 2, 3 … without a gap.
        kind: What happened.
        reservation: The reservation that it is about, 32 hexadecimal digits.
        at_ms: When, milliseconds since 1970 (UTC).
        body: For a reservation the event and the budget that admitted it; for a commit the number
            of accepted contributions; for a void the reason; for a note the facts.
        previous: Hash of the row before, or `GENESIS_HASH`.
        hash: Hash of this row.
    """

    seq: int
    kind: str
    reservation: str
    at_ms: int
    body: str
    previous: str
    hash: str

    def computed_hash(self) -> str:
        """SHA-256 of everything in the row but its own hash."""
        content = {
            "seq": self.seq,
            "kind": self.kind,
            "reservation": self.reservation,
            "at_ms": self.at_ms,
            "body": self.body,
            "previous": self.previous,
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """One release that was asked for, and what became of it.

    Attributes:
        id: 32 hexadecimal digits.
        event: What is to be released.
        state: ``RESERVE`` (open), ``COMMIT`` (released, or about to be) or ``VOID`` (never was).
        accepted: How many contributions the sum held; None until committed.
        row: Number of the ledger row that reserved it.
        supplements: Id of the reservation that turned out to cost more; None for a first price.
        notes: What was noted about it, oldest first.
    """

    id: str
    event: ReleaseEvent
    state: RowKind
    accepted: int | None
    row: int
    supplements: str | None = None
    notes: tuple[Mapping[str, Any], ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it counts as spent."""
        return self.state is not RowKind.VOID


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last row's number and hash: note it elsewhere to notice a cut-off tail."""

    seq: int
    hash: str


EMPTY_HEAD: Final = Head(seq=0, hash=GENESIS_HASH)


def next_row(
    rows: Sequence[LedgerRow],
    *,
    kind: RowKind,
    reservation: str,
    at_ms: int,
    body: Mapping[str, Any],
) -> LedgerRow:
    """Return the row that continues ``rows``."""
    head = head_of(rows)
    row = LedgerRow(
        seq=head.seq + 1,
        kind=kind.value,
        reservation=reservation,
        at_ms=at_ms,
        body=canonical_json(body).decode("ascii"),
        previous=head.hash,
        hash="",
    )
    return replace(row, hash=row.computed_hash())


def head_of(rows: Sequence[LedgerRow]) -> Head:
    """Return the last row's number and hash; `EMPTY_HEAD` when there is none."""
    return Head(seq=rows[-1].seq, hash=rows[-1].hash) if rows else EMPTY_HEAD


def verify_chain(rows: Sequence[LedgerRow], *, noted: Head | None = None) -> Head:
    """Check rules 1 and 2, and that the chain still passes through a head noted earlier.

    Returns:
        The present head.

    Raises:
        LedgerTamperedError: naming the first row that does not fit.
    """
    head = EMPTY_HEAD
    passed = noted is None or noted == head
    for row in rows:
        if row.seq != head.seq + 1:
            raise LedgerTamperedError(head.seq + 1, f"missing; the next row is {row.seq}")
        if row.previous != head.hash:
            raise LedgerTamperedError(row.seq, "does not follow the row before it")
        if row.computed_hash() != row.hash:
            raise LedgerTamperedError(row.seq, "its content is not what was hashed")
        head = Head(seq=row.seq, hash=row.hash)
        passed = passed or noted == head
    if noted is not None and not passed:
        raise LedgerTamperedError(noted.seq, "the noted head is not part of the chain")
    return head


def reservations_of(rows: Sequence[LedgerRow]) -> tuple[Reservation, ...]:
    """Read a verified chain: every reservation with its state, oldest first.

    Raises:
        LedgerTamperedError: a row breaks rule 3 or is not of this version.
    """
    found: dict[str, Reservation] = {}
    for row in rows:
        known = found.get(row.reservation)
        try:
            found[row.reservation] = _first(row) if known is None else _settled(known, row)
        except (ValueError, KeyError, TypeError, EventFormatError) as error:
            raise LedgerTamperedError(row.seq, "not a row of this version") from error
    return tuple(found.values())


def _first(row: LedgerRow) -> Reservation:
    if RowKind(row.kind) is not RowKind.RESERVE:
        raise LedgerTamperedError(row.seq, "settles a reservation that was never made")
    body = json.loads(row.body)
    return Reservation(
        id=row.reservation,
        event=ReleaseEvent.from_json(canonical_json(body["event"])),
        state=RowKind.RESERVE,
        accepted=None,
        row=row.seq,
        supplements=body.get("supplements"),
    )


def _settled(known: Reservation, row: LedgerRow) -> Reservation:
    kind = RowKind(row.kind)
    if kind is RowKind.NOTE:
        if known.state is RowKind.VOID:
            raise LedgerTamperedError(row.seq, "notes a release that never was")
        return replace(known, notes=(*known.notes, dict(json.loads(row.body))))
    if known.state is not RowKind.RESERVE or kind is RowKind.RESERVE:
        raise LedgerTamperedError(row.seq, "settles a reservation twice")
    accepted = int(json.loads(row.body)["accepted"]) if kind is RowKind.COMMIT else None
    return replace(known, state=kind, accepted=accepted)
