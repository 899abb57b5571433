"""Who was in which round of a run, by pseudonym: the aggregator's own count, in SQL.

Rules a reader can check line by line:

1. A device is known here by a hash of its public key and the run: what was noted for one run says
   nothing about another. Whoever has the key can compute it: a pseudonym, no anonymity.
2. A contribution is noted in the transaction that makes its round's noisy sum durable, before the
   sum is handed out. What was collected and lost was never published, and is not noted.
3. A device may be in a round that lies at least ``min_separation`` rounds from each round that it
   was in, if those are fewer than ``max_participations``.
4. For each round it is noted how many devices were in it. Where the rows do not add up to that,
   rows were lost, and the round counts as one in which anybody may have been
   (`privacy.participation.worst_case`).
5. The rows of a run are deleted when the run is over and its realised participation is in the
   ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
)

from client_sdk.wire import RunTerms

_INSERT_ROWS: Final = 500


def pseudonym_of(device: str, run_id: str) -> str:
    """Give the name under which a device is counted in one run.

    Args:
        device: Public key, hexadecimal.
        run_id: 32 hexadecimal digits.
    """
    return hashlib.sha256(f"homebody participation {run_id} {device}".encode()).hexdigest()


class ParticipationTable:
    """The table, as part of the run store's database; every call is in a transaction of its own."""

    def __init__(self, metadata: MetaData) -> None:
        self._rows = Table(
            "participations",
            metadata,
            Column("run_id", String(32), primary_key=True),
            Column("device", String(64), primary_key=True),
            Column("round", BigInteger, primary_key=True),
        )

    def allows(self, connection: Connection, terms: RunTerms, *, device: str, number: int) -> bool:
        """Say whether a device may be in the round ``number`` (rule 3)."""
        rows = self._rows.c
        asked = select(rows.round).where(
            rows.run_id == terms.run_id, rows.device == pseudonym_of(device, terms.run_id)
        )
        were = connection.execute(asked).scalars().all()
        apart = all(abs(number - earlier) >= terms.min_separation for earlier in were)
        return apart and len(were) < terms.max_participations

    def note(
        self, connection: Connection, run_id: str, *, number: int, devices: Iterable[str]
    ) -> None:
        """Note who was in a round."""
        rows = [
            {"run_id": run_id, "device": pseudonym_of(device, run_id), "round": number}
            for device in sorted(devices)
        ]
        for start in range(0, len(rows), _INSERT_ROWS):
            connection.execute(insert(self._rows), rows[start : start + _INSERT_ROWS])

    def counts(self, connection: Connection, run_id: str) -> dict[int, int]:
        """Return how many devices are noted for each round."""
        rows = self._rows.c
        asked = select(rows.round, func.count()).where(rows.run_id == run_id).group_by(rows.round)
        return {int(number): int(count) for number, count in connection.execute(asked)}

    def rounds_of_devices(self, connection: Connection, run_id: str) -> Iterator[list[int]]:
        """Give for each device the rounds that it was in, rising."""
        rows = self._rows.c
        asked = (
            select(rows.device, rows.round)
            .where(rows.run_id == run_id)
            .order_by(rows.device, rows.round)
        )
        for _, group in groupby(connection.execute(asked), key=lambda row: row[0]):
            yield [int(row[1]) for row in group]

    def forget(self, connection: Connection, run_id: str) -> None:
        """Delete what was noted for a run (rule 5)."""
        connection.execute(delete(self._rows).where(self._rows.c.run_id == run_id))
