"""What can be seen of a vault from outside: permissions, space, the database's own check.

Each function gives problems in plain words, each with what to do; nothing where all is well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from client_sdk.ports import KeyStore
from client_sdk.signals.header import Header

# Below 1 MiB of free pages of 4 KiB nothing is worth doing.
_FEW_FREE_PAGES: Final = 256


@runtime_checkable
class SelfChecking(Protocol):
    """A key store that can say what is wrong with it."""

    def problems(self) -> list[str]:
        """Give problems in plain words, each with what to do."""
        ...


def file_problems(directory: Path, files: Iterable[Path]) -> Iterator[str]:
    """Say which of them others than the owner may use."""
    for path, wanted in ((directory, 0o700), *((file, 0o600) for file in files)):
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            yield (
                f"{path.name}: expected the permissions {wanted:o}; got {mode:o}: "
                f"run chmod {wanted:o} on it"
            )


def database_problems(connection: sqlite3.Connection) -> Iterator[str]:
    """Let SQLite check its own structure."""
    # Its lines may name parts of tables; how many there are is enough.
    lines = [line for (line,) in connection.execute("PRAGMA quick_check")]
    if lines != ["ok"]:
        yield f"the database file is damaged in {len(lines)} place(s): restore a backup"
    if mostly_free(connection):
        yield "more than half of the file is empty: compact the store"


def mostly_free(connection: sqlite3.Connection) -> bool:
    """Say whether rewriting the file would make it much smaller."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return bool(free > _FEW_FREE_PAGES and 2 * free > pages)


def key_store_problems(key_store: KeyStore) -> list[str]:
    """Ask the key store, if it can tell."""
    return key_store.problems() if isinstance(key_store, SelfChecking) else []


def stale_key_problems(header: Header) -> Iterator[str]:
    """Say whether an old key is still there."""
    if header.stale_key is not None:
        yield "an old key could not be destroyed: make the key store usable, then open again"
