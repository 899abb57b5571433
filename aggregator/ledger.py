"""The ledger's storage: one append-only, hash-chained table for all populations and tasks.

Guarantee: whatever was released through `reserve` stays inside the budget of its scope, also with
many writers and after a crash. A reservation is durable before it is handed out and counts as
spent until it is voided, so a crash can over-count, never under-count.

The order that keeps the guarantee:

1. `reserve` before anyone is asked;
2. `commit` before the noisy sum is handed to anyone;
3. `void` only where nothing was handed out; a committed reservation cannot be voided.
4. A training run is one reservation for all its rounds (`aggregator.training_run`): committed
   before the first noisy sum is handed out, then `note`d round by round. Where it turns out to cost
   more than was reserved, `supplement` first.

The chain: each row holds the SHA-256 of the row before it and of its own content. `verify` names
the first row that does not fit, and every write verifies first, so a tampered ledger admits
nothing. A cut-off tail leaves a valid shorter chain: compare `head` with one that was noted
elsewhere (the registry notes it at every publication).

Writers are serialised by ``BEGIN IMMEDIATE`` on SQLite and an advisory lock on PostgreSQL.

Test: tests/aggregator/test_ledger.py, one contract class for both databases.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    insert,
    select,
)

from aggregator.writing import one_writer
from privacy.accounting import epsilon_deciding, epsilon_pld
from privacy.budget import Budget, Scope, ScopeLimit, admits, scope_of
from privacy.chain import (
    Head,
    LedgerRow,
    Reservation,
    RowKind,
    head_of,
    next_row,
    reservations_of,
    verify_chain,
)
from privacy.errors import (
    BudgetExhaustedError,
    BudgetMissingError,
    ReservationError,
)
from privacy.events import ReleaseEvent

# Any fixed number; it names the ledger among the advisory locks of a PostgreSQL database.
_ADVISORY_LOCK: Final = 0x686F6D65

_metadata = MetaData()
_rows: Final = Table(
    "ledger",
    _metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("reservation", String(32), nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a scope has spent, by two accountants, at the δ of its budget.

    Attributes:
        scope: The population, and whether these are forecasts.
        budget: What it may spend.
        epsilon_pld: ε by PLD: the number to state.
        epsilon_exact: ε that decided: of the exact curve where there is one, else PLD's.
        delta: The budget's δ.
        events: Everything committed or still reserved.
    """

    scope: Scope
    budget: Budget
    epsilon_pld: float
    epsilon_exact: float
    delta: float
    events: tuple[ReleaseEvent, ...]


class Ledger:
    """The ledger of one database.

    Args:
        engine_or_url: ``sqlite:///path`` or ``postgresql+psycopg://…``, or an engine on one.
        budgets: Population name to budget, the total; a population without one is refused.
        limits: What purposes and windows of a population may cost inside its total.
        now_s: The clock, seconds since 1970.
    """

    def __init__(
        self,
        engine_or_url: Engine | str,
        budgets: Mapping[str, Budget],
        *,
        limits: Sequence[ScopeLimit] = (),
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._engine = (
            create_engine(engine_or_url) if isinstance(engine_or_url, str) else engine_or_url
        )
        if self._engine.dialect.name not in ("sqlite", "postgresql"):
            raise ValueError(f"expected SQLite or PostgreSQL; got {self._engine.dialect.name}")
        self._budgets = dict(budgets)
        self._limits = tuple(limits)
        self._now_s = now_s
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            _metadata.create_all(connection)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def reserve(self, event: ReleaseEvent) -> str:
        """Set budget aside for one release; durable when this returns.

        Returns:
            The reservation's id.

        Raises:
            BudgetExhaustedError: it does not fit; nothing was written.
            BudgetMissingError: the population has no budget.
            ReservationError: the task has a reservation already (open or committed).
            LedgerTamperedError: the chain is broken; nothing was written.
        """
        return self._reserve(event)

    def supplement(self, reservation: str, event: ReleaseEvent) -> str:
        """Pay, at once and for good, for what a release costs beyond its reservation.

        Args:
            reservation: An open or committed reservation of the same scope.
            event: A release whose price is the difference; it has a task id of its own.

        Returns:
            The supplement's id. It is committed: what it pays for has happened, or is about to.

        Raises:
            BudgetExhaustedError: it does not fit; nothing was written, and the release must stop.
            ReservationError: unknown or voided reservation, or a supplement of that id exists.
            LedgerTamperedError: the chain is broken; nothing was written.
        """
        return self._reserve(event, supplements=reservation)

    def _reserve(self, event: ReleaseEvent, *, supplements: str | None = None) -> str:
        budget = self.budget_of(event.population)
        scope = scope_of(event)
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            rows = _verified_rows(connection)
            past = [each for each in reservations_of(rows) if each.counts]
            if supplements is not None and not any(
                each.id == supplements and scope_of(each.event) == scope for each in past
            ):
                raise ReservationError("there is no such reservation to supplement")
            if any(each.event.task_id == event.task_id for each in past):
                raise ReservationError(f"task {event.task_id} has a reservation already")
            verdict = admits(
                budget=budget,
                past=[each.event for each in past if scope_of(each.event) == scope],
                new=event,
                limits=self._limits,
            )
            if not verdict.admitted:
                raise BudgetExhaustedError(f"release refused: {verdict.reason}")
            body: dict[str, Any] = {
                "event": json.loads(event.to_json()),
                "budget": {"epsilon": budget.epsilon, "delta": budget.delta},
            }
            covering = [str(limit) for limit in self._limits if limit.covers(event)]
            if covering:
                body["limits"] = covering
            if supplements is not None:
                body["supplements"] = supplements
            reservation = secrets.token_hex(16)
            row = self._append(connection, rows, RowKind.RESERVE, reservation, body)
            if supplements is not None:
                paid = {"accepted": 0}
                self._append(connection, [*rows, row], RowKind.COMMIT, reservation, paid)
        return reservation

    def commit(self, reservation: str, accepted: int) -> None:
        """Record that the release happens; call it before the noisy sum is handed to anyone.

        Args:
            reservation: An open reservation.
            accepted: How many contributions the sum holds.

        Raises:
            ReservationError: unknown or already settled.
            LedgerTamperedError: the chain is broken; nothing was written.
        """
        if accepted < 0:
            raise ValueError(f"accepted must be at least 0; got {accepted}")
        self._settle(reservation, RowKind.COMMIT, {"accepted": accepted})

    def void(self, reservation: str, reason: str) -> None:
        """Give the budget back, where nothing was released.

        Args:
            reservation: An open reservation.
            reason: In words, for the auditor; nothing about a person.

        Raises:
            ReservationError: unknown, or already settled (a committed one stays spent).
            LedgerTamperedError: the chain is broken; nothing was written.
        """
        self._settle(reservation, RowKind.VOID, {"reason": reason})

    def note(self, reservation: str, facts: Mapping[str, Any]) -> None:
        """Write down what became of a reservation that was not voided; it changes no price.

        Args:
            reservation: Open or committed.
            facts: Plain JSON values, for the auditor; nothing about a person.

        Raises:
            ReservationError: unknown or voided.
            LedgerTamperedError: the chain is broken; nothing was written.
        """
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            rows = _verified_rows(connection)
            known = {each.id: each for each in reservations_of(rows)}.get(reservation)
            if known is None or not known.counts:
                raise ReservationError("there is no such reservation to note anything about")
            self._append(connection, rows, RowKind.NOTE, reservation, facts)

    def budget_of(self, population: str) -> Budget:
        """Return the population's budget.

        Raises:
            BudgetMissingError: it has none.
        """
        try:
            return self._budgets[population]
        except KeyError as error:
            raise BudgetMissingError(
                f"population {population!r} has no budget; set one before releasing"
            ) from error

    def limits_of(self, population: str) -> tuple[ScopeLimit, ...]:
        """Return the limits inside a population's total."""
        return tuple(limit for limit in self._limits if limit.population == population)

    def spent(
        self,
        population: str | Scope,
        *,
        within: ScopeLimit | None = None,
        window: str | None = None,
    ) -> Spent:
        """Return what a scope has spent; a name means the real releases of that population.

        Args:
            population: Whose.
            within: Only what this limit covers, and at its budget; by default the total.
            window: Only what is booked under this label: for a limit on each window.

        Raises:
            BudgetMissingError: the population has no budget.
            LedgerTamperedError: the chain is broken.
        """
        scope = Scope(population=population) if isinstance(population, str) else population
        budget = self.budget_of(scope.population) if within is None else within.budget
        events = tuple(
            each.event
            for each in self.reservations()
            if each.counts
            and scope_of(each.event) == scope
            and (within is None or within.covers(each.event))
            and window in (None, each.event.window)
        )
        return Spent(
            scope=scope,
            budget=budget,
            epsilon_pld=epsilon_pld(events, budget.delta),
            epsilon_exact=epsilon_deciding(events, budget.delta),
            delta=budget.delta,
            events=events,
        )

    def scopes(self) -> tuple[Scope, ...]:
        """Return every scope that something was reserved for, in order of appearance."""
        return tuple(dict.fromkeys(scope_of(each.event) for each in self.reservations()))

    def reservations(self) -> tuple[Reservation, ...]:
        """Return every reservation with its state, oldest first.

        Raises:
            LedgerTamperedError: the chain is broken.
        """
        with self._engine.connect() as connection:
            return reservations_of(_verified_rows(connection))

    def reservation_for(self, task_id: str) -> Reservation | None:
        """Return the newest reservation of a task, or None; for a run that resumes."""
        found = [each for each in self.reservations() if each.event.task_id == task_id]
        return found[-1] if found else None

    def rows(self) -> tuple[LedgerRow, ...]:
        """Return every row as stored, unverified, for the auditor."""
        with self._engine.connect() as connection:
            return _all_rows(connection)

    def head(self) -> Head:
        """Return the last row's number and hash (`EMPTY_HEAD` when there is none)."""
        return head_of(self.rows())

    def verify(self, *, noted: Head | None = None) -> Head:
        """Check the whole chain.

        Args:
            noted: A head that was noted earlier, elsewhere; the chain must still pass through it.

        Returns:
            The present head.

        Raises:
            LedgerTamperedError: a row was changed, removed, added or moved; or the noted head is
                no longer part of the chain.
        """
        return verify_chain(self.rows(), noted=noted)

    def _settle(self, reservation: str, kind: RowKind, body: Mapping[str, Any]) -> None:
        with one_writer(self._engine, lock=_ADVISORY_LOCK) as connection:
            rows = _verified_rows(connection)
            known = {each.id: each for each in reservations_of(rows)}.get(reservation)
            if known is None:
                raise ReservationError("unknown reservation")
            if known.state is not RowKind.RESERVE:
                raise ReservationError(f"the reservation is settled already: {known.state.value}")
            self._append(connection, rows, kind, reservation, body)

    def _append(
        self,
        connection: Connection,
        rows: Sequence[LedgerRow],
        kind: RowKind,
        reservation: str,
        body: Mapping[str, Any],
    ) -> LedgerRow:
        row = next_row(
            rows,
            kind=kind,
            reservation=reservation,
            at_ms=int(self._now_s() * 1000),
            body=body,
        )
        connection.execute(insert(_rows).values(vars(row)))
        return row


def _all_rows(connection: Connection) -> tuple[LedgerRow, ...]:
    found = connection.execute(select(_rows).order_by(_rows.c.seq))
    return tuple(LedgerRow(**row) for row in found.mappings())


def _verified_rows(connection: Connection) -> tuple[LedgerRow, ...]:
    rows = _all_rows(connection)
    verify_chain(rows)
    return rows
