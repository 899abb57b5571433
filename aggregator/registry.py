"""The registry of releases: what was published when, and which ledger rows its claim rests on.

It lives in the ledger's database, so that one backup holds both. It says what the operator did;
what devices accept is decided by the signed repository alone (`aggregator.repository`).

Each publication notes the ledger's head: a ledger whose tail was cut off later no longer passes
through it (`Ledger.verify`).

Test: tests/aggregator/test_registry.py, one contract class for SQLite and PostgreSQL.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    create_engine,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from aggregator.errors import AggregatorError
from client_sdk.wire import ReleaseManifest, canonical_json, sha256_hex
from privacy.chain import EMPTY_HEAD, Head

_metadata = MetaData()
_releases: Final = Table(
    "releases",
    _metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("published_at_ms", BigInteger, nullable=False),
    Column("manifest_sha256", String(64), nullable=False),
    Column("guarantee", Text, nullable=False),
    Column("ledger_rows", Text, nullable=False),
    Column("ledger_head_seq", BigInteger, nullable=False),
    Column("ledger_head_hash", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)


class ReleaseUnknownError(AggregatorError):
    """The registry has no such release, or has it already: look at `ReleaseRegistry.releases`."""


class ReleaseStatus(StrEnum):
    """What the operator last did with a release."""

    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, kw_only=True)
class RegisteredRelease:
    """One line of the registry.

    Attributes:
        version: Release number.
        published_at_ms: Milliseconds since 1970 (UTC).
        manifest_sha256: SHA-256 of the manifest's bytes, hexadecimal.
        guarantee: The privacy claim, as in the manifest.
        ledger_rows: Numbers of the ledger rows that the claim rests on.
        ledger_head: The ledger's head at publication.
        status: Published, or withdrawn.
        reason: Why it was withdrawn; empty while published.
    """

    version: int
    published_at_ms: int
    manifest_sha256: str
    guarantee: Mapping[str, Any]
    ledger_rows: tuple[int, ...]
    ledger_head: Head
    status: ReleaseStatus
    reason: str


class ReleaseRegistry:
    """The registry of one database.

    Args:
        engine_or_url: The ledger's database.
        now_s: The clock, seconds since 1970.
    """

    def __init__(
        self, engine_or_url: Engine | str, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._engine = (
            create_engine(engine_or_url) if isinstance(engine_or_url, str) else engine_or_url
        )
        self._now_s = now_s
        _metadata.create_all(self._engine)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def record(
        self,
        manifest: ReleaseManifest,
        *,
        ledger_rows: Sequence[int] = (),
        ledger_head: Head = EMPTY_HEAD,
    ) -> None:
        """Note that a release was published.

        Args:
            manifest: What was published.
            ledger_rows: The reservations (`Reservation.row`) that its claim rests on.
            ledger_head: `Ledger.head` now.

        Raises:
            ReleaseUnknownError: the version is in the registry already.
        """
        values = {
            "version": manifest.version,
            "published_at_ms": int(self._now_s() * 1000),
            "manifest_sha256": sha256_hex(manifest.to_bytes()),
            "guarantee": canonical_json(manifest.guarantee).decode("ascii"),
            "ledger_rows": json.dumps(list(ledger_rows)),
            "ledger_head_seq": ledger_head.seq,
            "ledger_head_hash": ledger_head.hash,
            "status": ReleaseStatus.PUBLISHED.value,
            "reason": "",
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_releases).values(values))
        except IntegrityError as error:
            raise ReleaseUnknownError(
                f"release {manifest.version} is in the registry already"
            ) from error

    def withdraw(self, version: int, reason: str) -> None:
        """Note that a release must no longer be used; publish or roll back to replace it.

        Raises:
            ReleaseUnknownError: there is no such release.
        """
        change = (
            update(_releases)
            .where(_releases.c.version == version)
            .values(status=ReleaseStatus.WITHDRAWN.value, reason=reason)
        )
        with self._engine.begin() as connection:
            if connection.execute(change).rowcount != 1:
                raise ReleaseUnknownError(f"release {version} is not in the registry")

    def get(self, version: int) -> RegisteredRelease | None:
        """Return one release, or None."""
        query = select(_releases).where(_releases.c.version == version)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _from_row(row)

    def releases(self) -> tuple[RegisteredRelease, ...]:
        """Return every release, oldest first."""
        query = select(_releases).order_by(_releases.c.version)
        with self._engine.connect() as connection:
            return tuple(_from_row(row) for row in connection.execute(query).mappings())


def _from_row(row: RowMapping) -> RegisteredRelease:
    return RegisteredRelease(
        version=row["version"],
        published_at_ms=row["published_at_ms"],
        manifest_sha256=row["manifest_sha256"],
        guarantee=json.loads(row["guarantee"]),
        ledger_rows=tuple(json.loads(row["ledger_rows"])),
        ledger_head=Head(seq=row["ledger_head_seq"], hash=row["ledger_head_hash"]),
        status=ReleaseStatus(row["status"]),
        reason=row["reason"],
    )
