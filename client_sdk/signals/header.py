"""The vault's header: its id, the sealed data key, and which key of the key store opens it.

Rules a reader can check line by line:

1. The key-encryption key lies in the key store under ``homebody-vault-<vault id>``, after the n-th
   rotation under ``homebody-vault-<vault id>-<n>``.
2. ``stale_key`` is the number of a key that must be destroyed: of the next one while it is made, of
   the last one once it is not used any more. It is written down before the key is made, so that no
   end of the process leaves a key behind that nobody knows of.
3. A vault in which nothing was ever stored, and whose key is not there, was never finished: it
   gets new keys. A key that is there is never overwritten.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from typing import Final

from client_sdk.errors import VaultError
from client_sdk.ports import KeyStore
from client_sdk.signals.sealing import (
    FORMAT_VERSION,
    KEY_BYTES,
    SealBrokenError,
    unwrap_data_key,
    wrap_data_key,
)

SCHEMA: Final = (
    # The counts of the events are those of `client_sdk.signals.pages`.
    """CREATE TABLE header (
        row INTEGER PRIMARY KEY,
        vault_id BLOB NOT NULL, key_number INTEGER NOT NULL, wrapped BLOB NOT NULL,
        stale_key INTEGER, last_page INTEGER NOT NULL, removed INTEGER NOT NULL
    )""",
)
_HEADER: Final = "SELECT vault_id, key_number, wrapped, stale_key FROM header"
_VAULT_ID_BYTES: Final = 16
_START_ANEW: Final = "to start anew, delete the vault's directory"


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the header says about keys.

    Attributes:
        vault_id: 16 random bytes.
        key_number: How often the keys were rotated.
        wrapped: The data key, sealed; empty in a vault that was never finished.
        stale_key: The number of a key that must be destroyed, or None.
    """

    vault_id: bytes
    key_number: int
    wrapped: bytes
    stale_key: int | None

    def __post_init__(self) -> None:
        fits = (
            isinstance(self.vault_id, bytes)
            and isinstance(self.key_number, int)
            and isinstance(self.wrapped, bytes)
            and isinstance(self.stale_key, int | None)
        )
        if not fits or len(self.vault_id) != _VAULT_ID_BYTES:
            raise VaultError(f"the vault's header is damaged: restore a backup, or, {_START_ANEW}")

    def key_name(self, number: int | None = None) -> str:
        """Give the name in the key store of the key in use, or of another one."""
        number = self.key_number if number is None else number
        return f"homebody-vault-{self.vault_id.hex()}" + (f"-{number}" if number else "")


def write_new(connection: sqlite3.Connection) -> None:
    """Write the header of a vault that has no key yet."""
    vault_id = secrets.token_bytes(_VAULT_ID_BYTES)
    connection.execute("INSERT INTO header VALUES (1, ?, 0, x'', NULL, 0, 0)", (vault_id,))


def read_header(connection: sqlite3.Connection, query: str = _HEADER) -> Header:
    """Read the header.

    Args:
        connection: Of the vault.
        query: Gives the columns of `Header`, in their order.

    Raises:
        VaultError: it is not there, or not as promised.
    """
    row = connection.execute(query).fetchone()
    if row is None:
        raise VaultError(f"the vault has no header: restore a backup, or, {_START_ANEW}")
    vault_id, key_number, wrapped, stale_key = row
    return Header(vault_id=vault_id, key_number=key_number, wrapped=wrapped, stale_key=stale_key)


def was_never_used(connection: sqlite3.Connection) -> bool:
    """Say whether nothing was ever stored."""
    query = (
        "SELECT last_page = 0 AND NOT EXISTS (SELECT 1 FROM pages)"
        " AND NOT EXISTS (SELECT 1 FROM records) FROM header"
    )
    return bool(connection.execute(query).fetchone() == (1,))


def load_key(header: Header, key_store: KeyStore) -> bytes:
    """Give the key-encryption key.

    Raises:
        VaultError: the key store does not have it, or can't be used.
    """
    key = key_store.load(header.key_name())
    if key is None:
        raise VaultError(
            f"the vault's key is not in the key store: restore the key, or, {_START_ANEW}"
        )
    return key


def unwrap(header: Header, key: bytes, *, format_version: int = FORMAT_VERSION) -> bytes:
    """Give the data key.

    Raises:
        VaultError: the key is another vault's.
    """
    try:
        return unwrap_data_key(
            header.wrapped,
            key_encryption_key=key,
            vault_id=header.vault_id,
            format_version=format_version,
        )
    except SealBrokenError as error:
        raise VaultError(
            f"the key in the key store is not this vault's: restore the key, or, {_START_ANEW}"
        ) from error


def new_keys(header: Header) -> tuple[bytes, bytes, bytes]:
    """Make both keys anew; nothing is stored.

    Returns:
        The key-encryption key, the data key, and the data key sealed.
    """
    key, data_key = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
    return key, data_key, wrap_data_key(data_key, key_encryption_key=key, vault_id=header.vault_id)


def update(connection: sqlite3.Connection, header: Header) -> None:
    """Write what `Header` holds; the counts of the events stay."""
    connection.execute(
        "UPDATE header SET vault_id = ?, key_number = ?, wrapped = ?, stale_key = ?",
        (header.vault_id, header.key_number, header.wrapped, header.stale_key),
    )
