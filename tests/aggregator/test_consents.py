"""The registry against its rule: the latest answer stands, and a tie favours the withdrawal."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from dataclasses import replace

import pytest
from sqlalchemy import event

from aggregator.admission import Standing, supersedes
from aggregator.consents import ConsentRegistry
from aggregator.errors import RegistryError
from client_sdk.wire import ConsentReceipt, Purpose
from simulations.scripted import SoftwareKey

KEY = SoftwareKey()
NORMAL, FULL = 1, 2
RECEIPT = ConsentReceipt(
    receipt_id="4" * 32,
    device=KEY.public_key_hex,
    purpose=Purpose.TRAIN,
    granted=True,
    policy_version="1",
    policy_sha256="2" * 64,
    issued_at_s=100,
    expires_at_s=1000,
)


@pytest.fixture
def url(tmp_path):
    """Give the address of a database file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'consents.db'}"


@pytest.fixture
def registry(url):
    """Give an open registry on a fresh file, and close it afterwards."""
    with ConsentRegistry(url) as opened:
        yield opened


def record(registry: ConsentRegistry, **changes) -> ConsentReceipt:
    """Sign `RECEIPT` with the changes, record it and give it back for comparison."""
    receipt = replace(RECEIPT, **changes)
    registry.record(receipt, receipt.to_bytes(KEY))
    return receipt


def standing(registry: ConsentRegistry) -> Standing | None:
    """Give what the registry says about the one device of these tests."""
    return registry.standing(KEY.public_key_hex, Purpose.TRAIN)


def test_empty_registry_knows_nothing(registry):
    """A device that never answered has neither a standing nor evidence."""
    assert standing(registry) is None
    assert registry.evidence(KEY.public_key_hex, Purpose.TRAIN) is None


@pytest.mark.parametrize(
    ("first", "second"),
    list(itertools.product([(100, True), (100, False), (101, True), (101, False)], repeat=2)),
)
def test_database_decides_as_the_rule_does(registry, first, second):
    """The rule is written twice, in SQL and in Python, and both must agree on every order."""
    held, newer = (
        record(registry, issued_at_s=at_s, granted=granted) for at_s, granted in (first, second)
    )
    expected = newer if supersedes(newer, held) else held
    assert standing(registry) == Standing(
        granted=expected.granted, issued_at_s=expected.issued_at_s
    )
    assert registry.evidence(KEY.public_key_hex, Purpose.TRAIN) == expected


def test_purposes_are_kept_apart(registry):
    """A newer no to statistics leaves the yes to training as it was."""
    record(registry)
    record(registry, purpose=Purpose.STATISTICS, granted=False, issued_at_s=200)
    assert standing(registry).granted


def test_receipt_survives_a_restart(url):
    """A withdrawal is on disk once it is recorded, so that a restart cannot forget it."""
    with ConsentRegistry(url) as first:
        record(first, granted=False)
    with ConsentRegistry(url) as second:
        assert not standing(second).granted


def test_withdrawal_by_another_process_is_seen_by_the_next_read(url, registry):
    """Nothing is cached: a no given elsewhere stops a round that is already running."""
    record(registry)
    assert standing(registry).granted
    with ConsentRegistry(url) as console:
        record(console, granted=False, issued_at_s=101)
    assert not standing(registry).granted


def test_racing_writers_cannot_undo_a_withdrawal(url, registry):
    """The newest answer is a no, and it stands however four writers interleave."""
    frames = [(replace(RECEIPT, issued_at_s=100 + n, granted=n != 40), n) for n in range(41)]

    def write(numbers):
        """Record one thread's share over a connection of its own."""
        with ConsentRegistry(url) as mine:
            for receipt, _ in numbers:
                mine.record(receipt, receipt.to_bytes(KEY))

    threads = [threading.Thread(target=write, args=(frames[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert standing(registry) == Standing(granted=False, issued_at_s=140)


def test_withdrawal_waits_for_the_disk_and_a_grant_does_not(registry):
    """A no must survive a power cut; a lost yes harms nobody and is not worth the wait."""
    told = []

    @event.listens_for(registry._engine, "before_cursor_execute")
    def note(connection, _, statement, *__):
        """Note each statement with the sync level that it ran under."""
        held = connection.connection.dbapi_connection.execute("PRAGMA synchronous").fetchone()
        told.append((statement.split()[0], held[0]))

    record(registry)
    assert told == [("INSERT", NORMAL)]
    record(registry, granted=False)
    assert told[1:] == [("PRAGMA", NORMAL), ("INSERT", FULL), ("PRAGMA", FULL)]
    record(registry, issued_at_s=500)
    assert told[-1] == ("INSERT", NORMAL)


def test_damaged_evidence_is_an_error_not_a_yes(tmp_path, registry):
    """A stored frame that no longer reads must never be taken for consent."""
    record(registry)
    with sqlite3.connect(tmp_path / "consents.db") as raw:
        raw.execute("UPDATE consent_receipts SET frame = x'00'")
    raw.close()
    with pytest.raises(RegistryError, match="damaged"):
        registry.evidence(KEY.public_key_hex, Purpose.TRAIN)


def test_evidence_of_somebody_else_is_an_error(tmp_path, registry):
    """A row moved to another device is found out, because the signed frame names its owner."""
    record(registry)
    with sqlite3.connect(tmp_path / "consents.db") as raw:
        raw.execute("UPDATE consent_receipts SET device = ?", ("0" * 64,))
    raw.close()
    with pytest.raises(RegistryError, match="somebody else"):
        registry.evidence("0" * 64, Purpose.TRAIN)


def test_lost_database_is_an_error_not_a_yes(tmp_path, registry):
    """Without the records nobody can tell who withdrew, so no task may go on."""
    with sqlite3.connect(tmp_path / "consents.db") as raw:
        raw.execute("DROP TABLE consent_receipts")
    raw.close()
    with pytest.raises(RegistryError, match="no task may run"):
        standing(registry)


def test_another_kind_of_database_is_a_mistake():
    """A database whose upsert was never tested is refused at once, by name."""
    with pytest.raises(ValueError, match="SQLite or PostgreSQL"):
        ConsentRegistry("mysql://localhost/consents")
