"""The vault: where everything about a person lies, encrypted.

Rules a reader can check line by line:

1. One directory holds one vault, which one process has open (`vault_file`).
2. Everything is sealed (`sealing`): events in pages (`pages`), states and logs (`records`). A copy
   shows the header (`header`), how many pages, events and records there are and how long each is in
   steps of 64 bytes, the order in which they were written, and which records are of one stream.
3. A second opener, in this process or another, gets `VaultError` at once. Threads share an open
   vault under one lock of their own, held through a whole call or iteration.
4. Every call that writes is one transaction. What was acknowledged survives the end of the process
   (``kill -9``). ``durable`` writes, rotations and migrations survive a loss of power as well; of
   the others the last ones may be lost, never a part of one.
5. `Vault.erase` destroys the key-encryption key first, then the files: once the key is gone no
   copy of the files opens, wherever it lies.
6. Where events or records are removed, merged or rotated, the old bytes are overwritten in the
   file and the log is emptied before the call returns. Flash storage may keep old copies of both;
   only `Vault.rotate_keys` and `Vault.erase`, which destroy a key, reach those.
7. A lost or wrong key, or a damaged file, is `VaultError`; nothing is repaired or overwritten.

Not promised: that a deleted page is noticed by a read (`Vault.check` finds it), or that an old copy
of the whole directory, put back with its key, is noticed at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from client_sdk.errors import VaultError
from client_sdk.ports import KeyStore
from client_sdk.signals import checks, migrations
from client_sdk.signals.events import Event
from client_sdk.signals.header import (
    load_key,
    new_keys,
    read_header,
    unwrap,
    update,
    was_never_used,
)
from client_sdk.signals.pages import Pages
from client_sdk.signals.records import Record, Records
from client_sdk.signals.sealing import FORMAT_VERSION, Sealer
from client_sdk.signals.vault_file import DATABASE_FILE, VaultFile

__all__ = ["DATABASE_FILE", "FORMAT_VERSION", "Record", "Vault"]


class Vault:
    """An open vault; make one with `Vault.open`."""

    def __init__(self, file: VaultFile, key_store: KeyStore) -> None:
        self._file = file
        self._key_store = key_store
        connection = file.connection
        if migrations.is_due(connection):
            with file.rewriting():
                migrations.bring_up_to_date(connection, key_store)
        header = read_header(connection)
        if was_never_used(connection) and key_store.load(header.key_name()) is None:
            # The key is durable before anything is sealed under it.
            key, data_key, wrapped = new_keys(header)
            with self._file.writing(durable=True):
                update(connection, dataclasses.replace(header, wrapped=wrapped))
            key_store.store(header.key_name(), key)
        else:
            data_key = unwrap(header, load_key(header, key_store))
        self._use(Sealer(data_key))
        # A key store that can't destroy now is asked again the next time; `check` says so.
        with suppress(VaultError):
            self._destroy_stale_key()

    @classmethod
    def open(cls, directory: Path, key_store: KeyStore) -> Vault:
        """Open the vault of a directory, or make a new one; an older format is brought up to date.

        Args:
            directory: Made where it does not exist, for the owner only.
            key_store: Holds the key-encryption key under a name of its own (see `key_name`).

        Raises:
            VaultError: already open, its key is lost or wrong, the file is damaged, or of a newer
                format.
        """
        file = VaultFile.open(directory)
        try:
            with file.reading():
                return cls(file, key_store)
        except BaseException:
            file.close()
            raise

    @property
    def key_name(self) -> str:
        """The name of this vault's key in the key store; another one after a rotation."""
        with self._file.reading() as connection:
            return read_header(connection).key_name()

    @property
    def count(self) -> int:
        """How many events there are."""
        with self._file.reading():
            return self._pages.count

    @property
    def last_page(self) -> int:
        """The number of the last page that was ever written, 0 before any; it never falls."""
        with self._file.reading():
            return self._pages.last

    @property
    def size_bytes(self) -> int:
        """How much room the database and its log take on disk."""
        return sum(path.stat().st_size for path in self._file.paths())

    def append(
        self,
        events: Sequence[Event],
        records: Sequence[Record] | Callable[[list[bool]], Sequence[Record]] = (),
    ) -> list[bool]:
        """Store events and records in one transaction: all of them, or none.

        Args:
            events: What happened, in order. Those whose id is here already are left out.
            records: What to write with them, or a function that says so once it is known which
                events are new.

        Returns:
            For each event whether it was stored; False for one whose id is already here.
        """
        with self._file.writing():
            stored = self._pages.append(events)
            self._records.write(records(stored) if callable(records) else records)
        self._file.settle()
        return stored

    def events(self, after_page: int = 0) -> Iterator[tuple[int, Event]]:
        """Give events with the number of their page, in the order in which they were stored.

        Args:
            after_page: Leave out what was stored when `last_page` was this number; merging pages
                changes nothing in that, a removal does. Events that are appended meanwhile come
                too; end the iteration before anything is removed, merged or rotated.

        Raises:
            VaultError: a page does not open.
        """
        with self._file.reading():
            yield from self._pages.read(after_page)

    def remove(
        self,
        keep: Callable[[Event], bool],
        records: Sequence[Record] | Callable[[], Sequence[Record]] = (),
    ) -> int:
        """Remove events, and write records that change with them, in one transaction.

        Args:
            keep: Called once for each event, in stored order; False removes it. It may read the
                vault, and not write it.
            records: What to write with it, or a function that says so after the last event.

        Returns:
            How many were removed. Their ids may come again.
        """
        with self._file.rewriting():
            removed = self._pages.remove(keep)
            self._records.write(records() if callable(records) else records)
        return removed

    def compact(self, records: Sequence[Record] = ()) -> int:
        """Merge small pages, and give back room that is not used; order and counts stay.

        Returns:
            By how many the pages became fewer; 0 costs next to nothing.
        """
        with self._file.writing(durable=True):
            merged = self._pages.compact()
            self._records.write(records)
        with self._file.reading() as connection:
            shrink = checks.mostly_free(connection)
            if shrink:
                connection.execute("VACUUM")
        if merged or shrink:
            self._file.empty_log()
        return merged

    def rotate_keys(self) -> None:
        """Make both keys anew, seal and name everything anew, and destroy the old key.

        A copy of the files from before opens with nothing that is left. An end of the process at
        any moment leaves a vault that opens, with its events.

        Raises:
            VaultError: the key store or the file failed; the vault is as before or, if only the
                old key could not be destroyed, rotated: `check` says which.
        """
        connection = self._file.connection
        self._destroy_stale_key()
        old = read_header(connection)
        new = dataclasses.replace(old, key_number=old.key_number + 1)
        with self._file.writing(durable=True):
            update(connection, dataclasses.replace(old, stale_key=new.key_number))
        try:
            key, data_key, wrapped = new_keys(old)
            self._key_store.store(new.key_name(), key)
            sealer = Sealer(data_key)
            with self._file.writing(durable=True):
                self._pages.reseal(sealer)
                self._records.reseal(sealer)
                update(
                    connection,
                    dataclasses.replace(new, wrapped=wrapped, stale_key=old.key_number),
                )
        except BaseException:
            with suppress(VaultError):
                self._destroy_stale_key()
            raise
        self._use(sealer)
        self._destroy_stale_key()
        self._file.empty_log()

    def write(self, *records: Record, durable: bool = False) -> None:
        """Store records in one transaction, in place of older ones of the same stream and key.

        Args:
            records: What to keep.
            durable: Return only when the records survive a loss of power.
        """
        # One statement is a transaction by itself; the log of decisions waits for it.
        alone = len(records) == 1 and not durable
        with self._file.adding() if alone else self._file.writing(durable=durable):
            self._records.write(records)

    def read(self, stream: str, key: str) -> Mapping[str, Any] | None:
        """Give one record's value, or None."""
        with self._file.reading():
            return self._records.read(stream, key)

    def records(self, stream: str | None = None) -> Iterator[Record]:
        """Give every record, or those of one stream, in the order of their keys' first writing."""
        with self._file.reading():
            yield from self._records.all(stream)

    def forget_records(self, stream: str, *keys: str) -> int:
        """Delete records; return how many there were."""
        with self._file.rewriting():
            return self._records.forget(stream, keys)

    def check(self) -> list[str]:
        """Open everything and look at the files around it.

        Returns:
            What is wrong, in plain words, each with what to do; empty where all is well. Nothing of
            the person is in it.
        """
        connection = self._file.connection
        looks: tuple[Callable[[], Iterable[str]], ...] = (
            lambda: checks.file_problems(self._file.directory, self._file.paths()),
            lambda: checks.key_store_problems(self._key_store),
            lambda: checks.stale_key_problems(read_header(connection)),
            lambda: checks.database_problems(connection),
            self._pages.problems,
            self._records.problems,
        )
        problems: list[str] = []
        for look in looks:
            # One that can't be finished says why, and the others go on.
            try:
                with self._file.reading():
                    problems += look()
            except VaultError as error:
                problems.append(str(error))
        return problems

    def close(self) -> None:
        """Close the file and let go of the lock; closing twice is fine."""
        self._file.close()

    def erase(self) -> None:
        """Destroy the key, then the files. The vault is closed; nothing of it opens again.

        Raises:
            VaultError: the key could not be destroyed; the vault is as it was, and open.
        """
        header = read_header(self._file.connection)
        if header.stale_key is not None:
            self._key_store.destroy(header.key_name(header.stale_key))
        self._key_store.destroy(header.key_name())
        self._file.delete()

    def _use(self, sealer: Sealer) -> None:
        connection = self._file.connection
        self._pages = Pages(connection, sealer)
        self._records = Records(connection, sealer)

    def _destroy_stale_key(self) -> None:
        connection = self._file.connection
        header = read_header(connection)
        if header.stale_key is not None:
            self._key_store.destroy(header.key_name(header.stale_key))
            with self._file.writing(durable=True):
                update(connection, dataclasses.replace(header, stale_key=None))
