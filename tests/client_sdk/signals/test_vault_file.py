"""The vault's file: when the log is brought into the database, and that nothing hangs on it."""

import secrets
import shutil
from pathlib import Path

from client_sdk import Event
from client_sdk.signals import Record, Vault
from client_sdk.signals.vault import DATABASE_FILE
from client_sdk.testing import MemoryKeyStore

# Of about 4 KiB sealed, so that each takes several pages of the log.
WRITES = 400


def written(vault: Vault) -> list[str]:
    """Write records one by one, as decisions are logged; give their keys."""
    keys = [f"d{number}" for number in range(WRITES)]
    for key in keys:
        vault.write(Record(stream="decided", key=key, value={"text": secrets.token_hex(2_000)}))
    return keys


def test_vault_file_single_writes_wait_for_no_database_and_an_event_settles_the_log(
    tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """More than SQLite's own thousand pages stay in the log; the next event brings them over."""
    folder = tmp_path / "vault"
    database = folder / DATABASE_FILE
    vault = Vault.open(folder, keys)
    vault.append([Event(kind="search", time_s=1.0, event_id="e1")])
    before = database.stat().st_size
    written(vault)
    assert (folder / f"{DATABASE_FILE}-wal").stat().st_size > 1_100 * 4_096
    assert database.stat().st_size == before
    vault.append([Event(kind="search", time_s=2.0, event_id="e2")])
    settled = database.stat().st_size
    assert settled > WRITES * 4_000
    vault.write(Record(stream="decided", key="after", value={"text": secrets.token_hex(2_000)}))
    vault.append([Event(kind="search", time_s=3.0, event_id="e3")])
    assert database.stat().st_size == settled, "the log is short again: nothing is to be done"
    vault.close()


def test_vault_file_log_without_end_is_brought_over_by_a_write(
    tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """Where no event ever comes the log stays within its bound."""
    folder = tmp_path / "vault"
    vault = Vault.open(folder, keys)
    for _ in range(5):
        written(vault)
    assert (folder / f"{DATABASE_FILE}-wal").stat().st_size < 17 * 1024 * 1024
    assert (folder / DATABASE_FILE).stat().st_size > WRITES * 4_000
    vault.close()


def test_vault_file_copied_with_a_long_log_has_everything(
    tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """What a kill leaves, a database that lags behind its log, opens with every write."""
    vault = Vault.open(tmp_path / "vault", keys)
    expected = written(vault)
    shutil.copytree(tmp_path / "vault", tmp_path / "left", ignore=shutil.ignore_patterns("*.lock"))
    vault.close()
    left = Vault.open(tmp_path / "left", keys)
    assert [record.key for record in left.records("decided")] == expected
    assert left.check() == []
    left.close()


def test_vault_file_event_is_acknowledged_while_the_log_is_being_read(
    tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """A log that can't be brought over now is no error of what was written."""
    vault = Vault.open(tmp_path / "vault", keys)
    written(vault)
    reader = vault._file.connection.execute("SELECT row FROM records")
    assert reader.fetchone() is not None
    assert vault.append([Event(kind="search", time_s=1.0, event_id="e1")]) == [True]
    reader.close()
    assert vault.count == 1
    vault.close()


def test_vault_file_settled_twice_keeps_what_was_written(
    tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """A log that was brought over is written over, and no record is lost by it."""
    vault = Vault.open(tmp_path / "vault", keys)
    for number in range(2):
        written(vault)
        vault.append([Event(kind="search", time_s=1.0, event_id=f"e{number}")])
    vault.close()
    again = Vault.open(tmp_path / "vault", keys)
    assert (len(list(again.records("decided"))), again.count) == (WRITES, 2)
    again.close()
