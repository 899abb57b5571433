"""The vault on disk: what it keeps, what is refused, what rewriting it changes and what not.

More than 400 lines: one open vault and its fixtures serve every test.
"""

import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sdk import Event, VaultError
from client_sdk.keys import FileKeyStore
from client_sdk.signals import Record, Vault
from client_sdk.signals.sealing import FORMAT_VERSION
from client_sdk.signals.vault import DATABASE_FILE
from client_sdk.testing import MemoryKeyStore


def an_event(event_id: str = "e-1", kind: str = "purchase", time_s: float = 5.0) -> Event:
    """An event with a name and a category in its properties."""
    return Event(
        kind=kind,
        item_id="SKU-987",
        event_id=event_id,
        time_s=time_s,
        user_id="u-1",
        properties={"name": "Blue mug", "category": "kitchen"},
    )


def some_events(count: int, first: int = 0) -> list[Event]:
    """Events with the ids ``first`` and so on."""
    return [an_event(str(number)) for number in range(first, first + count)]


def ids(vault: Vault, after_page: int = 0) -> list[str]:
    """The ids of what is stored, in order."""
    return [event.event_id for _, event in vault.events(after_page)]


def change(folder: Path, *statements: str) -> None:
    """Do to a closed vault what somebody with the file can do."""
    connection = sqlite3.connect(folder / DATABASE_FILE)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def n_pages(folder: Path) -> int:
    """How many pages a closed vault has."""
    connection = sqlite3.connect(folder / DATABASE_FILE)
    (count,) = connection.execute("SELECT count(*) FROM pages").fetchone()
    connection.close()
    return int(count)


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


# What it keeps


def test_vault_reopened_has_its_events_and_records(folder: Path, keys: MemoryKeyStore) -> None:
    """What was stored is there the next time, in order."""
    vault = Vault.open(folder, keys)
    events = some_events(5)
    assert vault.append(events) == [True] * 5
    vault.write(Record(stream="s", key="k", value={"a": 1}))
    vault.write(Record(stream="s", key="k", value={"a": 2}), durable=True)
    vault.close()
    again = Vault.open(folder, keys)
    assert [event for _, event in again.events()] == events
    assert again.read("s", "k") == {"a": 2}
    assert [record.key for record in again.records()] == ["k"]
    assert again.read("s", "other") is None
    assert again.count == again.last_page == 5
    again.close()


@pytest.mark.parametrize("more", [0, 100])
def test_vault_event_id_seen_before_is_not_stored(vault: Vault, more: int) -> None:
    """One id is one event, within a call and across calls, in small batches and in large ones."""
    rest, again = some_events(more, 1000), some_events(more, 1000)
    assert vault.append([an_event(), an_event(), *rest]) == [True, False, *[True] * more]
    assert vault.append([an_event(), an_event("e-2"), *again]) == [False, True, *[False] * more]
    assert ids(vault) == ["e-1", *(event.event_id for event in rest), "e-2"]
    assert vault.count == vault.last_page == 2 + more
    assert vault.check() == []


def test_vault_append_writes_records_with_the_events_or_neither(vault: Vault) -> None:
    """Events and what depends on them are one transaction."""

    def counted(stored: list[bool]) -> list[Record]:
        return [Record(stream="counts", key="stored", value={"n": sum(stored)})]

    vault.append([an_event("1"), an_event("1")], counted)
    assert vault.read("counts", "stored") == {"n": 1}
    broken = Record(stream="counts", key="stored", value={"n": float("nan")})
    with pytest.raises(ValueError, match="JSON compliant"):
        vault.append([an_event("2")], [broken])
    assert ids(vault) == ["1"]
    assert vault.append([an_event("2")]) == [True]


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


def test_vault_records_of_a_stream_are_its_own_in_order(vault: Vault) -> None:
    """A stream is read and forgotten without the others; one written again keeps its place."""
    vault.write(*(Record(stream=s, key=k, value={"at": s + k}) for k in "ba" for s in ("x", "y")))
    vault.write(Record(stream="x", key="b", value={"at": "again"}))
    assert [(record.key, record.value["at"]) for record in vault.records("x")] == [
        ("b", "again"),
        ("a", "xa"),
    ]
    assert vault.forget_records("x", "a", "no such") == 1
    assert vault.forget_records("x") == 0
    assert [record.stream + record.key for record in vault.records()] == ["xb", "yb", "ya"]
    assert list(vault.records("z")) == []


# One opener


def test_vault_files_are_for_their_owner_only(vault: Vault, folder: Path) -> None:
    """Nobody else on the machine can read them."""
    vault.append([an_event()])
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert folder.stat().st_mode & 0o777 == 0o700


def test_vault_opened_twice_is_refused(vault: Vault, folder: Path, keys: MemoryKeyStore) -> None:
    """There is one opener; the second one is told so at once."""
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


def test_vault_written_within_a_write_says_what_to_do(vault: Vault) -> None:
    """A write inside of another, of a callback or another thread, is refused; nothing is kept."""
    vault.append(some_events(2))

    def keep(event: Event) -> bool:
        vault.write(Record(stream="s", key=event.event_id, value={}))
        return False

    with pytest.raises(VaultError, match="share one lock between threads"):
        vault.remove(keep)
    assert ids(vault) == ["0", "1"]
    assert vault.check() == []


def test_vault_closed_says_so(vault: Vault) -> None:
    """Nothing works after closing, and each call says why."""
    vault.close()
    vault.close()
    for call in (vault.rotate_keys, vault.compact, vault.check, vault.erase):
        with pytest.raises(VaultError, match="closed or erased"):
            call()
    with pytest.raises(VaultError, match="closed or erased"):
        list(vault.events())


# What is refused


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


def test_vault_never_used_is_finished_and_no_key_is_overwritten(
    folder: Path, keys: MemoryKeyStore
) -> None:
    """Without data a lost key is no loss; a header that was blanked does not cost the key."""
    Vault.open(folder, keys).close()
    other = MemoryKeyStore()
    vault = Vault.open(folder, other)
    name = vault.key_name
    vault.close()
    key = other.load(name)
    change(folder, "UPDATE header SET wrapped = x''")
    with pytest.raises(VaultError, match="not this vault's"):
        Vault.open(folder, other)
    assert other.load(name) == key


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
    assert (folder / DATABASE_FILE).read_bytes() == content


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 9", f"format {FORMAT_VERSION} or older; got 9: update the app"),
        ("PRAGMA user_version = 0", "no vault"),
        ("PRAGMA user_version = -1", "got -1"),
    ],
)
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_vault_of_a_later_format_or_another_app_is_refused_unchanged(
    folder: Path, keys: MemoryKeyStore, statement: str, message: str, journal: str
) -> None:
    """A database that is not this version's vault is not written to."""
    Vault.open(folder, keys).close()
    change(folder, f"PRAGMA journal_mode = {journal}", statement)
    before = (folder / DATABASE_FILE).read_bytes()
    with pytest.raises(VaultError, match=message):
        Vault.open(folder, keys)
    assert (folder / DATABASE_FILE).read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pages SET sealed = (SELECT sealed FROM pages WHERE row = 2) WHERE row = 1",
        "UPDATE pages SET row = row + 10",
        "UPDATE pages SET n_events = 2",
        "UPDATE pages SET n_events = 'x'",
        "UPDATE pages SET sealed = x'00' WHERE row = 1",
        "UPDATE pages SET sealed = 'text' WHERE row = 1",
        "UPDATE pages SET sealed = 5 WHERE row = 1",
    ],
)
def test_vault_page_moved_or_damaged_is_refused(
    folder: Path, keys: MemoryKeyStore, statement: str
) -> None:
    """A page is bound to its place and count: a change is found by a read, a rewrite, a check."""
    vault = Vault.open(folder, keys)
    vault.append([an_event("1")])
    vault.append([an_event("2")])
    vault.close()
    change(folder, statement)
    vault = Vault.open(folder, keys)
    for call in (lambda: list(vault.events()), vault.compact, vault.rotate_keys):
        with pytest.raises(VaultError, match="damaged or was moved"):
            call()
    assert any("damaged or were moved" in problem for problem in vault.check())
    vault.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM header", "no header"),
        ("UPDATE header SET vault_id = 'text'", "header is damaged"),
        ("UPDATE header SET vault_id = x'00'", "header is damaged"),
        ("UPDATE header SET key_number = 'text'", "header is damaged"),
        ("UPDATE header SET wrapped = x'00'", "not this vault's"),
        ("UPDATE header SET stale_key = x'00'", "header is damaged"),
        ("UPDATE header SET last_page = 'text'", "header is damaged"),
        ("UPDATE header SET last_page = -5, removed = 'x'", "header is damaged"),
        ("INSERT INTO pages VALUES (9223372036854775807, 1, x'00')", "header is damaged"),
        ("DROP TABLE header", "could not be"),
        ("DROP TABLE pages", "could not be"),
        ("DROP TABLE names", "could not be"),
        ("UPDATE records SET name = 5", "damaged or was moved"),
        ("UPDATE records SET sealed = name", "damaged or was moved"),
    ],
)
def test_vault_with_a_changed_file_says_so_and_nothing_else(
    folder: Path, keys: MemoryKeyStore, statement: str, message: str
) -> None:
    """Whatever is in the file, the answer is `VaultError`."""
    vault = Vault.open(folder, keys)
    vault.append([an_event("1")])
    vault.write(Record(stream="s", key="k", value={}))
    vault.close()
    change(folder, statement)

    def use() -> None:
        opened = Vault.open(folder, keys)
        try:
            assert opened.count >= 0
            opened.append([an_event("2")])
            list(opened.records())
        finally:
            opened.close()

    with pytest.raises(VaultError, match=message):
        use()


# Removal and merging


def test_vault_removed_events_are_gone_and_their_ids_may_come_again(vault: Vault) -> None:
    """Removal keeps the order, and writes its records in the same transaction."""
    vault.append(some_events(600))
    seen: list[str] = []

    def keep(event: Event) -> bool:
        seen.append(event.event_id)
        return int(event.event_id) % 3 > 0

    def records() -> list[Record]:
        return [Record(stream="digest", key="s", value={"seen": len(seen)})]

    assert vault.remove(keep, records) == 200
    assert seen == [str(number) for number in range(600)]
    assert vault.read("digest", "s") == {"seen": 600}
    assert ids(vault) == [str(number) for number in range(600) if number % 3]
    assert (vault.count, vault.last_page) == (400, 600)
    assert vault.append([an_event("0"), an_event("1")]) == [True, False]
    assert ids(vault, after_page=600) == ["0"]
    assert vault.check() == []


def test_vault_emptied_gives_no_number_twice(folder: Path, keys: MemoryKeyStore) -> None:
    """A reader that knows how far it came misses nothing after everything was removed."""
    vault = Vault.open(folder, keys)
    vault.append(some_events(3))
    vault.remove(lambda _: False)
    vault.close()
    vault = Vault.open(folder, keys)
    assert (vault.count, vault.last_page) == (0, 3)
    vault.append([an_event("new")])
    assert ids(vault, after_page=3) == ["new"]
    vault.close()


def test_vault_removal_that_fails_removes_nothing(vault: Vault) -> None:
    """An error in the app's function, or in a record, leaves all as it was."""
    vault.append(some_events(600))

    def keep(event: Event) -> bool:
        if event.event_id == "550":
            raise RuntimeError("of the app")
        return False

    with pytest.raises(RuntimeError, match="of the app"):
        vault.remove(keep)
    with pytest.raises(ValueError, match="JSON compliant"):
        vault.remove(lambda _: False, [Record(stream="s", key="k", value={"a": float("inf")})])
    assert vault.count == len(ids(vault)) == 600
    assert vault.check() == []


def test_vault_compacted_has_the_same_events_in_few_pages(
    folder: Path, keys: MemoryKeyStore
) -> None:
    """Single events end in full pages; order, and what comes after a number, stay."""
    vault = Vault.open(folder, keys)
    for event in some_events(1100):
        vault.append([event])
    vault.append(some_events(5, first=2000))
    before = ids(vault)
    after_700 = ids(vault, after_page=700)
    assert vault.compact() == 1101 - 3
    assert vault.compact() == 0
    assert ids(vault) == before
    assert ids(vault, after_page=700) == after_700
    assert vault.append(some_events(10)) == [False] * 10
    assert vault.check() == []
    vault.close()
    assert n_pages(folder) == 3


def test_vault_compacted_gives_room_back(vault: Vault) -> None:
    """A file that became mostly empty shrinks, and only then does the check not say so."""
    vault.append(some_events(20_000))
    large = vault.size_bytes
    vault.remove(lambda event: event.event_id.endswith("77"))
    assert any("compact" in problem for problem in vault.check())
    vault.compact()
    assert vault.check() == []
    assert vault.size_bytes < large / 10
    assert vault.count == 200


# Keys


class RefusingKeyStore(MemoryKeyStore):
    """A key store that can be locked for one of its actions, as a platform's can."""

    locked = ""

    def store(self, name: str, secret: bytes) -> None:
        """Refuse, or keep."""
        if self.locked == "store":
            raise VaultError("the key store is locked")
        super().store(name, secret)

    def destroy(self, name: str) -> None:
        """Refuse, or destroy."""
        if self.locked == "destroy":
            raise VaultError("the key store is locked")
        super().destroy(name)


def test_vault_rotated_opens_with_its_new_key_only(folder: Path, keys: MemoryKeyStore) -> None:
    """Everything is there, under another key; the old one is gone."""
    vault = Vault.open(folder, keys)
    vault.append(some_events(600))
    vault.write(*(Record(stream="s", key=key, value={"key": key}) for key in "cab"))
    old_name = vault.key_name
    for turn in (1, 2):
        vault.rotate_keys()
        assert vault.key_name == f"{old_name}-{turn}"
        assert vault.append(some_events(600)) == [False] * 600
    vault.close()
    assert keys.load(old_name) is keys.load(f"{old_name}-1") is None
    vault = Vault.open(folder, keys)
    assert ids(vault) == [str(number) for number in range(600)]
    assert [record.key for record in vault.records("s")] == ["c", "a", "b"]
    assert vault.check() == []
    vault.close()


@pytest.mark.parametrize("locked", ["store", "destroy"])
def test_vault_rotation_with_the_key_store_locked_is_made_up_for(folder: Path, locked: str) -> None:
    """A rotation that fails says so; no event is lost, and no old key stays for good."""
    keys = RefusingKeyStore()
    vault = Vault.open(folder, keys)
    vault.append(some_events(3))
    name = vault.key_name
    keys.locked = locked
    with pytest.raises(VaultError, match="locked"):
        vault.rotate_keys()
    assert ids(vault) == ["0", "1", "2"]
    assert any("old key" in problem for problem in vault.check()) == (locked == "destroy")
    with pytest.raises(VaultError, match="locked"):
        vault.rotate_keys()
    vault.close()
    Vault.open(folder, keys).close()
    keys.locked = ""
    vault = Vault.open(folder, keys)
    assert (keys.load(name) is None) == (locked == "destroy")
    assert ids(vault) == ["0", "1", "2"]
    assert vault.check() == []
    vault.rotate_keys()
    vault.close()


def test_vault_erase_without_the_key_destroyed_fails_loudly(folder: Path) -> None:
    """If the key cannot be destroyed, nobody is told that the data is gone."""
    keys = RefusingKeyStore()
    vault = Vault.open(folder, keys)
    vault.append([an_event()])
    keys.locked = "destroy"
    with pytest.raises(VaultError, match="locked"):
        vault.erase()
    assert len(list(vault.events())) == 1
    vault.close()


# The check


def test_vault_check_finds_what_is_wrong_around_it(tmp_path: Path, folder: Path) -> None:
    """Permissions of the files, of the directory and of the keys; each with what to do."""
    vault = Vault.open(folder, FileKeyStore(tmp_path / "keys"))
    vault.append([an_event()])
    assert vault.check() == []
    folder.chmod(0o755)
    (folder / DATABASE_FILE).chmod(0o644)
    for path in (tmp_path / "keys").iterdir():
        path.chmod(0o640)
    problems = vault.check()
    assert len(problems) == 3
    assert all("run chmod" in problem for problem in problems)
    vault.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM pages WHERE row = 1", "expected 2 events; found 1"),
        ("DELETE FROM names WHERE name = (SELECT min(name) FROM names)", "rotate the keys"),
        ("INSERT INTO names VALUES (1)", "rotate the keys"),
        ("UPDATE header SET removed = 1", "expected 1 events; found 2"),
        ("UPDATE records SET sealed = x'00'", "1 record"),
    ],
)
def test_vault_check_finds_what_a_read_does_not(
    folder: Path, keys: MemoryKeyStore, statement: str, message: str
) -> None:
    """Missing pages, names that do not fit, counts that do not fit, damaged records."""
    vault = Vault.open(folder, keys)
    vault.append([an_event("1")])
    vault.append([an_event("2")])
    vault.write(Record(stream="s", key="k", value={}))
    vault.close()
    change(folder, statement)
    vault = Vault.open(folder, keys)
    assert any(message in problem for problem in vault.check()), vault.check()
    if "rotate" in message:
        vault.rotate_keys()
        assert vault.check() == []
    vault.close()


DAMAGES = 300


def test_vault_file_damaged_anywhere_gives_its_data_or_a_vault_error(
    tmp_path: Path, keys: MemoryKeyStore
) -> None:
    """Bytes overwritten at random: what opens is what was stored, and everything else is said."""
    vault = Vault.open(tmp_path / "whole", keys)
    for batch in range(5):
        vault.append(some_events(40, 40 * batch), [Record(stream="s", key=str(batch), value={})])
    expected = list(vault.events())
    vault.close()
    whole = (tmp_path / "whole" / DATABASE_FILE).read_bytes()
    rng = random.Random(3)  # noqa: S311 - a test's choices
    outcomes = Counter[str]()
    for number in range(DAMAGES):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o700)
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4, 200])):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        if rng.random() < 0.1:
            del damaged[rng.randrange(len(whole)) :]
        (folder / DATABASE_FILE).write_bytes(damaged)
        outcomes[_use(folder, keys, expected)] += 1
        shutil.rmtree(folder)
    print(f"{DAMAGES} damaged files: {dict(outcomes)}")
    assert all(outcomes[each] for each in ("refused", "found by the check"))


def _use(folder: Path, keys: MemoryKeyStore, expected: list[tuple[int, Event]]) -> str:
    try:
        vault = Vault.open(folder, keys)
    except VaultError:
        return "refused"
    try:
        problems = vault.check()
        try:
            found = list(vault.events())
            list(vault.records())
            vault.append([an_event("new")])
            vault.compact()
            vault.remove(lambda _: True)
        except VaultError:
            # Nothing fails in use that a check does not find.
            assert problems
        else:
            assert problems or found == expected
    finally:
        vault.close()
    return "found by the check" if problems else "not in what is used"
