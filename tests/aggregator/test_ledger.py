"""The ledger's storage: one contract class for SQLite and PostgreSQL.

Longer than 400 lines because everything that a ledger promises is asked of both databases.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from aggregator.ledger import Ledger
from client_sdk.wire import Purpose, TaskKind
from privacy.accounting import epsilon_gaussian, fits
from privacy.budget import EACH_WINDOW, Budget, Scope, ScopeLimit
from privacy.chain import EMPTY_HEAD, RowKind
from privacy.errors import (
    BudgetExhaustedError,
    BudgetMissingError,
    LedgerTamperedError,
    ReservationError,
)
from privacy.events import AssumedPopulation, MechanismName, NoiseSource, ReleaseEvent
from privacy.gaussian import noise_multiplier_for

BUDGET = Budget(epsilon=2.0, delta=1e-6)
RELEASES = 5
#: Exactly five of these fit into the budget.
SIGMA = noise_multiplier_for(epsilon=2.0, delta=1e-6, releases=RELEASES)
POSTGRESQL = os.environ.get(
    "HOMEBODY_TEST_POSTGRESQL", "postgresql+psycopg://root@/test?host=/var/run/postgresql"
)


def event(noise_multiplier: float = SIGMA, **changes: Any) -> ReleaseEvent:
    """One Gaussian release of a task of its own."""
    values: dict[str, Any] = {
        "kind": TaskKind.ITEM_COUNTS,
        "task_id": secrets.token_hex(16),
        "population": "shop",
        "noise_multiplier": noise_multiplier,
        "clip_norm": 1.0,
        "dimension": 5,
        "report_goal": 10,
    }
    return ReleaseEvent(**{**values, **changes})


def reserve_then_die(url: str) -> None:
    """What a process does that is killed between reservation and release."""
    Ledger(url, {"shop": BUDGET}).reserve(event())
    os._exit(1)


def reserve_until_refused(url: str, admitted: Any) -> None:
    """What a competing process does."""
    ledger = Ledger(url, {"shop": BUDGET})
    for _ in range(RELEASES):
        try:
            ledger.reserve(event())
        except BudgetExhaustedError:
            break
        with admitted.get_lock():
            admitted.value += 1
    ledger.close()


class LedgerContract:
    """What a ledger keeps on every database."""

    @pytest.fixture
    def url(self) -> str:
        """A database of its own."""
        raise AssertionError("each subclass of the contract says this")

    @pytest.fixture
    def ledger(self, url: str) -> Iterator[Ledger]:
        """An empty ledger whose clock stands."""
        ledger = Ledger(url, {"shop": BUDGET, "café": BUDGET}, now_s=lambda: 1_760_000_000.25)
        yield ledger
        ledger.close()

    @pytest.fixture
    def forger(self, url: str) -> Iterator[Engine]:
        """Somebody with write access to the database."""
        engine = create_engine(url)
        yield engine
        engine.dispose()

    def test_reservation_counts_at_once(self, ledger: Ledger) -> None:
        """Before anyone was asked."""
        reserved = event()
        reservation = ledger.reserve(reserved)
        spent = ledger.spent("shop")
        assert spent.events == (reserved,)
        assert spent.epsilon_pld == pytest.approx(spent.epsilon_exact, rel=1e-4)
        assert spent.delta == BUDGET.delta
        assert ledger.reservations()[0].id == reservation

    def test_commit_keeps_it_spent_and_counts_contributions(self, ledger: Ledger) -> None:
        """For the auditor."""
        ledger.commit(ledger.reserve(event()), 17)
        (reservation,) = ledger.reservations()
        assert (reservation.state, reservation.accepted) == (RowKind.COMMIT, 17)
        assert len(ledger.spent("shop").events) == 1

    def test_void_gives_the_budget_back(self, ledger: Ledger) -> None:
        """Where nothing was released."""
        whole = event(noise_multiplier_for(epsilon=2.0, delta=1e-6))
        ledger.void(ledger.reserve(whole), "QuorumNotReachedError")
        assert ledger.spent("shop").epsilon_pld == 0.0
        ledger.reserve(whole)

    def test_planned_releases_fit_and_the_next_is_refused(self, ledger: Ledger) -> None:
        """A hard stop; the refused one leaves no trace."""
        for _ in range(RELEASES):
            ledger.commit(ledger.reserve(event()), 10)
        rows = ledger.rows()
        with pytest.raises(BudgetExhaustedError, match="ε 2 at δ 1e-06"):
            ledger.reserve(event(1e4))
        assert ledger.rows() == rows
        assert ledger.spent("shop").epsilon_exact <= 2.0

    def test_release_without_noise_is_refused(self, ledger: Ledger) -> None:
        """No budget pays for it."""
        unsafe = event(0.0, mechanism=MechanismName.UNSAFE_NO_NOISE, noise_source=NoiseSource.NONE)
        with pytest.raises(BudgetExhaustedError, match="no finite price"):
            ledger.reserve(unsafe)

    def test_population_without_a_budget_is_refused(self, ledger: Ledger) -> None:
        """Fail closed."""
        with pytest.raises(BudgetMissingError, match="'bank'"):
            ledger.reserve(event(population="bank"))
        with pytest.raises(BudgetMissingError):
            ledger.spent("bank")

    def test_populations_have_budgets_of_their_own(self, ledger: Ledger) -> None:
        """Also those with a name beyond ASCII, which must survive the hash."""
        whole = noise_multiplier_for(epsilon=2.0, delta=1e-6)
        ledger.reserve(event(whole))
        ledger.reserve(event(whole, population="café"))
        assert [str(scope) for scope in ledger.scopes()] == ["shop", "café"]
        ledger.verify()

    def test_simulation_never_mixes_with_real_releases(self, ledger: Ledger) -> None:
        """A spent forecast leaves the real budget as it was."""
        whole = noise_multiplier_for(epsilon=2.0, delta=1e-6)
        assumed = AssumedPopulation(simulated_people=10, people=1000)
        ledger.reserve(event(whole, assumed=assumed))
        ledger.reserve(event(whole, noise_source=NoiseSource.SEEDED_SIMULATION))
        assert ledger.spent("shop").events == ()
        ledger.reserve(event(whole))
        forecast = Scope(population="shop", simulated=True, assumed_population=1000)
        assert len(ledger.spent(forecast).events) == 1

    def test_task_is_reserved_once_until_voided(self, ledger: Ledger) -> None:
        """A retried round must not be released twice under one reservation."""
        first = event()
        reservation = ledger.reserve(first)
        with pytest.raises(ReservationError):
            ledger.reserve(first)
        ledger.void(reservation, "retry")
        again = ledger.reserve(first)
        found = ledger.reservation_for(first.task_id)
        assert found is not None
        assert found.id == again
        assert ledger.reservation_for("0" * 32) is None

    def test_settled_or_unknown_reservation_is_refused(self, ledger: Ledger) -> None:
        """What was released stays spent."""
        reservation = ledger.reserve(event())
        ledger.commit(reservation, 1)
        for settle in (
            lambda: ledger.void(reservation, "regret"),
            lambda: ledger.commit(reservation, 1),
            lambda: ledger.void("f" * 32, "unknown"),
        ):
            with pytest.raises(ReservationError):
                settle()
        with pytest.raises(ValueError, match="accepted"):
            ledger.commit(reservation, -1)

    def test_rows_chain_and_tell_when(self, ledger: Ledger) -> None:
        """Numbered without a gap, each on the hash of the one before."""
        assert ledger.head() == EMPTY_HEAD == ledger.verify()
        ledger.commit(ledger.reserve(event()), 1)
        first, second = ledger.rows()
        assert (first.seq, second.seq) == (1, 2)
        assert (first.previous, second.previous) == (EMPTY_HEAD.hash, first.hash)
        assert first.at_ms == 1_760_000_000_250
        assert ledger.verify(noted=EMPTY_HEAD) == ledger.head()

    def test_killed_process_leaves_its_reservation_spent(self, url: str, ledger: Ledger) -> None:
        """A crash over-counts; it never under-counts."""
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=reserve_then_die, args=(url,))
        process.start()
        process.join(60)
        assert process.exitcode == 1
        (reservation,) = ledger.reservations()
        assert reservation.state is RowKind.RESERVE
        assert len(ledger.spent("shop").events) == 1

    def test_many_threads_never_overspend(self, url: str) -> None:
        """Forty askers with ledgers of their own, five places: five get one."""
        start = threading.Barrier(8)

        def ask() -> int:
            ledger = Ledger(url, {"shop": BUDGET})
            start.wait(60)
            admitted = 0
            for _ in range(5):
                try:
                    ledger.commit(ledger.reserve(event()), 1)
                except BudgetExhaustedError:
                    continue
                admitted += 1
            ledger.close()
            return admitted

        with ThreadPoolExecutor(8) as pool:
            admitted = sum(future.result() for future in [pool.submit(ask) for _ in range(8)])
        ledger = Ledger(url, {"shop": BUDGET})
        events = ledger.spent("shop").events
        assert admitted == len(events) == RELEASES
        assert epsilon_gaussian(events, BUDGET.delta) <= BUDGET.epsilon
        assert ledger.verify().seq == 2 * RELEASES
        ledger.close()

    def test_limit_of_a_purpose_and_window_stops_before_the_total(self, url: str) -> None:
        """Population × purpose × window: each hard by itself, and the total over all of them."""
        quarter = ScopeLimit(
            population="shop",
            purpose=Purpose.TRAIN,
            window=EACH_WINDOW,
            budget=Budget(epsilon=1.3, delta=1e-6),
        )
        ledger = Ledger(url, {"shop": BUDGET, "café": BUDGET}, limits=[quarter])
        most = noise_multiplier_for(epsilon=1.3, delta=1e-6)
        training = {"kind": TaskKind.ITEM_TRAINING, "window": "2026-Q3"}
        ledger.reserve(event(most, **training))
        rows = ledger.rows()
        with pytest.raises(BudgetExhaustedError, match="shop × train × each window"):
            ledger.reserve(event(100.0, **training))
        assert ledger.rows() == rows
        ledger.reserve(event(most, **{**training, "window": "2026-Q4"}))
        ledger.reserve(event(most, population="café", **training))
        ledger.reserve(event(10 * most, window="2026-Q3"))
        with pytest.raises(BudgetExhaustedError, match="budget of shop is"):
            ledger.reserve(event(most, **{**training, "window": "2027-Q1"}))
        spent = ledger.spent("shop", within=quarter, window="2026-Q3")
        assert spent.epsilon_exact == pytest.approx(1.3, rel=1e-6)
        assert spent.budget == quarter.budget
        assert len(ledger.spent("shop", within=quarter).events) == 2
        assert len(ledger.spent("shop").events) == 3
        assert ledger.limits_of("shop") == (quarter,)
        assert ledger.limits_of("café") == ()
        ledger.close()

    def test_sixteen_writers_never_overspend_any_scope(self, url: str) -> None:
        """Each with a ledger of its own, over two purposes and two windows at once."""
        limits = [
            ScopeLimit(
                population="shop",
                purpose=purpose,
                window=EACH_WINDOW,
                budget=Budget(epsilon=0.9, delta=1e-6),
            )
            for purpose in (Purpose.TRAIN, Purpose.STATISTICS)
        ]
        sigma = noise_multiplier_for(epsilon=0.9, delta=1e-6, releases=3)
        asked = [
            {"kind": kind, "window": window}
            for kind in (TaskKind.ITEM_TRAINING, TaskKind.ITEM_COUNTS)
            for window in ("2026-Q3", "2026-Q4")
        ]
        start = threading.Barrier(16)

        def ask(writer: int) -> int:
            ledger = Ledger(url, {"shop": BUDGET}, limits=limits)
            start.wait(60)
            admitted = 0
            for turn in range(len(asked)):
                try:
                    ledger.reserve(event(sigma, **asked[(writer + turn) % len(asked)]))
                except BudgetExhaustedError:
                    continue
                admitted += 1
            ledger.close()
            return admitted

        with ThreadPoolExecutor(16) as pool:
            admitted = sum(pool.map(ask, range(16)))
        ledger = Ledger(url, {"shop": BUDGET}, limits=limits)
        events = ledger.spent("shop").events
        assert admitted == len(events) == ledger.verify().seq
        assert fits(events, epsilon=BUDGET.epsilon, delta=BUDGET.delta)
        for limit in limits:
            for window in ("2026-Q3", "2026-Q4"):
                spent = ledger.spent("shop", within=limit, window=window)
                assert spent.epsilon_exact <= 0.9
                assert len(spent.events) <= 3
        # Sixty-four asked; one more of any kind fits nowhere.
        for changes in asked:
            with pytest.raises(BudgetExhaustedError):
                ledger.reserve(event(sigma, **changes))
        assert 6 <= admitted <= 12
        ledger.close()

    def test_notes_and_supplements_belong_to_a_reservation(self, ledger: Ledger) -> None:
        """A note changes no price; a supplement is paid at once, and for good."""
        reservation = ledger.reserve(event(8.0))
        ledger.note(reservation, {"round": 0})
        ledger.commit(reservation, 3)
        before = ledger.spent("shop").epsilon_exact
        ledger.note(reservation, {"round": 1})
        assert ledger.spent("shop").epsilon_exact == before
        supplement = ledger.supplement(reservation, event(9.0))
        found = {each.id: each for each in ledger.reservations()}
        assert [facts["round"] for facts in found[reservation].notes] == [0, 1]
        assert (found[supplement].supplements, found[supplement].state) == (
            reservation,
            RowKind.COMMIT,
        )
        assert ledger.spent("shop").epsilon_exact > before
        with pytest.raises(ReservationError):
            ledger.void(supplement, "regret")
        rows = ledger.rows()
        with pytest.raises(BudgetExhaustedError):
            ledger.supplement(reservation, event(0.1))
        for unknown in (
            lambda: ledger.supplement("f" * 32, event(9.0)),
            lambda: ledger.supplement(reservation, event(9.0, population="café")),
            lambda: ledger.note("f" * 32, {"round": 0}),
        ):
            with pytest.raises(ReservationError):
                unknown()
        assert ledger.rows() == rows
        ledger.verify()

    def test_voided_reservation_takes_no_note(self, ledger: Ledger) -> None:
        """What never was has no story."""
        reservation = ledger.reserve(event())
        ledger.void(reservation, "nobody came")
        with pytest.raises(ReservationError):
            ledger.note(reservation, {"round": 0})
        with pytest.raises(ReservationError):
            ledger.supplement(reservation, event(9.0))

    def test_many_processes_never_overspend(self, url: str, ledger: Ledger) -> None:
        """The lock is the database's, not the interpreter's."""
        context = multiprocessing.get_context("spawn")
        admitted = context.Value("i", 0)
        processes = [
            context.Process(target=reserve_until_refused, args=(url, admitted)) for _ in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert admitted.value == len(ledger.spent("shop").events) == RELEASES
        ledger.verify()

    @pytest.mark.parametrize(
        "forgery",
        [
            "UPDATE ledger SET body = replace(body, '\"epsilon\"', '\"Epsilon\"') WHERE seq = 3",
            "UPDATE ledger SET kind = 'void' WHERE seq = 3",
            "UPDATE ledger SET at_ms = at_ms + 1 WHERE seq = 3",
            "UPDATE ledger SET reservation = 'x' WHERE seq = 3",
            "DELETE FROM ledger WHERE seq = 3",
        ],
    )
    def test_forged_row_is_named_and_nothing_is_admitted(
        self, ledger: Ledger, forger: Engine, forgery: str
    ) -> None:
        """Every way in verifies first."""
        reservations = [ledger.reserve(event()) for _ in range(4)]
        with forger.begin() as connection:
            assert connection.execute(text(forgery)).rowcount == 1
        for use in (
            ledger.verify,
            lambda: ledger.reserve(event()),
            lambda: ledger.commit(reservations[0], 1),
            lambda: ledger.spent("shop"),
        ):
            with pytest.raises(LedgerTamperedError, match="row 3") as caught:
                use()
            assert caught.value.row == 3

    def test_cut_off_tail_is_noticed_against_a_noted_head(
        self, ledger: Ledger, forger: Engine
    ) -> None:
        """The registry notes heads for this."""
        ledger.reserve(event())
        ledger.reserve(event())
        noted = ledger.head()
        ledger.reserve(event())
        assert ledger.verify(noted=noted).seq == 3
        with forger.begin() as connection:
            connection.execute(text("DELETE FROM ledger WHERE seq >= 2"))
        ledger.verify()
        with pytest.raises(LedgerTamperedError, match="noted head"):
            ledger.verify(noted=noted)

    def test_ledger_opens_again_where_it_was(self, url: str, ledger: Ledger) -> None:
        """And an engine serves as well as a URL."""
        ledger.reserve(event())
        engine = create_engine(url)
        again = Ledger(engine, {"shop": BUDGET})
        assert again.head() == ledger.head()
        again.close()


class TestSqlite(LedgerContract):
    """The default: one file."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A file of its own."""
        return f"sqlite:///{tmp_path / 'ledger.db'}"

    def test_another_database_is_refused(self) -> None:
        """Its locks are not known to hold."""
        from sqlalchemy import create_mock_engine

        engine: Any = create_mock_engine("mysql+pymysql://", lambda *_: None)
        with pytest.raises(ValueError, match="SQLite or PostgreSQL"):
            Ledger(engine, {})


class TestPostgresql(LedgerContract):
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
