"""The consent registry: the latest signed receipt of each device and purpose, in SQL.

Rules a reader can check line by line:

1. One row for each (device, purpose): the receipt that stands, with the signed bytes as evidence.
2. A receipt replaces the one that stands only if it is later; of two of one second, the withdrawal
   stands. The database decides it in one statement, so two writers cannot undo a withdrawal.
3. Nothing is cached: a withdrawal that another process records is seen by the next read, hence
   before the next contribution is added.
4. A withdrawal is on the disk when `record` returns. A grant need not be: if the power fails, the
   device shows it again with its next answer, and the wait would cost milliseconds a device.
5. A registry that cannot be read is an error, never a yes.

The caller has verified the receipts; nothing here knows a person, only public keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    create_engine,
    event,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from aggregator.admission import Standing
from aggregator.errors import RegistryError
from client_sdk.wire import ConsentReceipt, Purpose, WireFormatError

_METADATA: Final = MetaData()
_RECEIPTS: Final = Table(
    "consent_receipts",
    _METADATA,
    Column("device", String(64), primary_key=True),
    Column("purpose", String(32), primary_key=True),
    Column("granted", Boolean, nullable=False),
    Column("issued_at_s", BigInteger, nullable=False),
    Column("frame", LargeBinary, nullable=False),
)
_STANDING: Final = select(_RECEIPTS.c.granted, _RECEIPTS.c.issued_at_s).where(
    _RECEIPTS.c.device == bindparam("device"), _RECEIPTS.c.purpose == bindparam("purpose")
)
_EVIDENCE: Final = select(_RECEIPTS.c.frame).where(
    _RECEIPTS.c.device == bindparam("device"), _RECEIPTS.c.purpose == bindparam("purpose")
)


class ConsentRegistry:
    """Receipts in SQLite or PostgreSQL.

    Args:
        url: SQLAlchemy URL: ``sqlite:///file.db`` or ``postgresql+psycopg://…``.

    Raises:
        ValueError: another kind of database.
        RegistryError: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        backend = make_url(url).get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ValueError(f"expected an SQLite or PostgreSQL URL; got {backend}")
        self._is_sqlite = backend == "sqlite"
        self._record = _upsert(sqlite.insert if self._is_sqlite else postgresql.insert)
        self._engine: Engine = create_engine(url)
        if self._is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
        with _as_registry_error():
            _METADATA.create_all(self._engine)

    def record(self, receipt: ConsentReceipt, frame: bytes) -> None:
        """Keep a verified receipt unless a newer answer of that device is known.

        Args:
            receipt: What ``frame`` says.
            frame: The signed bytes.

        Raises:
            RegistryError: the database failed; the receipt may not be on record.
        """
        row = {
            "device": receipt.device,
            "purpose": receipt.purpose.value,
            "granted": receipt.granted,
            "issued_at_s": receipt.issued_at_s,
            "frame": frame,
        }
        with _as_registry_error(), self._engine.connect() as connection:
            if receipt.granted or not self._is_sqlite:
                connection.execute(self._record, row)
                connection.commit()
                return
            connection.exec_driver_sql("PRAGMA synchronous=FULL")
            connection.execute(self._record, row)
            connection.commit()
            connection.exec_driver_sql("PRAGMA synchronous=NORMAL")

    def standing(self, device: str, purpose: Purpose) -> Standing | None:
        """Return the latest answer of a device for a purpose, or None where there is none.

        Raises:
            RegistryError: the database failed.
        """
        key = {"device": device, "purpose": purpose.value}
        with _as_registry_error(), self._engine.connect() as connection:
            row = connection.execute(_STANDING, key).one_or_none()
        return None if row is None else Standing(granted=row.granted, issued_at_s=row.issued_at_s)

    def evidence(self, device: str, purpose: Purpose) -> ConsentReceipt | None:
        """Return the receipt that stands, its signature verified again: for an auditor.

        Raises:
            RegistryError: the database failed, or the stored bytes are not that device's receipt.
        """
        key = {"device": device, "purpose": purpose.value}
        with _as_registry_error(), self._engine.connect() as connection:
            frame = connection.execute(_EVIDENCE, key).scalar_one_or_none()
        if frame is None:
            return None
        try:
            receipt = ConsentReceipt.from_bytes(bytes(frame))
        except WireFormatError as error:
            raise RegistryError("a stored consent receipt is damaged; restore the file") from error
        if (receipt.device, receipt.purpose) != (device, purpose):
            raise RegistryError("a stored consent receipt is somebody else's; restore the file")
        return receipt

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _upsert(insert: Any) -> Any:
    """Build the one statement that lets a receipt in only where it supersedes the one that stands.

    The same rule as `supersedes`, in SQL; tests/aggregator/test_consents.py compares the two.
    """
    offer = insert(_RECEIPTS)
    offered, held = offer.excluded, _RECEIPTS.c
    later = offered.issued_at_s > held.issued_at_s
    same_second = offered.issued_at_s == held.issued_at_s
    withdrawal = and_(held.granted.is_(True), offered.granted.is_(False))
    return offer.on_conflict_do_update(
        index_elements=[held.device, held.purpose],
        set_={name: offered[name] for name in ("granted", "issued_at_s", "frame")},
        where=or_(later, and_(same_second, withdrawal)),
    )


@contextmanager
def _as_registry_error() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise RegistryError(
            f"the consent registry failed ({type(error).__name__}); no task may run until it works"
        ) from error


def _prepare_sqlite(connection: Any, record: object) -> None:  # noqa: ARG001  # SQLAlchemy's hook
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
