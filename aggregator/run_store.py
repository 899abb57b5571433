"""The storage of training runs: where a run stands, and who was in which round.

Rules a reader can check line by line:

1. A round is over in one transaction: the next model, the sealed noise state, the clip, who took
   part and the hash of the noisy sum become durable together, or none of them does.
2. Only the writer who saw the round open can close it: of two processes that resume the same run,
   one gets `RunStateError` and has published nothing.
3. The noise state lies here sealed (AES-256-GCM under the run's noise key, which lies elsewhere,
   `aggregator.run_keys`): with the key it gives the noise away, without it nothing. The model is
   what was published; the sum before its noise is never stored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Float,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    insert,
    select,
    update,
)
from sqlalchemy.pool import StaticPool

from aggregator.errors import RunKeyError, RunStateError
from aggregator.participation import ParticipationTable
from aggregator.writing import one_writer
from client_sdk.wire import RunTerms
from privacy.participation import Realised, realised_of

# Any fixed number but the ledger's; it names the runs among a database's advisory locks.
_ADVISORY_LOCK: Final = 0x72756E73
_NONCE_BYTES: Final = 12

_METADATA: Final = MetaData()
_RUNS: Final = Table(
    "training_runs",
    _METADATA,
    Column("run_id", String(32), primary_key=True),
    Column("plan", Text, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("rounds_done", BigInteger, nullable=False),
    Column("clip_norm", Float(53), nullable=False),
    Column("model", LargeBinary, nullable=False),
    Column("sealed_noise", LargeBinary, nullable=False),
    Column("lost_rounds", BigInteger, nullable=False),
)
_ROUNDS: Final = Table(
    "training_rounds",
    _METADATA,
    Column("run_id", String(32), primary_key=True),
    Column("round", BigInteger, primary_key=True),
    Column("contributors", BigInteger, nullable=False),
    Column("sum_sha256", String(64), nullable=False),
)
_PARTICIPATIONS: Final = ParticipationTable(_METADATA)


class RunStage(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """One run, as stored.

    Attributes:
        run_id: 32 hexadecimal digits.
        plan: What was fixed before the first round, as JSON.
        stage: Where it stands.
        rounds_done: Rounds whose noisy sum is in the model.
        clip_norm: In force in the next round.
        model: What was learned so far, as the caller encodes it; published.
        sealed_noise: The noise state after the last round.
        lost_rounds: Rounds whose participants are not known any more, and that were paid for so.
    """

    run_id: str
    plan: str
    stage: RunStage
    rounds_done: int
    clip_norm: float
    model: bytes
    sealed_noise: bytes
    lost_rounds: int = 0


class RunStore:
    """The runs of one database.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…``; ``sqlite://`` is one in memory.
    """

    def __init__(self, url: str) -> None:
        if url == "sqlite://":
            self._engine: Engine = create_engine(
                url, poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        else:
            self._engine = create_engine(url)
        if self._engine.dialect.name not in ("sqlite", "postgresql"):
            raise ValueError(f"expected SQLite or PostgreSQL; got {self._engine.dialect.name}")
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            _METADATA.create_all(connection)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def create(self, run: StoredRun) -> None:
        """Store a new run; durable when this returns."""
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            connection.execute(insert(_RUNS).values(vars(run)))

    def load(self, run_id: str) -> StoredRun | None:
        """Return a run, or None."""
        with self._engine.connect() as connection:
            found = connection.execute(select(_RUNS).where(_RUNS.c.run_id == run_id))
            row = found.mappings().one_or_none()
        if row is None:
            return None
        return StoredRun(**{**row, "stage": RunStage(row["stage"])})

    def running(self) -> list[str]:
        """Return the ids of the runs that are not over: what a restart has to resume."""
        with self._engine.connect() as connection:
            found = connection.execute(
                select(_RUNS.c.run_id).where(_RUNS.c.stage == RunStage.RUNNING)
            )
            return [str(run_id) for run_id in found.scalars()]

    def advance(
        self, before: StoredRun, after: StoredRun, *, contributors: Iterable[str], digest: str
    ) -> None:
        """Close a round (rules 1 and 2); durable when this returns.

        Raises:
            RunStateError: somebody else closed it, or ended the run.
        """
        devices = list(contributors)
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            changed = connection.execute(
                update(_RUNS)
                .where(
                    _RUNS.c.run_id == before.run_id,
                    _RUNS.c.rounds_done == before.rounds_done,
                    _RUNS.c.stage == RunStage.RUNNING,
                )
                .values(
                    rounds_done=after.rounds_done,
                    clip_norm=after.clip_norm,
                    model=after.model,
                    sealed_noise=after.sealed_noise,
                )
            )
            if changed.rowcount != 1:
                raise RunStateError(f"round {before.rounds_done} was closed by somebody else")
            number = before.rounds_done
            connection.execute(
                insert(_ROUNDS).values(
                    run_id=before.run_id,
                    round=number,
                    contributors=len(devices),
                    sum_sha256=digest,
                )
            )
            _PARTICIPATIONS.note(connection, before.run_id, number=number, devices=devices)

    def settle(self, run_id: str, stage: RunStage) -> None:
        """End a run: its noise state and its participants are deleted."""
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            connection.execute(
                update(_RUNS).where(_RUNS.c.run_id == run_id).values(stage=stage, sealed_noise=b"")
            )
            _PARTICIPATIONS.forget(connection, run_id)

    def allows(self, terms: RunTerms, *, device: str, number: int) -> bool:
        """Say whether a device may be in a round; see `aggregator.participation`."""
        with self._engine.connect() as connection:
            return _PARTICIPATIONS.allows(connection, terms, device=device, number=number)

    def digest_of(self, run_id: str, number: int) -> str | None:
        """Return the SHA-256 of a round's noisy sum, or None where it is not known."""
        asked = select(_ROUNDS.c.sum_sha256).where(
            _ROUNDS.c.run_id == run_id, _ROUNDS.c.round == number
        )
        with self._engine.connect() as connection:
            return connection.execute(asked).scalar_one_or_none()

    def newly_lost_rounds(self, run: StoredRun) -> int:
        """Count the rounds whose participants do not add up any more."""
        asked = select(_ROUNDS.c.round, _ROUNDS.c.contributors).where(
            _ROUNDS.c.run_id == run.run_id
        )
        with self._engine.connect() as connection:
            noted = _PARTICIPATIONS.counts(connection, run.run_id)
            rows = connection.execute(asked).all()
        whole = [number for number, devices in rows if noted.get(int(number), 0) == devices]
        return run.rounds_done - len(whole)

    def accept_loss(self, run: StoredRun, lost: int) -> None:
        """Note that the lost rounds are paid for as the worst case, and go on from what is left."""
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            noted = _PARTICIPATIONS.counts(connection, run.run_id)
            for number in range(run.rounds_done):
                left = noted.get(number, 0)
                kept = connection.execute(
                    update(_ROUNDS)
                    .where(_ROUNDS.c.run_id == run.run_id, _ROUNDS.c.round == number)
                    .values(contributors=left)
                )
                if kept.rowcount == 0:
                    again = {"run_id": run.run_id, "round": number, "contributors": left}
                    connection.execute(insert(_ROUNDS).values(**again, sum_sha256=""))
            connection.execute(
                update(_RUNS)
                .where(_RUNS.c.run_id == run.run_id)
                .values(lost_rounds=run.lost_rounds + lost)
            )

    def realised(self, run_id: str, *, rounds: int) -> Realised:
        """Find how often devices really were in a run, as far as it is noted."""
        with self._engine.connect() as connection:
            rounds_of_devices = _PARTICIPATIONS.rounds_of_devices(connection, run_id)
            return realised_of(rounds_of_devices, rounds=rounds)


def seal(state: bytes, *, key: bytes, run_id: str, rounds_done: int) -> bytes:
    """Encrypt a noise state, bound to its run and round."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(_sealing_key(key)).encrypt(nonce, state, _bound_to(run_id, rounds_done))


def unseal(sealed: bytes, *, key: bytes, run_id: str, rounds_done: int) -> bytes:
    """Decrypt what `seal` encrypted.

    Raises:
        RunKeyError: another key, run or round, or damaged bytes.

    >>> sealed = seal(b"state", key=bytes(32), run_id="0" * 32, rounds_done=3)
    >>> unseal(sealed, key=bytes(32), run_id="0" * 32, rounds_done=3)
    b'state'
    """
    nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return AESGCM(_sealing_key(key)).decrypt(nonce, body, _bound_to(run_id, rounds_done))
    except (InvalidTag, ValueError) as error:
        raise RunKeyError("the noise state does not open with the run's key") from error


def _sealing_key(key: bytes) -> bytes:
    # Not the noise key itself: that one drives AES in counter mode.
    return hashlib.sha256(b"homebody sealed noise state " + key).digest()


def _bound_to(run_id: str, rounds_done: int) -> bytes:
    return f"{run_id} {rounds_done}".encode()
