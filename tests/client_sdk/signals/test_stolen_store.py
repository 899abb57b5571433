"""What a thief has of the files: with the vault open, closed, killed, rewritten and erased."""

import base64
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from client_sdk import Event, VaultError
from client_sdk.keys import FileKeyStore
from client_sdk.signals import Record, Vault
from client_sdk.signals.vault import DATABASE_FILE

ITEM = "SKU-987-blue"
EVENT = Event(
    kind="product_view",
    item_id=ITEM,
    event_id="checkout-7f3a91",
    time_s=1_767_225_600.5,
    user_id="ada.lovelace@example.org",
    device="pixel-phone",
    properties={"search-words": "Blue mug for tea", "category": "kitchenware"},
)
RECORD = Record(
    stream="consent-answers",
    key="answer-of-ada",
    value={"text": "Yes, train together with others", "seed": "5eed" * 16},
)
SECRETS = (
    *(EVENT.kind, ITEM, EVENT.event_id, EVENT.user_id, EVENT.device),
    *("search-words", "Blue mug for tea", "category", "kitchenware", "1767225600.5"),
    *("consent-answers", "answer-of-ada", "Yes, train together with others", "5eed" * 16),
    *("product_id", "event_id", "timestamp", "properties"),
)
# Each form of a text that somebody may look for, or that a file may have by mistake.
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")


def forms(secret: str) -> Iterable[bytes]:
    """Give a secret as text, in other cases, backwards, in base64 at any offset, and in hex."""
    for text in {secret, secret.swapcase(), secret.lower(), secret.upper(), secret[::-1]}:
        for encoding in ENCODINGS:
            plain = text.encode(encoding)
            yield plain
            yield plain.hex().encode()
            yield plain.hex().upper().encode()
            for offset in range(3):
                # Without the characters in which its neighbours have a part: each has 6 bits.
                first, end = -(-8 * offset // 6), 8 * (offset + len(plain)) // 6
                coded = base64.b64encode(bytes(offset) + plain)[first:end]
                yield coded
                yield coded.replace(b"+", b"-").replace(b"/", b"_")


FORMS = {secret: [form for form in forms(secret) if len(form) > 5] for secret in SECRETS}


def found_in(folder: Path) -> set[str]:
    """Give the secrets that any file of a folder, or a file's name, shows."""
    paths = list(folder.rglob("*"))
    assert any(path.name == DATABASE_FILE for path in paths)
    content = b"\n".join(path.read_bytes() for path in paths if path.is_file())
    content += "\n".join(map(str, paths)).encode()
    return {secret for secret in SECRETS if any(form in content for form in FORMS[secret])}


def fill(folder: Path, keys: Path) -> Vault:
    """Make a vault in which everything was done once that leaves traces."""
    vault = Vault.open(folder, FileKeyStore(keys))
    vault.append([EVENT], [RECORD])
    more = [Event.from_json({**EVENT.to_json(), "event_id": str(n)}) for n in range(700)]
    vault.append(more)
    for number in range(5):
        vault.append([Event.from_json({**EVENT.to_json(), "event_id": f"single-{number}"})])
    vault.write(RECORD)
    return vault


def disturb(vault: Vault) -> None:
    """Rewrite a vault in every way that there is."""
    vault.remove(lambda event: not event.event_id.endswith("9"))
    vault.compact()
    vault.rotate_keys()
    vault.forget_records(RECORD.stream, RECORD.key)
    vault.write(RECORD)


def copied(folder: Path) -> Path:
    """Copy the directory as a thief would, with the log."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(folder, copy))


def sealed_in(folder: Path) -> list[bytes]:
    """Give every sealed value of a copy."""
    connection = sqlite3.connect(copied(folder) / DATABASE_FILE)
    rows = connection.execute(
        "SELECT sealed FROM pages UNION ALL SELECT sealed FROM records"
        " UNION ALL SELECT wrapped FROM header"
    ).fetchall()
    connection.close()
    return [sealed for (sealed,) in rows]


def test_search_finds_each_secret_in_a_plain_database(tmp_path: Path) -> None:
    """The search itself works: it would find what it looks for."""
    connection = sqlite3.connect(tmp_path / DATABASE_FILE)
    connection.execute("CREATE TABLE plain (value)")
    encodings: tuple[Callable[[str], bytes | str], ...] = (
        str.upper,
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode().hex(),
        lambda text: base64.b64encode(b"x" + text.encode()),
        lambda text: base64.b64encode(b"xx" + text[::-1].encode()),
    )
    for encode in encodings:
        connection.executemany("INSERT INTO plain VALUES (?)", [(encode(s),) for s in SECRETS])
        connection.commit()
        assert found_in(tmp_path) == set(SECRETS)
        connection.executescript("DELETE FROM plain; VACUUM")
    connection.close()


def test_stolen_store_shows_nothing_open_and_closed(tmp_path: Path) -> None:
    """Database, log, lock and names of files, before and after each kind of rewriting."""
    folder = tmp_path / "vault"
    vault = fill(folder, tmp_path / "keys")
    assert (folder / f"{DATABASE_FILE}-wal").stat().st_size > 0
    assert found_in(folder) == set()
    disturb(vault)
    assert found_in(folder) == set()
    vault.close()
    assert found_in(folder) == set()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.client_sdk.signals.test_stolen_store import disturb, fill
vault = fill(Path(sys.argv[1]), Path(sys.argv[2]))
if sys.argv[3] == "later":
    disturb(vault)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["soon", "later"])
def test_stolen_store_shows_nothing_after_a_kill(tmp_path: Path, moment: str) -> None:
    """What a process that died left behind, log included."""
    folder, keys = tmp_path / "vault", tmp_path / "keys"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(keys), moment],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    assert (folder / f"{DATABASE_FILE}-wal").stat().st_size > 0
    assert found_in(folder) == set()
    vault = Vault.open(folder, FileKeyStore(keys))
    assert vault.check() == []
    assert EVENT in [event for _, event in vault.events()]
    vault.close()


def test_stolen_store_has_no_equal_bytes_for_equal_events(tmp_path: Path) -> None:
    """The same event, written twice into two vaults and twice into one, is never the same twice."""
    seen: list[bytes] = []
    names: set[int] = set()
    for number in range(2):
        folder = tmp_path / f"vault-{number}"
        vault = Vault.open(folder, FileKeyStore(tmp_path / f"keys-{number}"))
        for _ in range(3):
            vault.append([EVENT])
            vault.write(RECORD)
            seen += sealed_in(folder)
            connection = sqlite3.connect(copied(folder) / DATABASE_FILE)
            names |= {name for (name,) in connection.execute("SELECT name FROM names")}
            connection.close()
            vault.remove(lambda _: False)
        vault.close()
    # The wrapped key of each vault is written once, and so seen three times.
    values = sorted(set(seen))
    assert len(values) == len(seen) - 2 * 2
    blocks = [value[at : at + 16] for value in values for at in range(0, len(value) - 15, 16)]
    assert len(set(blocks)) == len(blocks)
    assert len(names) == 2


def test_stolen_store_lengths_are_steps(tmp_path: Path) -> None:
    """A length says how many steps of 64 bytes, and nothing finer."""
    vault = fill(tmp_path / "vault", tmp_path / "keys")
    assert {(len(sealed) - 28) % 64 for sealed in sealed_in(tmp_path / "vault")} == {0}
    vault.close()


def test_stolen_store_keeps_nothing_of_what_was_deleted(tmp_path: Path) -> None:
    """After removal, merging, rotation and forgetting, the old sealed bytes are in no file."""
    folder = tmp_path / "vault"
    vault = fill(folder, tmp_path / "keys")
    for rewrite in (
        lambda: vault.remove(lambda event: event.event_id.endswith("9")),
        vault.compact,
        vault.rotate_keys,
        lambda: vault.forget_records(RECORD.stream, RECORD.key),
    ):
        before = sealed_in(folder)
        assert rewrite() != 0
        after = sealed_in(folder)
        content = b"".join(path.read_bytes() for path in folder.iterdir())
        gone = [sealed for sealed in before if sealed not in after]
        assert gone
        for sealed in gone:
            # Whatever the database's own pages cut it into.
            pieces = [sealed[at : at + 24] for at in range(0, len(sealed) - 23, 24)]
            assert not any(piece in content for piece in pieces)
    vault.close()


def test_stolen_store_from_before_a_rotation_does_not_open(tmp_path: Path) -> None:
    """What is left in the key store is of no use for an older copy."""
    folder, keys = tmp_path / "vault", tmp_path / "keys"
    vault = fill(folder, keys)
    old_key = FileKeyStore(keys).load(vault.key_name)
    assert old_key is not None
    copy = copied(folder)
    vault.rotate_keys()
    with pytest.raises(VaultError, match="not in the key store"):
        Vault.open(copy, FileKeyStore(keys))
    assert old_key not in b"".join(path.read_bytes() for path in keys.iterdir())
    # Nor does the old key open what was written since, even from under the new key's name.
    thief = FileKeyStore(tmp_path / "thief")
    thief.store(vault.key_name, old_key)
    with pytest.raises(VaultError, match="not this vault's"):
        Vault.open(copied(folder), thief)
    vault.close()


@pytest.mark.parametrize("rotated", [False, True])
def test_stolen_store_from_before_erasure_does_not_open(tmp_path: Path, rotated: bool) -> None:
    """Erased: no file of the vault, no byte of its key, and no way into a copy with its log."""
    folder, keys = tmp_path / "vault", tmp_path / "keys"
    vault = fill(folder, keys)
    if rotated:
        disturb(vault)
    key = FileKeyStore(keys).load(vault.key_name)
    assert key is not None
    copy = copied(folder)
    assert (copy / f"{DATABASE_FILE}-wal").exists()
    vault.erase()
    assert not list(folder.glob(f"{DATABASE_FILE}*"))
    assert list(keys.iterdir()) == []
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert key not in everything
    with pytest.raises(VaultError, match="not in the key store"):
        Vault.open(copy, FileKeyStore(keys))
    with pytest.raises(VaultError, match="closed or erased"):
        vault.append([EVENT])
    new = Vault.open(folder, FileKeyStore(keys))
    assert list(new.events()) == []
    new.close()
