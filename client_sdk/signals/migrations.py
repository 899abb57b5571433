"""From nothing, or from an older format, to the vault's format of today.

Rules a reader can check line by line:

1. Everything here runs in one transaction of the caller: the file is of the old format, or of
   today's, and never in between.
2. An older format is read with its own seals, to the last row; one that does not open ends the
   migration, and the file stays as it was.
3. A newer format is refused, and so is a database that is no vault, before anything is written.
4. The key store is read, never written.

========  ===========================================================================
format    what it was
========  ===========================================================================
1         one sealed row for each event; names are HMAC-SHA256; one key for good
2         pages of events; names are numbers; keys can be rotated (`client_sdk.signals.header`)
========  ===========================================================================
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final

from client_sdk.errors import VaultError
from client_sdk.ports import KeyStore
from client_sdk.signals import header, pages, records
from client_sdk.signals.events import Event
from client_sdk.signals.pages import Pages
from client_sdk.signals.records import Record, Records
from client_sdk.signals.sealing import FORMAT_VERSION, Sealer, wrap_data_key

_TABLES_OF_1: Final = ("header", "events", "records")


def is_due(connection: sqlite3.Connection) -> bool:
    """Say whether the file is empty or of an older format; nothing is written.

    Raises:
        VaultError: the format is newer, or the file is no vault.
    """
    version = _version(connection)
    if version == FORMAT_VERSION:
        return False
    if version == 0:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise VaultError("the file is a database, but no vault: choose another directory")
    elif version not in _MIGRATIONS:
        raise VaultError(
            f"expected a vault of format {FORMAT_VERSION} or older; got {version}: update the app"
        )
    return True


def bring_up_to_date(connection: sqlite3.Connection, key_store: KeyStore) -> None:
    """Make the tables, and move into them what an older format holds.

    Raises:
        VaultError: something of it does not open; roll back.
    """
    version = _version(connection)
    if version == 0:
        _make_tables(connection)
        header.write_new(connection)
    else:
        _MIGRATIONS[version](connection, key_store)
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in (*header.SCHEMA, *pages.SCHEMA, *records.SCHEMA):
        connection.execute(statement)


def _from_1(connection: sqlite3.Connection, key_store: KeyStore) -> None:
    for table in _TABLES_OF_1:
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_of_1")
    old = header.read_header(connection, "SELECT vault_id, 0, wrapped, NULL FROM header_of_1")
    key = header.load_key(old, key_store)
    data_key = header.unwrap(old, key, format_version=1)
    new = dataclasses.replace(
        old, wrapped=wrap_data_key(data_key, key_encryption_key=key, vault_id=old.vault_id)
    )

    _make_tables(connection)
    header.write_new(connection)
    header.update(connection, new)
    opener, sealer = Sealer(data_key, format_version=1), Sealer(data_key)
    try:
        events = _events_of_1(connection, opener)
        while batch := list(islice(events, pages.PAGE_EVENTS)):
            Pages(connection, sealer).append(batch)
        Records(connection, sealer).write(_records_of_1(connection, opener))
    except (TypeError, ValueError) as error:
        raise VaultError(
            "the vault is of format 1 and a row of it is damaged: restore a backup, or, to start "
            "anew, delete the vault's directory"
        ) from error
    for table in _TABLES_OF_1:
        connection.execute(f"DROP TABLE {table}_of_1")


def _events_of_1(connection: sqlite3.Connection, opener: Sealer) -> Iterator[Event]:
    for row, name, sealed in connection.execute(
        "SELECT row, name, sealed FROM events_of_1 ORDER BY row"
    ):
        place = b"event" + row.to_bytes(8, "big", signed=row < 0) + name
        yield Event.from_json(json.loads(opener.open(sealed, place)))


def _records_of_1(connection: sqlite3.Connection, opener: Sealer) -> Iterator[Record]:
    for name, sealed in connection.execute("SELECT name, sealed FROM records_of_1 ORDER BY row"):
        value = json.loads(opener.open(sealed, b"record" + name))
        yield Record(stream=value["stream"], key=value["key"], value=value["value"])


_MIGRATIONS: Final[Mapping[int, Callable[[sqlite3.Connection, KeyStore], None]]] = {1: _from_1}
