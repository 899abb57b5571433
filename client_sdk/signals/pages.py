"""Pages: events in sealed blocks, and the names by which a second one of the same id is known.

Rules a reader can check line by line:

1. A page holds 1 to 512 events, in the order in which they were stored, as JSON of at most 256 KiB
   unless a single event is longer. Its number is the number of its last event.
2. Events are numbered from 1 on, and no number is given twice: not after a removal either.
3. The number of a page and of its events is part of its seal. A page that was moved, or whose
   count was changed, does not open.
4. What was stored after the moment at which `Pages.last` was read stays what comes after that
   number, however pages are merged. A removal ends this for numbers that were read before it.
5. Each event's name is in ``names`` as long as the event is in a page.

Nothing here begins or ends a transaction: that is the vault's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np

from client_sdk.errors import VaultError
from client_sdk.signals.events import Event
from client_sdk.signals.sealing import SealBrokenError, Sealer

PAGE_EVENTS: Final = 512
PAGE_BYTES: Final = 256 * 1024
SCHEMA: Final = (
    "CREATE TABLE pages (row INTEGER PRIMARY KEY, n_events INTEGER NOT NULL, sealed BLOB NOT NULL)",
    "CREATE TABLE names (name INTEGER PRIMARY KEY)",
)
# How many pages are in memory at a time.
_READ_AHEAD: Final = 16
_MAX_NUMBER: Final = 2**53
# Below this many, asking for each name is faster than a savepoint.
_FEW: Final = 16
_ADD_NAME: Final = "INSERT OR IGNORE INTO names VALUES (?)"

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def encode_pages(events: Sequence[Event]) -> Iterator[tuple[int, bytes]]:
    """Cut events into pages.

    Yields:
        The number of events of a page, and the page's JSON.

    >>> [n for n, _ in encode_pages([Event(kind="screen", time_s=0.0)] * 1000)]
    [512, 488]
    """
    for first in range(0, len(events), PAGE_EVENTS):
        yield from _halved(events[first : first + PAGE_EVENTS])


def decode_page(page: bytes) -> list[Event]:
    """Undo `encode_pages`, for one page.

    Raises:
        ValueError: the bytes are no page.
    """
    rows = json.loads(page)
    if not isinstance(rows, list):
        raise ValueError(f"expected a page as a list of rows; got {type(rows).__name__}")  # noqa: TRY004 - a page's every mistake is a ValueError
    return [Event.from_row(row) for row in rows]


class Pages:
    """The pages of one open vault.

    Args:
        connection: Of a database with `SCHEMA` and the vault's header.
        sealer: Under the vault's data key.
    """

    def __init__(self, connection: sqlite3.Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer

    @property
    def last(self) -> int:
        """The highest number that was ever given, 0 before any."""
        query = "SELECT max(last_page, (SELECT ifnull(max(row), 0) FROM pages)) FROM header"
        return _whole(self._connection.execute(query).fetchone())

    @property
    def count(self) -> int:
        """How many events there are; costs the same for any number of them."""
        query = "SELECT removed FROM header"
        return self.last - _whole(self._connection.execute(query).fetchone())

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Store those events whose id is not here yet.

        Returns:
            For each event whether it was stored.
        """
        names: list[int] = self._sealer.event_names([event.event_id for event in events]).tolist()
        stored = self._add_names(names)
        new = [event for event, is_new in zip(events, stored, strict=True) if is_new]
        self._add_pages(self.last, new if len(new) < len(events) else events)
        return stored

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after a number, each with the number of its page, in stored order.

        Args:
            after: What `last` was, since the last removal; 0 for all.

        Raises:
            VaultError: a page does not open.
        """
        for page, n_events, plain in self._plain(after):
            # The page may have been merged with some that came before ``after``.
            for event in islice(_events(plain), max(0, after - (page - n_events)), None):
                yield page, event

    def remove(self, keep: Callable[[Event], bool]) -> int:
        """Remove every event that ``keep`` says no to; pages in which all stay are left alone.

        Returns:
            How many were removed.
        """
        last, removed = self.last, 0
        for page, n_events, plain in self._plain():
            events = _events(plain)
            kept: list[Event] = []
            gone: list[Event] = []
            for event in events:
                (kept if keep(event) else gone).append(event)
            if not gone:
                continue
            removed += n_events - len(kept)
            names = self._sealer.event_names([event.event_id for event in gone])
            self._connection.executemany("DELETE FROM names WHERE name = ?", zip(names.tolist()))
            if kept:
                self._put(page, len(kept), _encode([event.to_row() for event in kept]).encode())
            else:
                self._connection.execute("DELETE FROM pages WHERE row = ?", (page,))
        if removed:
            self._connection.execute(
                "UPDATE header SET last_page = ?, removed = removed + ?", (last, removed)
            )
        return removed

    def compact(self) -> int:
        """Merge neighbours that fit into one page.

        Returns:
            By how many the pages became fewer.
        """
        merged = 0
        for first, last in self._runs():
            pages = list(self._plain(first - 1, last))
            self._connection.execute("DELETE FROM pages WHERE row BETWEEN ? AND ?", (first, last))
            # Each page is a JSON list: they are joined without being read.
            joined = b",".join(plain[1:-1] for _, _, plain in pages)
            self._put(last, sum(n_events for _, n_events, _ in pages), b"[%b]" % joined)
            merged += len(pages) - 1
        return merged

    def reseal(self, sealer: Sealer) -> None:
        """Seal every page again, and name every event again, under another data key."""
        resealed, names = Pages(self._connection, sealer), []
        for page, n_events, plain in self._plain():
            names.append(sealer.event_names([event.event_id for event in _events(plain)]))
            resealed._put(page, n_events, plain)
        self._connection.execute("DELETE FROM names")
        if names:
            in_order = np.sort(np.concatenate(names)).tolist()
            self._connection.executemany(_ADD_NAME, zip(in_order))

    def problems(self) -> Iterator[str]:
        """Open everything; say in plain words what does not fit."""
        query = "SELECT row, n_events, sealed FROM pages ORDER BY row"
        found, broken, before = [], 0, 0
        for page, n_events, sealed in self._connection.execute(query):
            try:
                events = decode_page(self._sealer.open(sealed, _place(page, n_events)))
                broken += len(events) != n_events or page - before < n_events
            except ValueError:
                broken += 1
                continue
            before = page
            found.append(self._sealer.event_names([event.event_id for event in events]))
        if broken:
            yield f"{broken} page(s) of events are damaged or were moved: restore a backup"
        names = np.concatenate(found) if found else np.zeros(0, np.int64)
        if len(np.unique(names)) < len(names):
            yield "events are stored twice: restore a backup"
        rows = self._connection.execute("SELECT name FROM names").fetchall()
        if {name for (name,) in rows} != set(names.tolist()):
            yield (
                "the list of event names does not fit the events, so an event may be stored twice "
                "or refused: rotate the keys, which makes the list anew"
            )
        if self.count != len(names) and not broken:
            yield f"expected {self.count} events; found {len(names)}: restore a backup"

    def _add_names(self, names: list[int]) -> list[bool]:
        connection = self._connection
        if len(names) > _FEW:
            # Mostly all are new: then one statement, in the order of the table, is fastest.
            connection.execute("SAVEPOINT names")
            cursor = connection.executemany(_ADD_NAME, zip(sorted(names)))
            if cursor.rowcount == len(names):
                connection.execute("RELEASE names")
                return [True] * len(names)
            connection.execute("ROLLBACK TO names")
            connection.execute("RELEASE names")
        return [connection.execute(_ADD_NAME, (name,)).rowcount == 1 for name in names]

    def _add_pages(self, last: int, events: Sequence[Event]) -> None:
        for n_events, page in encode_pages(events):
            last += n_events
            self._put(last, n_events, page)

    def _put(self, page: int, n_events: int, plain: bytes) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO pages VALUES (?, ?, ?)",
            (page, n_events, self._sealer.seal(plain, _place(page, n_events))),
        )

    def _plain(self, after: int = 0, last: int | None = None) -> Iterator[tuple[int, int, bytes]]:
        """Give number, number of events and JSON of the pages that end in (after, last]."""
        # A few at a time, so that no statement is open while the caller has the word.
        query = "SELECT row, n_events, sealed FROM pages WHERE row > ? ORDER BY row LIMIT ?"
        while rows := self._connection.execute(query, (after, _READ_AHEAD)).fetchall():
            for page, n_events, sealed in rows:
                if last is not None and page > last:
                    return
                try:
                    yield page, n_events, self._sealer.open(sealed, _place(page, n_events))
                except SealBrokenError as error:
                    raise VaultError(
                        "a page of the vault is damaged or was moved: restore a backup, or, to "
                        "start anew, delete the vault's directory"
                    ) from error
            after = rows[-1][0]

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Give first and last number of each run of pages that fit into one."""
        # Not yet proven by a seal: a file that somebody wrote may hold anything.
        query = (
            "SELECT ifnull(row, 0), ifnull(CAST(n_events AS INTEGER), 0), ifnull(length(sealed), 0)"
            " FROM pages ORDER BY row"
        )
        run: list[int] = []
        events = size = 0
        for page, n_events, length in self._connection.execute(query).fetchall():
            if run and (events + n_events > PAGE_EVENTS or size + length > PAGE_BYTES):
                if len(run) > 1:
                    yield run[0], run[-1]
                run, events, size = [], 0, 0
            run.append(page)
            events += n_events
            size += length
        if len(run) > 1:
            yield run[0], run[-1]


def _halved(events: Sequence[Event]) -> Iterator[tuple[int, bytes]]:
    page = _encode([event.to_row() for event in events]).encode()
    if len(page) <= PAGE_BYTES or len(events) == 1:
        yield len(events), page
        return
    half = len(events) // 2
    yield from _halved(events[:half])
    yield from _halved(events[half:])


def _events(plain: bytes) -> list[Event]:
    try:
        return decode_page(plain)
    except ValueError as error:
        raise VaultError(
            "a stored event cannot be read: use the version of the app that wrote it"
        ) from error


def _place(page: int, n_events: int) -> bytes:
    return f"page {page} of {n_events}".encode()


def _whole(row: tuple[object] | None) -> int:
    if row is None or not isinstance(row[0], int) or not 0 <= row[0] <= _MAX_NUMBER:
        raise VaultError("the vault's header is damaged: restore a backup")
    return row[0]
