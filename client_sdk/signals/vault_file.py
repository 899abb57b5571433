"""The vault's file: a SQLite database that one process has open. The one file here that opens it.

Rules a reader can check line by line:

1. One directory holds ``vault.db``, its write-ahead log and ``vault.lock``; they are readable by
   their owner only.
2. An operating-system lock on ``vault.lock`` is held as long as the file is open.
3. A write is one transaction. After one that is durable, its bytes are with the disk.
4. What is deleted is overwritten (``secure_delete``), and `VaultFile.rewriting` empties the log.
5. A file that is no vault, or of a newer format, is not written to, and no error of SQLite leaves.
6. Bringing the log into the database takes milliseconds. `VaultFile.settle` does it after every
   256 writes, and closing the file does it; a write by itself only where the log came to 16 MiB.
   Until then a write is in the log, where the end of the process does not reach it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from client_sdk.errors import VaultError
from client_sdk.signals import migrations

DATABASE_FILE: Final = "vault.db"
LOCK_FILE: Final = "vault.lock"
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
_KEPT_LOG_BYTES: Final = 4 * 1024 * 1024
# 16 MiB of SQLite's pages: decisions alone, without one event between them, come to it after about
# a thousand.
_MAX_LOG_PAGES: Final = 4_096
_SETTLED_EVERY: Final = 256
_NOT_WRITTEN: Final = (
    "the vault could not be written; nothing of this write was kept: check free space and "
    "permissions, then try again"
)
# The second one is how a message comes that quotes a damaged file.
_DATABASE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)


class VaultFile:
    """The open file of one vault; make one with `VaultFile.open`."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, lock: int) -> None:
        self.directory = directory
        self._connection: sqlite3.Connection | None = connection
        self._lock = lock
        self._unsettled = 0

    @classmethod
    def open(cls, directory: Path) -> VaultFile:
        """Open the file of a directory, or make an empty one.

        Raises:
            VaultError: it is open already, no vault, of a newer format, or damaged.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _take_lock(directory / LOCK_FILE)
        try:
            return cls(directory, _connect(directory / DATABASE_FILE), lock)
        except _DATABASE_ERRORS as error:
            os.close(lock)
            raise VaultError(
                "the vault's file is not a readable vault: put a backup in its place, or, to start "
                "anew, delete the vault's directory"
            ) from error
        except BaseException:
            os.close(lock)
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The database.

        Raises:
            VaultError: the file is closed.
        """
        if self._connection is None:
            raise VaultError("the vault is closed or erased; open it again")
        return self._connection

    def paths(self) -> list[Path]:
        """The files that are there."""
        names = (LOCK_FILE, *(f"{DATABASE_FILE}{suffix}" for suffix in _SUFFIXES))
        return [path for name in names if (path := self.directory / name).exists()]

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Say what is wrong in the vault's words where the database can't be read."""
        try:
            yield self.connection
        except _DATABASE_ERRORS as error:
            raise VaultError(
                "the vault could not be read: check the disk, and restore a backup if it is damaged"
            ) from error

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[None]:
        """Begin a transaction; commit it at the end, or roll it back where anything is raised.

        Args:
            durable: Come back only when the write survives a loss of power.
        """
        connection = self._before_write()
        try:
            if durable:
                connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except _DATABASE_ERRORS as error:
            raise VaultError(_NOT_WRITTEN) from error
        finally:
            if durable:
                connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Let one statement write; alone it is a transaction, and faster than one that is begun."""
        self._before_write()
        try:
            yield
        except _DATABASE_ERRORS as error:
            raise VaultError(_NOT_WRITTEN) from error

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """Write durably, and leave nothing of what was there before in the log."""
        with self.writing(durable=True):
            yield
        self.empty_log()

    def empty_log(self) -> None:
        """Bring everything from the log into the database, and cut the log to nothing."""
        with self.reading() as connection:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise VaultError(
                "deleted bytes are still in the vault's log: end every iteration, close the vault"
            )

    def settle(self) -> None:
        """Bring the log into the database after every so many writes; mostly nothing is done.

        What was written stays written whether this succeeds or not: it is tried again later.
        """
        if self._unsettled >= _SETTLED_EVERY:
            self._unsettled = 0
            # The log is not cut: to write over it is faster than to let it grow again.
            with suppress(sqlite3.Error):
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Close the database and let go of the lock; closing twice is fine."""
        if self._connection is None:
            return
        try:
            self._connection.close()
        finally:
            self._connection = None
            os.close(self._lock)

    def delete(self) -> None:
        """Delete the files and close; the lock's stays, with nothing in it."""
        self.connection.close()
        self._connection = None
        try:
            for path in self.paths():
                if path.name != LOCK_FILE:
                    path.unlink()
            _sync_directory(self.directory)
        finally:
            os.close(self._lock)

    def _before_write(self) -> sqlite3.Connection:
        connection = self.connection
        if connection.in_transaction:
            raise VaultError(
                "the vault is being written: write after that, and share one lock between threads"
            )
        self._unsettled += 1
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    # Made before SQLite opens it, so that there is no moment in which others could read it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # With the exclusive mode the index of the write-ahead log is in memory, not in a file.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # Refuses what is no vault before the next lines could change it.
        migrations.is_due(connection)
        for pragma in (
            "journal_mode = WAL",
            f"journal_size_limit = {_KEPT_LOG_BYTES}",
            f"wal_autocheckpoint = {_MAX_LOG_PAGES}",
            "synchronous = NORMAL",
            "secure_delete = ON",
            "temp_store = MEMORY",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


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


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
