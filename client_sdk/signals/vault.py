"""The vault: where everything about a person lies, encrypted. The one file here that touches disk.

Rules a reader can check line by line:

1. One directory holds one vault: ``vault.db`` (SQLite, write-ahead log), and ``vault.lock``. Files
   are readable by their owner only.
2. A row is a row number, a keyed HMAC of its name, and a sealed value (`sealing`). Kinds, times and
   items are inside the seal. The header row holds a random vault id and the wrapped data key.
3. One writer: an operating-system lock on ``vault.lock`` is held as long as the vault is open. A
   second opener, in this process or another, gets `VaultError` at once.
4. What was acknowledged survives the end of the process (``kill -9``). ``durable`` writes survive
   a loss of power as well; of the others the last ones may be lost, never a part of one.
5. `Vault.erase` destroys the key-encryption key first, then the files: after its first step no copy
   of the files opens, wherever it lies.
6. A lost or wrong key, or a damaged file, is `VaultError`; nothing is repaired or overwritten.

Not promised: that flash storage forgets deleted bytes (that is why erasure destroys a key), that a
deleted row is noticed, or that an old copy of the whole directory, put back with its key, is.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from client_sdk.errors import VaultError
from client_sdk.ports import KeyStore
from client_sdk.signals.events import Event
from client_sdk.signals.sealing import (
    KEY_BYTES,
    SealBrokenError,
    Sealer,
    unwrap_data_key,
    wrap_data_key,
)

FORMAT_VERSION: Final = 1
DATABASE_FILE: Final = "vault.db"
LOCK_FILE: Final = "vault.lock"
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
_VAULT_ID_BYTES: Final = 16
_SCHEMA: Final = (
    "CREATE TABLE header (row INTEGER PRIMARY KEY, vault_id BLOB NOT NULL, wrapped BLOB NOT NULL)",
    "CREATE TABLE events (row INTEGER PRIMARY KEY, name BLOB UNIQUE, sealed BLOB NOT NULL)",
    "CREATE TABLE records (row INTEGER PRIMARY KEY, name BLOB UNIQUE, sealed BLOB NOT NULL)",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)
_START_ANEW: Final = "to start anew, delete the vault's directory"

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, kw_only=True)
class Record:
    """One small state or log entry: a stream, a key that is unique in it, and plain JSON."""

    stream: str
    key: str
    value: Mapping[str, Any]


class Vault:
    """An open vault; make one with `Vault.open`. Not safe for threads without a lock around it."""

    def __init__(
        self, *, directory: Path, key_store: KeyStore, connection: sqlite3.Connection, lock: int
    ) -> None:
        self._directory = directory
        self._key_store = key_store
        self._connection: sqlite3.Connection | None = connection
        self._lock = lock
        self._vault_id, data_key = _data_key(connection, key_store)
        self._sealer = Sealer(data_key)
        self._next_event = _next_row(connection)

    @classmethod
    def open(cls, directory: Path, key_store: KeyStore) -> Vault:
        """Open the vault of a directory, or make a new one.

        Args:
            directory: Made where it does not exist, for the owner only.
            key_store: Holds the key-encryption key under ``homebody-vault-<vault id>``.

        Raises:
            VaultError: already open, its key is lost or wrong, or the file is damaged.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _take_lock(directory / LOCK_FILE)
        connection: sqlite3.Connection | None = None
        try:
            connection = _connect(directory / DATABASE_FILE)
            return cls(directory=directory, key_store=key_store, connection=connection, lock=lock)
        except sqlite3.Error as error:
            _let_go(connection, lock)
            raise VaultError(
                "the vault's file is not a readable vault; put a backup in its place, or, "
                + _START_ANEW
            ) from error
        except BaseException:
            _let_go(connection, lock)
            raise

    @property
    def key_name(self) -> str:
        """The name of this vault's key in the key store."""
        return _key_name(self._vault_id)

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Store events in one transaction: all of them, or none.

        Returns:
            For each event whether it was stored; False for one whose id is already here.
        """
        stored: list[bool] = []
        row = self._next_event
        sealer = self._sealer
        with self._writing() as cursor:
            for event in events:
                name = sealer.name("event", event.event_id)
                sealed = sealer.seal(_encode(event.to_json()).encode(), _event_place(row, name))
                cursor.execute(
                    "INSERT INTO events VALUES (?, ?, ?) ON CONFLICT(name) DO NOTHING",
                    (row, name, sealed),
                )
                new = cursor.rowcount == 1
                stored.append(new)
                row += new
        self._next_event = row
        return stored

    def events(self) -> Iterator[tuple[int, Event]]:
        """Give every event with its row number, in the order in which they were stored.

        Raises:
            VaultError: a row does not open.
        """
        query = "SELECT row, name, sealed FROM events ORDER BY row"
        for row, name, sealed in self._open_connection().execute(query):
            value = self._unsealed(sealed, _event_place(row, name))
            try:
                yield row, Event.from_json(value)
            except ValueError as error:
                raise VaultError(f"a stored event cannot be read; {_START_ANEW}") from error

    def forget(self, rows: Sequence[int]) -> None:
        """Delete events by row number; their bytes are overwritten in the file."""
        with self._writing() as cursor:
            cursor.executemany("DELETE FROM events WHERE row = ?", [(row,) for row in rows])

    def write(self, *records: Record, durable: bool = False) -> None:
        """Store records in one transaction, in place of older ones of the same stream and key.

        Args:
            records: What to keep.
            durable: Return only when the records survive a loss of power.
        """
        with self._writing(durable=durable) as cursor:
            for record in records:
                name = self._sealer.name("record", record.stream, record.key)
                value = {"stream": record.stream, "key": record.key, "value": record.value}
                sealed = self._sealer.seal(_encode(value).encode(), b"record" + name)
                cursor.execute(
                    "INSERT INTO records (name, sealed) VALUES (?, ?)"
                    " ON CONFLICT(name) DO UPDATE SET sealed = excluded.sealed",
                    (name, sealed),
                )

    def read(self, stream: str, key: str) -> Mapping[str, Any] | None:
        """Give one record's value, or None."""
        name = self._sealer.name("record", stream, key)
        found = self._open_connection().execute(
            "SELECT sealed FROM records WHERE name = ?", (name,)
        )
        rows = found.fetchall()
        return self._record(name, rows[0][0]).value if rows else None

    def records(self) -> Iterator[Record]:
        """Give every record, in the order in which their keys were first written."""
        query = "SELECT name, sealed FROM records ORDER BY row"
        for name, sealed in self._open_connection().execute(query):
            yield self._record(name, sealed)

    def close(self) -> None:
        """Close the file and let go of the lock; closing twice is fine."""
        if self._connection is not None:
            _let_go(self._connection, self._lock)
            self._connection = None

    def erase(self) -> None:
        """Destroy the key, then the files. The vault is closed; nothing of it opens again."""
        connection = self._open_connection()
        self._key_store.destroy(self.key_name)
        connection.close()
        self._connection = None
        try:
            for suffix in _SUFFIXES:
                (self._directory / f"{DATABASE_FILE}{suffix}").unlink(missing_ok=True)
            _sync_directory(self._directory)
        finally:
            os.close(self._lock)

    def _record(self, name: bytes, sealed: bytes) -> Record:
        value = self._unsealed(sealed, b"record" + name)
        return Record(stream=value["stream"], key=value["key"], value=value["value"])

    def _unsealed(self, sealed: bytes, place: bytes) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(self._sealer.open(sealed, place))
        except ValueError as error:
            raise VaultError(
                f"a row of the vault is damaged or was moved; restore a backup, or, {_START_ANEW}"
            ) from error
        return value

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise VaultError("the vault is closed or erased; open it again")
        return self._connection

    @contextmanager
    def _writing(self, *, durable: bool = False) -> Iterator[sqlite3.Cursor]:
        connection = self._open_connection()
        cursor = connection.cursor()
        try:
            if durable:
                cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")
        except sqlite3.Error as error:
            raise VaultError(
                "the vault could not be written; nothing of this write was kept: "
                "check free space and permissions, then try again"
            ) from error
        finally:
            if durable:
                cursor.execute("PRAGMA synchronous = NORMAL")


def _connect(path: Path) -> sqlite3.Connection:
    # Made before SQLite opens it, so that there is no moment in which others could read it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in (
        # With the exclusive mode the index of the write-ahead log is in memory, not in a file.
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "secure_delete = ON",
        "temp_store = MEMORY",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _data_key(connection: sqlite3.Connection, key_store: KeyStore) -> tuple[bytes, bytes]:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        return _make(connection, key_store)
    if version != FORMAT_VERSION:
        raise VaultError(f"expected vault format {FORMAT_VERSION}; got {version}: update the app")
    vault_id, wrapped = connection.execute("SELECT vault_id, wrapped FROM header").fetchone()
    key = key_store.load(_key_name(vault_id))
    if key is None:
        raise VaultError(
            f"the vault's key is not in the key store: restore the key, or, {_START_ANEW}"
        )
    try:
        return vault_id, unwrap_data_key(wrapped, key_encryption_key=key, vault_id=vault_id)
    except SealBrokenError as error:
        raise VaultError(
            f"the key in the key store is not this vault's: restore the key, or, {_START_ANEW}"
        ) from error


def _make(connection: sqlite3.Connection, key_store: KeyStore) -> tuple[bytes, bytes]:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables:
        raise VaultError("the file is a database, but no vault: choose another directory")
    vault_id = secrets.token_bytes(_VAULT_ID_BYTES)
    key, data_key = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
    # The key is durable before anything is sealed under it.
    key_store.store(_key_name(vault_id), key)
    wrapped = wrap_data_key(data_key, key_encryption_key=key, vault_id=vault_id)
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute("INSERT INTO header VALUES (1, ?, ?)", (vault_id, wrapped))
    connection.execute("COMMIT")
    return vault_id, data_key


def _take_lock(path: Path) -> int:
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise VaultError(
            "the vault is already open, here or in another process: close it there first"
        ) from error
    return lock


def _let_go(connection: sqlite3.Connection | None, lock: int) -> None:
    try:
        if connection is not None:
            connection.close()
    finally:
        os.close(lock)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _next_row(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT max(row) FROM events").fetchone()
    return 1 if last is None else int(last) + 1


def _event_place(row: int, name: bytes) -> bytes:
    return b"event" + row.to_bytes(8, "big") + name


def _key_name(vault_id: bytes) -> str:
    return f"homebody-vault-{vault_id.hex()}"
