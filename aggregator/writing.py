"""One writer at a time, on SQLite and on PostgreSQL: what is decided in a transaction holds in it.

Test: tests/aggregator/test_ledger.py and test_training_run.py, with many writers on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, text

_LOCK_WAIT_MS: Final = 60_000


@contextmanager
def one_writer(engine: Engine, *, lock: int) -> Iterator[Connection]:
    """Open a transaction in which nobody else writes; commit it, or roll it back on any error.

    Args:
        engine: On SQLite or PostgreSQL.
        lock: Names the advisory lock on PostgreSQL; SQLite locks the whole database.
    """
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            yield connection
        return
    # The driver would begin a deferred transaction, in which two readers may both decide.
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_LOCK_WAIT_MS}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
