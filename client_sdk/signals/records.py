"""Records: small states and log entries of the SDK, each sealed for itself.

Rules a reader can check line by line:

1. A record is known by its stream and its key; writing one again takes the place of the older one
   and keeps its place in the order.
2. Stream, key and value are inside the seal; outside is a keyed name (`sealing`), to which the seal
   is bound.

Nothing here begins or ends a transaction: that is the vault's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from client_sdk.errors import VaultError
from client_sdk.signals.sealing import STREAM_NAME_BYTES, Sealer

SCHEMA: Final = (
    "CREATE TABLE records (row INTEGER PRIMARY KEY, name BLOB UNIQUE, sealed BLOB NOT NULL)",
)
_quoted: Final = json.encoder.encode_basestring_ascii
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, kw_only=True)
class Record:
    """One small state or log entry: a stream, a key that is unique in it, and plain JSON."""

    stream: str
    key: str
    value: Mapping[str, Any]


class EncodedRecord(Record):
    """A record whose value its maker has written already: it is not written a second time.

    Args:
        stream: As of any record.
        key: As of any record.
        text: The value as JSON, an object.

    >>> EncodedRecord(stream="s", key="k", text='{"a":1}').value
    {'a': 1}
    """

    text: str

    def __init__(self, *, stream: str, key: str, text: str) -> None:
        # A frozen dataclass lets nobody set anything, its own subclasses included.
        for name, given in (("stream", stream), ("key", key), ("text", text)):
            object.__setattr__(self, name, given)

    @property
    def value(self) -> Mapping[str, Any]:
        """The value, read from its text."""
        read: Mapping[str, Any] = json.loads(self.text)
        return read


class Records:
    """The records of one open vault.

    Args:
        connection: Of a database with `SCHEMA`.
        sealer: Under the vault's data key.
    """

    def __init__(self, connection: sqlite3.Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer

    def write(self, records: Iterable[Record]) -> None:
        """Store records in place of older ones of the same stream and key.

        Raises:
            ValueError: a value is not plain JSON.
        """
        for record in records:
            name = self._sealer.record_name(record.stream, record.key)
            self._connection.execute(
                "INSERT INTO records (name, sealed) VALUES (?, ?)"
                " ON CONFLICT(name) DO UPDATE SET sealed = excluded.sealed",
                (name, self._sealed(name, record)),
            )

    def read(self, stream: str, key: str) -> Mapping[str, Any] | None:
        """Give one record's value, or None."""
        name = self._sealer.record_name(stream, key)
        found = self._connection.execute("SELECT sealed FROM records WHERE name = ?", (name,))
        rows = found.fetchall()
        return self._opened(name, rows[0][0]).value if rows else None

    def all(self, stream: str | None = None) -> Iterator[Record]:
        """Give every record, or every one of a stream, in the order of their first writing.

        Raises:
            VaultError: one does not open.
        """
        query, first = "SELECT name, sealed FROM records ORDER BY row", b""
        if stream is not None:
            first = self._sealer.stream_name(stream)
            query = "SELECT name, sealed FROM records WHERE name BETWEEN ? AND ? ORDER BY row"
        span = (first, first + b"\xff" * STREAM_NAME_BYTES * 3) if first else ()
        for name, sealed in self._connection.execute(query, span).fetchall():
            yield self._opened(name, sealed)

    def forget(self, stream: str, keys: Iterable[str]) -> int:
        """Delete records of a stream; return how many there were."""
        names = [(self._sealer.record_name(stream, key),) for key in keys]
        deleted = self._connection.executemany("DELETE FROM records WHERE name = ?", names)
        return max(0, deleted.rowcount)

    def reseal(self, sealer: Sealer) -> None:
        """Seal and name every record again, under another data key."""
        resealed = Records(self._connection, sealer)
        everything = list(self.all())
        # Written anew in the order in which they were: the order is that of the rows.
        self._connection.execute("DELETE FROM records")
        resealed.write(everything)

    def problems(self) -> Iterator[str]:
        """Open everything; say in plain words what does not fit."""
        broken = 0
        for name, sealed in self._connection.execute(
            "SELECT name, sealed FROM records ORDER BY row"
        ):
            try:
                self._opened(name, sealed)
            except VaultError:
                broken += 1
        if broken:
            yield f"{broken} record(s) are damaged or were moved: restore a backup"

    def _sealed(self, name: bytes, record: Record) -> bytes:
        text = record.text if isinstance(record, EncodedRecord) else _encode(record.value)
        value = f'{{"stream":{_quoted(record.stream)},"key":{_quoted(record.key)},"value":{text}}}'
        return self._sealer.seal(value.encode(), b"record " + name)

    def _opened(self, name: bytes, sealed: bytes) -> Record:
        try:
            value = json.loads(self._sealer.open(sealed, b"record " + name))
        except (TypeError, ValueError) as error:
            raise VaultError(
                "a record of the vault is damaged or was moved: restore a backup, or, to start "
                "anew, delete the vault's directory"
            ) from error
        return Record(stream=value["stream"], key=value["key"], value=value["value"])
