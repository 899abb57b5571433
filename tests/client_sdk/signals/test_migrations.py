"""Stores of every format that there was: each opens with all that it had, or stays as it is.

Each folder ``stores/v<n>`` holds a store that the vault of format n wrote, its key, and what must
come out. Who raises the format adds one, made by the code before.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client_sdk import VaultError
from client_sdk.keys import FileKeyStore
from client_sdk.signals import Vault
from client_sdk.signals.sealing import FORMAT_VERSION
from client_sdk.signals.vault import DATABASE_FILE

STORES = Path(__file__).parent / "stores"
VERSIONS = range(1, FORMAT_VERSION + 1)

TakeStore = Callable[[int], Path]


@pytest.fixture
def take_store(tmp_path: Path) -> TakeStore:
    """Copy the store of a format to where it may be changed."""

    def take(version: int) -> Path:
        folder = Path(shutil.copytree(STORES / f"v{version}", tmp_path / "store"))
        # A checkout has other permissions than those that the vault gives.
        for path in (folder, folder / "keys"):
            path.chmod(0o700)
        for path in (folder / "keys").iterdir():
            path.chmod(0o600)
        return folder

    return take


def expected(version: int) -> dict[str, Any]:
    """What must come out."""
    path = STORES / f"v{version}" / "expected.json"
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def test_store_of_every_format_is_there() -> None:
    """A format that is raised without a store of the one before is found here."""
    assert {path.name for path in STORES.iterdir()} == {f"v{version}" for version in VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
def test_store_of_an_older_format_has_all_that_it_had(take_store: TakeStore, version: int) -> None:
    """Events in order, records in order; and from then on it is of today's format."""
    folder = take_store(version)
    for _ in range(2):
        vault = Vault.open(folder, FileKeyStore(folder / "keys"))
        events = [event for _, event in vault.events()]
        assert [event.to_json() for event in events] == expected(version)["events"]
        assert [[r.stream, r.key, r.value] for r in vault.records()] == expected(version)["records"]
        assert vault.count == len(events) == 40
        assert vault.append(events) == [False] * 40
        assert vault.check() == []
        vault.close()
    connection = sqlite3.connect(folder / DATABASE_FILE)
    assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    assert not [name for name in names if "_of_" in name]
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET sealed = x'00' WHERE row = 40",
        "UPDATE events SET name = 'text' WHERE row = 40",
        "UPDATE events SET row = -1 WHERE row = 40",
        "UPDATE records SET name = (SELECT max(row) FROM records) WHERE row = 1",
        "UPDATE header SET wrapped = x'00'",
        "UPDATE header SET vault_id = x'00'",
        "DELETE FROM header",
        "DROP TABLE events",
    ],
)
def test_store_of_format_1_that_is_damaged_stays_as_it_is(
    take_store: TakeStore, statement: str
) -> None:
    """One row that does not open, and nothing is changed: a later repair has the old format."""
    folder = take_store(1)
    connection = sqlite3.connect(folder / DATABASE_FILE)
    connection.execute(statement)
    connection.commit()
    before = list(connection.iterdump())
    connection.close()
    with pytest.raises(VaultError, match=r"damaged|header|not this vault's|could not be written"):
        Vault.open(folder, FileKeyStore(folder / "keys"))
    connection = sqlite3.connect(folder / DATABASE_FILE)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert list(connection.iterdump()) == before
    connection.close()


def test_store_of_format_1_without_its_key_stays_as_it_is(
    take_store: TakeStore, tmp_path: Path
) -> None:
    """A lost key is said, and the file is left for the day on which it is found."""
    folder = take_store(1)
    before = (folder / DATABASE_FILE).read_bytes()
    with pytest.raises(VaultError, match="not in the key store"):
        Vault.open(folder, FileKeyStore(tmp_path / "other"))
    assert (folder / DATABASE_FILE).read_bytes() == before
    Vault.open(folder, FileKeyStore(folder / "keys")).close()


def test_store_of_format_1_leaves_nothing_of_its_old_form(take_store: TakeStore) -> None:
    """What was sealed in the old way is overwritten, in the file and in the log."""
    folder = take_store(1)
    connection = sqlite3.connect(folder / DATABASE_FILE)
    old = [sealed for (sealed,) in connection.execute("SELECT sealed FROM events")]
    connection.close()
    vault = Vault.open(folder, FileKeyStore(folder / "keys"))
    files = b"".join(path.read_bytes() for path in folder.glob(f"{DATABASE_FILE}*"))
    vault.close()
    assert not [sealed for sealed in old if sealed[:40] in files]
