"""The registry of releases: one contract class for SQLite and PostgreSQL."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from aggregator.ledger import Ledger
from aggregator.registry import (
    RegisteredRelease,
    ReleaseRegistry,
    ReleaseStatus,
    ReleaseUnknownError,
)
from client_sdk.wire import CATALOGUE_FILE, POLICY_FILE, ReleaseManifest, sha256_hex
from privacy.budget import Budget
from privacy.chain import EMPTY_HEAD, Head

POSTGRESQL = os.environ.get(
    "HOMEBODY_TEST_POSTGRESQL", "postgresql+psycopg://root@/test?host=/var/run/postgresql"
)


def manifest(version: int) -> ReleaseManifest:
    """A release with a claim in words beyond ASCII."""
    return ReleaseManifest(
        version=version,
        created_at_s=1_760_000_000,
        minimum_sdk_version="0.1.0",
        aggregator_key="0" * 64,
        files={CATALOGUE_FILE: "a" * 64, POLICY_FILE: "b" * 64},
        guarantee={"epsilon": 2.0, "delta": 1e-6, "words": "ε 2 for everyone"},
    )


class RegistryContract:
    """What the registry keeps on every database."""

    @pytest.fixture
    def url(self) -> str:
        """A database of its own."""
        raise AssertionError("each subclass of the contract says this")

    @pytest.fixture
    def registry(self, url: str) -> Iterator[ReleaseRegistry]:
        """An empty registry whose clock stands."""
        registry = ReleaseRegistry(url, now_s=lambda: 1_760_000_001.5)
        yield registry
        registry.close()

    def test_recorded_release_tells_its_claim_and_what_it_rests_on(
        self, registry: ReleaseRegistry
    ) -> None:
        """Everything an auditor starts from."""
        head = Head(seq=8, hash="c" * 64)
        registry.record(manifest(1), ledger_rows=[3, 5], ledger_head=head)
        assert registry.get(1) == RegisteredRelease(
            version=1,
            published_at_ms=1_760_000_001_500,
            manifest_sha256=sha256_hex(manifest(1).to_bytes()),
            guarantee=manifest(1).guarantee,
            ledger_rows=(3, 5),
            ledger_head=head,
            status=ReleaseStatus.PUBLISHED,
            reason="",
        )

    def test_releases_come_oldest_first(self, registry: ReleaseRegistry) -> None:
        """By number, whatever the order of recording."""
        for version in (2, 1, 3):
            registry.record(manifest(version))
        assert [release.version for release in registry.releases()] == [1, 2, 3]
        assert registry.releases()[0].ledger_head == EMPTY_HEAD
        assert registry.get(9) is None

    def test_release_is_recorded_once(self, registry: ReleaseRegistry) -> None:
        """A second story about one number is refused; the first stays."""
        registry.record(manifest(1), ledger_rows=[1])
        with pytest.raises(ReleaseUnknownError, match="already"):
            registry.record(manifest(1), ledger_rows=[2])
        assert registry.releases()[0].ledger_rows == (1,)

    def test_withdrawn_release_says_why(self, registry: ReleaseRegistry) -> None:
        """And stays in the registry."""
        registry.record(manifest(1))
        registry.record(manifest(2))
        registry.withdraw(1, "scores were wrong for new items")
        first, second = registry.releases()
        assert (first.status, first.reason) == (
            ReleaseStatus.WITHDRAWN,
            "scores were wrong for new items",
        )
        assert second.status is ReleaseStatus.PUBLISHED

    def test_unknown_release_cannot_be_withdrawn(self, registry: ReleaseRegistry) -> None:
        """A typo must not look like a success."""
        with pytest.raises(ReleaseUnknownError, match="not in the registry"):
            registry.withdraw(4, "typo")

    def test_registry_shares_the_ledgers_database(
        self, url: str, registry: ReleaseRegistry
    ) -> None:
        """One backup holds both, and reopening finds both."""
        ledger = Ledger(url, {"shop": Budget(epsilon=1.0, delta=1e-6)})
        registry.record(manifest(1), ledger_head=ledger.head())
        again = ReleaseRegistry(url)
        assert again.releases() == registry.releases()
        assert ledger.verify(noted=again.releases()[0].ledger_head) == EMPTY_HEAD
        again.close()
        ledger.close()


class TestSqlite(RegistryContract):
    """The default: one file."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A file of its own."""
        return f"sqlite:///{tmp_path / 'homebody.db'}"


class TestPostgresql(RegistryContract):
    """The server."""

    @pytest.fixture
    def url(self) -> Iterator[str]:
        """A schema of its own, dropped afterwards."""
        schema = f"homebody_{secrets.token_hex(6)}"
        engine = create_engine(POSTGRESQL)
        try:
            with engine.begin() as connection:
                connection.execute(text(f"CREATE SCHEMA {schema}"))
        except OperationalError as error:
            engine.dispose()
            pytest.skip(f"no PostgreSQL at {POSTGRESQL}: {error.orig}")
        separator = "&" if "?" in POSTGRESQL else "?"
        yield f"{POSTGRESQL}{separator}options=-csearch_path%3D{schema}"
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()
