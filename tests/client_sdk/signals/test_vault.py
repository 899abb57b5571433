"""The vault on disk: what a copy shows, what survives, what is refused, what erasure leaves."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sdk import Event, VaultError
from client_sdk.keys import FileKeyStore
from client_sdk.signals import Record, Vault
from client_sdk.signals.vault import DATABASE_FILE
from client_sdk.testing import MemoryKeyStore

SECRETS = ("SKU-987", "purchase", "product_id", "Blue mug", "kitchen", "transparency", "u-1")


def an_event(item: str = "SKU-987", event_id: str = "e-1") -> Event:
    """A purchase with a name and a category in its properties."""
    return Event(
        kind="purchase",
        item_id=item,
        event_id=event_id,
        time_s=5.0,
        user_id="u-1",
        properties={"name": "Blue mug", "category": "kitchen"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the vault lies."""
    return tmp_path / "vault"


@pytest.fixture
def vault(folder: Path, keys: MemoryKeyStore) -> Iterator[Vault]:
    """A new vault."""
    opened = Vault.open(folder, keys)
    yield opened
    opened.close()


def copy_of(folder: Path) -> Path:
    """Copy the directory as a thief would, with the write-ahead log."""
    return Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-copy")))


def bytes_of(folder: Path) -> bytes:
    """Every byte of every file."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_vault_reopened_has_its_events_and_records(folder: Path, keys: MemoryKeyStore) -> None:
    """What was stored is there the next time, in order."""
    vault = Vault.open(folder, keys)
    events = [an_event(event_id=str(n)) for n in range(5)]
    assert vault.append(events) == [True] * 5
    vault.write(Record(stream="s", key="k", value={"a": 1}))
    vault.write(Record(stream="s", key="k", value={"a": 2}), durable=True)
    vault.close()
    again = Vault.open(folder, keys)
    assert [event for _, event in again.events()] == events
    assert again.read("s", "k") == {"a": 2}
    assert [record.key for record in again.records()] == ["k"]
    assert again.read("s", "other") is None
    again.close()


def test_vault_event_id_seen_before_is_not_stored(vault: Vault) -> None:
    """One id is one event: within a call, and across calls."""
    assert vault.append([an_event(), an_event()]) == [True, False]
    assert vault.append([an_event(), an_event(event_id="e-2")]) == [False, True]
    assert [row for row, _ in vault.events()] == [1, 2]


def test_vault_copied_shows_no_item_name_kind_or_category(vault: Vault, folder: Path) -> None:
    """A copy of all files, with the log, has nothing of what was stored in the clear."""
    vault.append([an_event(event_id=str(n)) for n in range(50)])
    vault.write(Record(stream="transparency", key="SKU-987", value={"name": "Blue mug"}))
    found = bytes_of(copy_of(folder))
    assert (folder / f"{DATABASE_FILE}-wal").stat().st_size > 0
    for secret in SECRETS:
        assert secret.encode() not in found
        assert secret.encode("utf-16-le") not in found


def test_vault_equal_events_differ_in_every_sealed_byte_row(vault: Vault, folder: Path) -> None:
    """Equal content gives rows that share no block, of one length."""
    vault.append([an_event(event_id=f"{n:04}") for n in range(20)])
    connection = sqlite3.connect(copy_of(folder) / DATABASE_FILE)
    rows = connection.execute("SELECT name, sealed FROM events").fetchall()
    connection.close()
    assert len({sealed[:28] for _, sealed in rows}) == len({name for name, _ in rows}) == 20
    assert len({len(sealed) for _, sealed in rows}) == 1
    assert all((len(sealed) - 28) % 64 == 0 for _, sealed in rows)


def test_vault_files_are_for_their_owner_only(vault: Vault, folder: Path) -> None:
    """Nobody else on the machine can read them."""
    vault.append([an_event()])
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert folder.stat().st_mode & 0o777 == 0o700


def test_vault_opened_twice_is_refused(vault: Vault, folder: Path, keys: MemoryKeyStore) -> None:
    """There is one writer; the second opener is told so at once."""
    with pytest.raises(VaultError, match="already open"):
        Vault.open(folder, keys)
    vault.close()
    Vault.open(folder, keys).close()


@pytest.mark.usefixtures("vault")
def test_vault_opened_by_another_process_is_refused(folder: Path) -> None:
    """The rule holds across processes."""
    code = (
        "import sys; from pathlib import Path\n"
        "from client_sdk.signals import Vault; from client_sdk.testing import MemoryKeyStore\n"
        "from client_sdk.errors import VaultError\n"
        "try: Vault.open(Path(sys.argv[1]), MemoryKeyStore())\n"
        "except VaultError as error: print('refused' if 'already open' in str(error) else error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "refused"


def test_vault_with_its_key_lost_is_refused_and_untouched(
    folder: Path, keys: MemoryKeyStore
) -> None:
    """No key, no data, and no new vault written over the old one."""
    vault = Vault.open(folder, keys)
    vault.append([an_event()])
    vault.close()
    before = (folder / DATABASE_FILE).read_bytes()
    with pytest.raises(VaultError, match="not in the key store"):
        Vault.open(folder, MemoryKeyStore())
    assert (folder / DATABASE_FILE).read_bytes() == before


def test_vault_with_a_wrong_key_is_refused(folder: Path, keys: MemoryKeyStore) -> None:
    """Another key, or half a key, does not open it."""
    vault = Vault.open(folder, keys)
    name = vault.key_name
    vault.close()
    for wrong in (b"x" * 32, b"short"):
        other = MemoryKeyStore()
        other.store(name, wrong)
        with pytest.raises(VaultError, match="not this vault's"):
            Vault.open(folder, other)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + bytes(84)])
def test_vault_file_of_something_else_is_refused(
    folder: Path, keys: MemoryKeyStore, content: bytes
) -> None:
    """A file that is no vault is left alone."""
    folder.mkdir()
    (folder / DATABASE_FILE).write_bytes(content)
    with pytest.raises(VaultError):
        Vault.open(folder, keys)


def test_vault_of_a_later_format_or_another_app_is_refused(
    folder: Path, keys: MemoryKeyStore
) -> None:
    """A database that is not this version's vault is not written to."""
    Vault.open(folder, keys).close()
    for statement in ("PRAGMA user_version = 9", "PRAGMA user_version = 0"):
        connection = sqlite3.connect(folder / DATABASE_FILE)
        connection.execute(statement)
        connection.close()
        with pytest.raises(VaultError, match=r"format 1; got 9|no vault"):
            Vault.open(folder, keys)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET sealed = (SELECT sealed FROM events WHERE row = 2) WHERE row = 1",
        "UPDATE events SET row = row + 10",
        "UPDATE events SET sealed = x'00' WHERE row = 1",
    ],
)
def test_vault_row_moved_or_damaged_is_refused(
    folder: Path, keys: MemoryKeyStore, statement: str
) -> None:
    """A row is bound to its place: swapping or changing one is found when it is read."""
    vault = Vault.open(folder, keys)
    vault.append([an_event(event_id="1"), an_event(event_id="2")])
    vault.close()
    connection = sqlite3.connect(folder / DATABASE_FILE)
    connection.execute(statement)
    connection.commit()
    connection.close()
    vault = Vault.open(folder, keys)
    with pytest.raises(VaultError, match="damaged or was moved"):
        list(vault.events())
    vault.close()


def test_vault_forgotten_rows_are_gone(vault: Vault) -> None:
    """A forgotten event is not there, and its id may come again."""
    vault.append([an_event(event_id="1"), an_event(event_id="2")])
    vault.forget([1])
    assert [event.event_id for _, event in vault.events()] == ["2"]
    assert vault.append([an_event(event_id="1")]) == [True]


def test_vault_failing_write_keeps_nothing_of_it(vault: Vault) -> None:
    """A transaction is all or nothing, and the next one works."""
    with pytest.raises(ValueError, match="JSON compliant"):
        vault.write(
            Record(stream="s", key="1", value={}),
            Record(stream="s", key="2", value={"a": float("nan")}),
        )
    assert list(vault.records()) == []
    vault.write(Record(stream="s", key="1", value={}))
    assert len(list(vault.records())) == 1


def test_vault_erased_is_unreadable_even_from_a_copy(tmp_path: Path) -> None:
    """After erasure neither the old file nor what is left of the key store opens anything."""
    folder, keys = tmp_path / "vault", FileKeyStore(tmp_path / "keys")
    vault = Vault.open(folder, keys)
    vault.append([an_event()])
    copied = copy_of(folder)
    vault.erase()
    assert not list(folder.glob(f"{DATABASE_FILE}*"))
    assert bytes_of(tmp_path / "keys") == b""
    with pytest.raises(VaultError, match="not in the key store"):
        Vault.open(copied, keys)
    with pytest.raises(VaultError, match="closed or erased"):
        vault.append([an_event()])
    new = Vault.open(folder, keys)
    assert list(new.events()) == []
    new.close()


class StuckKeyStore(MemoryKeyStore):
    """A key store that cannot destroy."""

    def destroy(self, name: str) -> None:
        """Fail, as a locked platform key store does."""
        raise VaultError("the key store is locked")


def test_vault_erase_without_the_key_destroyed_fails_loudly(folder: Path) -> None:
    """If the key cannot be destroyed, nobody is told that the data is gone."""
    vault = Vault.open(folder, StuckKeyStore())
    vault.append([an_event()])
    with pytest.raises(VaultError, match="locked"):
        vault.erase()
    assert len(list(vault.events())) == 1
    vault.close()


INGEST = """
import sys
from pathlib import Path
from client_sdk import Event
from client_sdk.keys import FileKeyStore
from client_sdk.signals import Vault
vault = Vault.open(Path(sys.argv[1]), FileKeyStore(Path(sys.argv[2])))
n = 0
while True:
    vault.append([Event(kind="screen", time_s=0.0, event_id=f"{n}-{i}") for i in range(3)])
    print(n, flush=True)
    n += 1
"""


def test_vault_killed_while_writing_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """After kill -9 each acknowledged batch is there, whole, and so is each later one."""
    folder, keys = tmp_path / "vault", tmp_path / "keys"
    with subprocess.Popen(
        [sys.executable, "-c", INGEST, str(folder), str(keys)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(200)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    vault = Vault.open(folder, FileKeyStore(keys))
    stored = [event.event_id for _, event in vault.events()]
    vault.close()
    assert len(stored) % 3 == 0
    assert {f"{n}-{i}" for n in acknowledged for i in range(3)} <= set(stored)
