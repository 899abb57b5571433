"""Training runs: what is booked, what is refused, what survives a restart, and what it cost.

Longer than 400 lines because every row of the module's table of restarts is tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import create_engine, text

from aggregator.errors import QuorumNotReachedError, RunKeyError, RunStateError
from aggregator.run_keys import FileNoiseKeys, MemoryNoiseKeys
from aggregator.run_plan import RunPlan
from aggregator.run_store import RunStage, RunStore
from aggregator.strategy import Collected
from aggregator.training_run import TrainingRun
from client_sdk.wire import Refusal, RunTerms
from privacy.accounting import epsilon_gaussian
from privacy.bounded_sum import STEPS, BoundedSum
from privacy.budget import Budget
from privacy.chain import Reservation, RowKind
from privacy.clipping import ClippingPolicy
from privacy.correlated import apply, init
from privacy.errors import BudgetExhaustedError, ReservationError
from privacy.factorisation import Factorisation, FactorisationName
from privacy.mechanisms import UnsafeNoNoise
from tests.aggregator.training_town import (
    BLT,
    BUDGET,
    DIMENSION,
    PEOPLE,
    ROUNDS,
    SIGMA,
    TrainingTown,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where everything of the town lies."""
    return tmp_path


def open_town(folder: Path, *, budget: Budget = BUDGET) -> TrainingTown:
    """Open the town of a folder; twice is a restart."""
    return TrainingTown(f"sqlite:///{folder / 'house.db'}", folder / "keys", budget=budget)


@pytest.fixture
def town(folder: Path) -> Iterator[TrainingTown]:
    """A town with nothing booked."""
    opened = open_town(folder)
    yield opened
    opened.close()


def booked(town: TrainingTown, run: TrainingRun) -> Reservation:
    """Give the run's reservation."""
    found = town.ledger.reservation_for(run.plan.run_id)
    assert found is not None
    return found


def execute(folder: Path, *statements: str) -> None:
    """Do to the database what nobody should."""
    engine = create_engine(f"sqlite:///{folder / 'house.db'}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def sum_of(town: TrainingTown, cohort: list[int]) -> NDArray[np.float64]:
    """Give the clipped sum of these people without noise."""
    total = BoundedSum(dimension=DIMENSION, clip_norm=1.0)
    for node_id in cohort:
        total.add(town.devices[node_id].vector)
    return total.release(UnsafeNoNoise())


def test_run_is_one_release_committed_before_its_first_sum(town: TrainingTown) -> None:
    """One reservation for all rounds, one commit, and a note for each round before it is seen."""
    run = town.begin()
    assert booked(town, run).state is RowKind.RESERVE
    seen: list[tuple[RowKind, int]] = []

    def made(_: NDArray[np.float64]) -> None:
        seen.append((booked(town, run).state, len(booked(town, run).notes)))

    while not run.is_complete:
        town.one_round(run, made=made)
        assert len(booked(town, run).notes) == run.rounds_done
    assert seen == [(RowKind.COMMIT, number) for number in range(ROUNDS)]
    (event,) = town.ledger.spent("town").events
    assert event == run.plan.event
    assert (event.mechanism.value, event.rounds) == ("blt", ROUNDS)
    assert town.ledger.spent("town").epsilon_exact == pytest.approx(epsilon_gaussian([event], 1e-6))


@pytest.mark.parametrize("name", list(FactorisationName))
def test_run_publishes_clipped_sums_plus_the_noise_of_its_key(
    name: FactorisationName, town: TrainingTown
) -> None:
    """Every mechanism: the sum is the strategy's, the noise that of `privacy.correlated`."""
    plan = replace(
        BLT,
        name=name,
        decays=BLT.decays if name is FactorisationName.BLT else (),
        weights=BLT.weights if name is FactorisationName.BLT else (),
        coefficients=(1.0, 0.4) if name is FactorisationName.BANDED_TOEPLITZ else (),
    )
    run = town.begin(factorisation=plan)
    key = town.keys.load(run.plan.run_id)
    assert key is not None
    state = init(factorisation=plan, dimension=DIMENSION, key=key)
    std_steps = SIGMA * plan.sensitivity() * STEPS
    for number in range(ROUNDS):
        cohort = town.cohort(number)
        published = town.one_round(run)
        noise, state = apply(state, std_steps=std_steps)
        np.testing.assert_allclose(
            published, sum_of(town, cohort) + noise / STEPS, rtol=0, atol=1e-6
        )


def test_run_realised_as_planned_is_noted_beside_the_plan(town: TrainingTown) -> None:
    """The end of a run: what was planned, what happened, no key, no participants."""
    run = town.begin()
    while not run.is_complete:
        town.one_round(run)
    realised = run.finish()
    assert vars(realised) == {"min_separation": 2, "max_participations": 3}
    assert booked(town, run).notes[-1] == {
        "realised": {"min_separation": 2, "max_participations": 3, "rounds": ROUNDS},
        "planned": {"min_separation": 2, "max_participations": 3, "rounds": ROUNDS},
    }
    assert run.supplements == ()
    assert town.keys.load(run.plan.run_id) is None
    assert town.store.newly_lost_rounds(_loaded(town, run)) == ROUNDS
    again = town.runs.resume(run.plan.run_id)
    assert again.is_complete
    assert again.finish() == realised
    assert again.model == run.model
    assert len(booked(town, run).notes) == ROUNDS + 1
    with pytest.raises(RunStateError, match="over"):
        town.one_round(again)


def _loaded(town: TrainingTown, run: TrainingRun):  # type: ignore[no-untyped-def]
    found = town.store.load(run.plan.run_id)
    assert found is not None
    return found


def test_run_device_that_comes_too_soon_is_refused_and_the_sum_is_unmoved(
    town: TrainingTown,
) -> None:
    """The aggregator counts by itself: a device that forgot its rounds does not get in."""
    run = town.begin()
    town.one_round(run, [1, 3])
    collected = town.collect(run, [1, 2])
    assert dict(collected.refusals) == {Refusal.PARTICIPATION_EXCEEDED: 1}
    assert collected.contributors == {town.devices[2].public_key_hex}
    np.testing.assert_array_equal(collected.total.release(UnsafeNoNoise()), sum_of(town, [2]))


def test_run_device_beyond_its_maximum_is_refused(town: TrainingTown) -> None:
    """Three rounds of one person were paid for, not four."""
    plan = replace(BLT, rounds=9)
    run = town.begin(factorisation=plan)
    for number in range(6):
        town.one_round(run, [1] if number % 2 == 0 else [2])
    collected = town.collect(run, [1, 3])
    assert dict(collected.refusals) == {Refusal.PARTICIPATION_EXCEEDED: 1}


def test_run_counts_devices_by_a_pseudonym_of_the_run(town: TrainingTown, folder: Path) -> None:
    """The table holds no public key, and two runs name the same device differently."""
    for _ in range(2):
        town.one_round(town.begin(), [1])
    engine = create_engine(f"sqlite:///{folder / 'house.db'}")
    with engine.connect() as connection:
        names = connection.execute(text("SELECT device FROM participations")).scalars().all()
    engine.dispose()
    assert len(set(names)) == 2
    assert town.devices[1].public_key_hex not in names


def test_run_over_budget_asks_nobody_and_leaves_nothing(folder: Path) -> None:
    """The whole run must fit before its first round; its key is gone at once."""
    town = open_town(folder, budget=Budget(epsilon=0.01, delta=1e-6))
    with pytest.raises(BudgetExhaustedError):
        town.begin()
    assert town.store.running() == []
    assert list((folder / "keys").iterdir()) == []
    town.close()


def test_run_below_quorum_can_ask_again_with_the_same_noise(town: TrainingTown) -> None:
    """A round that was not made costs nothing, and its noise is still that of the round."""
    run = town.begin()
    key = town.keys.load(run.plan.run_id)
    assert key is not None
    picky = replace(town.campaign(), quorum=3)
    with pytest.raises(QuorumNotReachedError):
        picky.collect_round(run, parameters={}, payload=b"", cohort=[1, 2])
    assert booked(town, run).state is RowKind.RESERVE
    noise, _ = apply(
        init(factorisation=BLT, dimension=DIMENSION, key=key),
        std_steps=SIGMA * BLT.sensitivity() * STEPS,
    )
    published = town.one_round(run, [1, 2, 3])
    np.testing.assert_allclose(
        published, sum_of(town, [1, 2, 3]) + noise / STEPS, rtol=0, atol=1e-6
    )


def test_run_resumed_goes_on_with_the_noise_that_it_would_have_had(folder: Path) -> None:
    """Stopped in the middle of round 2, after the noise was made: made again, it is the same."""
    town = open_town(folder)
    run = town.begin()
    town.one_round(run)
    town.one_round(run)
    made: list[bytes] = []

    def die(noisy_sum: NDArray[np.float64]) -> None:
        made.append(noisy_sum.tobytes())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        town.one_round(run, made=die)
    town.close()
    again = open_town(folder)
    resumed = again.runs.resume(run.plan.run_id)
    assert resumed.rounds_done == 2
    assert again.one_round(resumed).tobytes() == made[0]
    while not resumed.is_complete:
        again.one_round(resumed)
    assert resumed.finish().max_participations == 3
    assert len(again.ledger.spent("town").events) == 1
    again.close()


def test_run_resumed_before_its_reservation_reserves_it(folder: Path) -> None:
    """A crash between the run's row and the ledger's leaves a run that nothing was paid for."""
    town = open_town(folder)
    run = town.begin()
    town.close()
    execute(folder, "DELETE FROM ledger")
    again = open_town(folder)
    assert booked(again, again.runs.resume(run.plan.run_id)).state is RowKind.RESERVE
    again.close()


def test_run_resumed_after_an_unnoted_round_notes_it(folder: Path) -> None:
    """The round is durable, its sum was never handed out: the ledger hears of it now."""
    town = open_town(folder)
    run = town.begin()
    town.one_round(run)
    digest = booked(town, run).notes[0]["sum_sha256"]
    town.close()
    execute(folder, "DELETE FROM ledger WHERE kind = 'note'")
    again = open_town(folder)
    resumed = again.runs.resume(run.plan.run_id)
    (facts,) = booked(again, resumed).notes
    assert (facts["round"], facts["sum_sha256"]) == (0, digest)
    again.close()


def test_run_whose_database_was_put_back_does_not_go_on(folder: Path) -> None:
    """Round 1 would be published a second time, with another sum under the same noise."""
    town = open_town(folder)
    run = town.begin()
    town.one_round(run)
    before = _loaded(town, run)
    town.one_round(run)
    town.close()
    engine = create_engine(f"sqlite:///{folder / 'house.db'}")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE training_runs SET rounds_done = 1, sealed_noise = :noise"),
            {"noise": before.sealed_noise},
        )
    engine.dispose()
    again = open_town(folder)
    with pytest.raises(RunStateError, match="the ledger knows 2 rounds, the database 1"):
        again.runs.resume(run.plan.run_id)
    again.close()


@pytest.mark.parametrize(("rounds", "state"), [(0, RowKind.VOID), (2, RowKind.COMMIT)])
def test_run_without_its_key_ends(folder: Path, rounds: int, state: RowKind) -> None:
    """Voided where nothing was published; else what was spent stays spent."""
    town = open_town(folder)
    run = town.begin()
    for _ in range(rounds):
        town.one_round(run)
    town.keys.destroy(run.plan.run_id)
    with pytest.raises(RunKeyError, match="lost"):
        town.runs.resume(run.plan.run_id)
    assert booked(town, run).state is state
    assert _loaded(town, run).stage is RunStage.STOPPED
    town.close()


def test_run_with_another_key_does_not_open_its_noise(town: TrainingTown) -> None:
    """A key of another run would give noise that does not fit the rounds before."""
    run = town.begin()
    town.one_round(run)
    town.keys.destroy(run.plan.run_id)
    town.keys.store(run.plan.run_id, os.urandom(32))
    with pytest.raises(RunKeyError, match="does not open"):
        town.runs.resume(run.plan.run_id)


def test_run_stopped_before_its_first_sum_is_voided(town: TrainingTown) -> None:
    """Nothing was released, the budget is back, the key is gone."""
    run = town.begin()
    run.stop("nobody came")
    assert town.ledger.spent("town").events == ()
    assert town.keys.load(run.plan.run_id) is None
    with pytest.raises(RunStateError, match="over"):
        town.one_round(run)
    with pytest.raises(RunStateError, match="not booked"):
        run.finish()


def test_run_stopped_after_a_sum_stays_spent(town: TrainingTown) -> None:
    """A part of the rounds was seen: the ledger counts the whole, which is above the truth."""
    run = town.begin()
    town.one_round(run)
    run.stop("enough")
    assert town.ledger.spent("town").events == (run.plan.event,)
    assert booked(town, run).notes[-1] == {"stopped": "enough", "rounds": 1}


def test_run_closed_by_another_process_publishes_nothing_twice(town: TrainingTown) -> None:
    """Two aggregators resume one run: one closes the round, the other gets an error and no sum."""
    first = town.begin()
    second = town.runs.resume(first.plan.run_id)
    collected = town.collect(second)
    town.one_round(first)
    with pytest.raises(RunStateError, match="closed by somebody else"):
        second.close_round(collected, lambda noisy_sum: noisy_sum.tobytes())
    assert [facts["round"] for facts in booked(town, first).notes] == [0]


def test_run_reserved_twice_is_refused(town: TrainingTown) -> None:
    """The id of a run names one release."""
    run = town.begin(run_id="ab" * 16)
    town.one_round(run)
    town.keys.destroy(run.plan.run_id)
    execute_delete = "DELETE FROM training_runs"
    engine = create_engine(town.ledger._engine.url)
    with engine.begin() as connection:
        connection.execute(text(execute_delete))
    engine.dispose()
    with pytest.raises(ReservationError):
        town.begin(run_id="ab" * 16)
    assert booked(town, run).state is RowKind.COMMIT


@pytest.mark.parametrize(
    "lose",
    [
        "DELETE FROM participations",
        "DELETE FROM participations WHERE round = 0",
        "DELETE FROM participations; DELETE FROM training_rounds",
        "DROP TABLE participations",
    ],
)
def test_run_whose_participants_were_lost_pays_for_the_worst_first(folder: Path, lose: str) -> None:
    """Before anything more is published; and the ledger's ε is that of the worst case."""
    town = open_town(folder)
    run = town.begin()
    for _ in range(3):
        town.one_round(run)
    planned = town.ledger.spent("town").epsilon_exact
    town.close()
    execute(folder, *lose.split(";"))
    lost = 1 if "round = 0" in lose else 3
    again = open_town(folder)
    resumed = again.runs.resume(run.plan.run_id)
    again.one_round(resumed)
    (owed,) = resumed.supplements
    worst = Factorisation(
        **{**vars(BLT), "min_separation": 1, "max_participations": min(ROUNDS, lost + 3)}
    )
    dearer = replace(
        run.plan.event, noise_multiplier=SIGMA * BLT.sensitivity() / worst.sensitivity()
    )
    spent = again.ledger.spent("town")
    assert spent.events == (run.plan.event, owed)
    assert spent.epsilon_exact == pytest.approx(epsilon_gaussian([dearer], 1e-6), rel=1e-9)
    assert spent.epsilon_exact > planned * 1.1
    while not resumed.is_complete:
        again.one_round(resumed)
    realised = resumed.finish()
    assert realised.min_separation == 1
    assert realised.max_participations == min(ROUNDS, lost + 3)
    assert again.ledger.spent("town").events == (run.plan.event, owed)
    again.close()


def test_run_whose_participants_were_lost_stops_where_the_worst_does_not_fit(
    folder: Path,
) -> None:
    """Fail closed: no further round, the key destroyed, what was spent stays spent."""
    budget = Budget(epsilon=0.27, delta=1e-6)
    town = open_town(folder, budget=budget)
    run = town.begin()
    town.one_round(run)
    town.one_round(run)
    town.close()
    execute(folder, "DELETE FROM participations")
    again = open_town(folder, budget=budget)
    resumed = again.runs.resume(run.plan.run_id)
    with pytest.raises(BudgetExhaustedError):
        again.one_round(resumed)
    assert not resumed.is_running
    assert again.keys.load(run.plan.run_id) is None
    facts = booked(again, resumed).notes[-1]
    assert "supplement" in facts["stopped"]
    assert facts["unpaid"] == {"min_separation": 1, "max_participations": 5}
    assert again.ledger.spent("town").events == (run.plan.event,)
    with pytest.raises(RunStateError, match="stopped"):
        again.runs.resume(run.plan.run_id)
    again.close()


def test_run_realised_worse_than_planned_books_the_difference_at_the_end(
    town: TrainingTown, folder: Path
) -> None:
    """Rows that say somebody was in neighbouring rounds cost what that costs."""
    run = town.begin()
    while not run.is_complete:
        town.one_round(run, [1] if run.rounds_done % 2 == 0 else [2])
    # A second aggregator let device 1 into round 1 as well.
    execute(
        folder,
        "INSERT INTO participations SELECT run_id, device, 1 FROM participations WHERE round = 0",
        "UPDATE training_rounds SET contributors = 2 WHERE round = 1",
    )
    realised = run.finish()
    assert vars(realised) == {"min_separation": 1, "max_participations": 4}
    (_, owed) = town.ledger.spent("town").events
    worse = replace(BLT, min_separation=1, max_participations=4)
    expected = SIGMA * BLT.sensitivity() / worse.sensitivity()
    together = (run.plan.event.noise_multiplier**-2 + owed.noise_multiplier**-2) ** -0.5
    assert together == pytest.approx(expected, rel=1e-9)


def test_run_reply_to_an_older_clip_is_refused(town: TrainingTown) -> None:
    """The sum of a round is clipped by the clip in force, or it is not released."""
    policy = ClippingPolicy.adaptive(clip_norm=1.0)
    run = town.begin(clipping=policy)
    stale = Collected(
        order=replace(
            town.campaign()._order(
                run.plan.event.kind,
                dimension=DIMENSION + 1,
                parameters={},
                payload=b"",
                round_number=0,
                clip_norm=2.0,
                run=run.terms,
                clipping=run.clipping,
            )
        ),
        total=BoundedSum(dimension=DIMENSION + 1, clip_norm=2.0),
        contributors=frozenset(),
        invited=0,
        refusals={},  # type: ignore[arg-type]
        ignored=0,
        seconds=0.0,
    )
    with pytest.raises(ValueError, match="another clip"):
        run.close_round(stale, lambda noisy_sum: noisy_sum.tobytes())
    assert booked(town, run).state is RowKind.RESERVE


@pytest.mark.parametrize("changes", [{"round": 1}, {"run": None}, {"run": "other"}])
def test_run_sum_of_another_round_or_run_is_refused(
    town: TrainingTown, changes: dict[str, object]
) -> None:
    """What was collected under other terms is not of this release."""
    run = town.begin()
    collected = town.collect(run)
    if changes.get("run") == "other":
        other = RunTerms(**{**vars(run.terms), "run_id": "cd" * 16})
        changes = {"run": other}
    wrong = replace(collected, order=replace(collected.order, **changes))
    with pytest.raises(ValueError, match="another run or round"):
        run.close_round(wrong, lambda noisy_sum: noisy_sum.tobytes())
    assert booked(town, run).state is RowKind.RESERVE


def test_plan_survives_storage_and_refuses_what_is_none(town: TrainingTown) -> None:
    """A restart has the plan to the bit; a damaged one is not guessed."""
    plan = town.begin(clipping=ClippingPolicy.adaptive(clip_norm=0.7)).plan
    assert RunPlan.from_json(plan.to_json()) == plan
    with pytest.raises(RunStateError):
        RunPlan.from_json("{}")
    with pytest.raises(ValueError, match="factorisation"):
        RunPlan(
            event=replace(plan.event, mechanism="gaussian", factorisation=None),  # type: ignore[arg-type]
            started_at_s=0,
            clipping=plan.clipping,
        )


class TestNoiseKeys:
    """Where the secret lies."""

    def test_file_is_the_owners_alone_and_destroyed(self, tmp_path: Path) -> None:
        """0600 in a folder of 0700; destroyed means that the file is gone."""
        keys = FileNoiseKeys(tmp_path / "keys")
        keys.store("ab" * 16, bytes(range(32)))
        (file,) = (tmp_path / "keys").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
        assert keys.load("ab" * 16) == bytes(range(32))
        keys.destroy("ab" * 16)
        keys.destroy("ab" * 16)
        assert keys.load("ab" * 16) is None
        assert not file.exists()

    def test_key_that_others_may_read_is_not_used(self, tmp_path: Path) -> None:
        """Noise that somebody may have seen protects nobody."""
        keys = FileNoiseKeys(tmp_path / "keys")
        keys.store("ab" * 16, bytes(32))
        (file,) = (tmp_path / "keys").iterdir()
        file.chmod(0o640)
        with pytest.raises(RunKeyError, match="read by others"):
            keys.load("ab" * 16)
        (tmp_path / "open").mkdir(mode=0o755)
        with pytest.raises(RunKeyError):
            FileNoiseKeys(tmp_path / "open")

    def test_damaged_or_second_key_is_refused(self, tmp_path: Path) -> None:
        """One key a run, of its length, under a name that is no path."""
        keys = FileNoiseKeys(tmp_path / "keys")
        keys.store("ab" * 16, bytes(32))
        with pytest.raises(RunKeyError, match="already"):
            keys.store("ab" * 16, bytes(32))
        (file,) = (tmp_path / "keys").iterdir()
        file.write_bytes(b"short")
        with pytest.raises(RunKeyError, match="damaged"):
            keys.load("ab" * 16)
        with pytest.raises(ValueError, match="hexadecimal"):
            keys.load("../../etc/passwd")

    def test_database_alone_does_not_hold_the_key_or_the_noise(
        self, town: TrainingTown, folder: Path
    ) -> None:
        """Whoever copies the database can't subtract a thing."""
        run = town.begin()
        town.one_round(run)
        key = town.keys.load(run.plan.run_id)
        assert key is not None
        data = (folder / "house.db").read_bytes()
        assert key not in data
        assert b"homebody noise" not in data

    def test_memory_keys_end_with_their_process(self) -> None:
        """For simulations: store, load, destroy."""
        keys = MemoryNoiseKeys()
        keys.store("ab" * 16, bytes(32))
        assert keys.load("ab" * 16) == bytes(32)
        keys.destroy("ab" * 16)
        assert keys.load("ab" * 16) is None


def test_store_in_memory_or_another_database() -> None:
    """One in memory serves a simulation; an unknown database is refused."""
    store = RunStore("sqlite://")
    assert store.running() == []
    assert store.load("ab" * 16) is None
    store.close()


def test_adaptive_clip_moves_inside_a_run_and_survives_a_restart(folder: Path) -> None:
    """The clip of the next round is derived from what was published, and stored with it."""
    town = open_town(folder)
    run = town.begin(clipping=ClippingPolicy.adaptive(clip_norm=1.0))
    vectors = {n: each.vector for n, each in town.devices.items()}
    for node_id, vector in vectors.items():
        grown = np.append(vector.to_dense() * 0.1, 0.1).astype(np.float32)
        town.devices[node_id] = replace(
            town.devices[node_id], vector=type(vector).from_dense(grown)
        )
    published = town.one_round(run)
    assert published.shape == (DIMENSION,)
    clip = run.clip.clip_norm
    assert clip != 1.0
    town.close()
    again = open_town(folder)
    resumed = again.runs.resume(run.plan.run_id)
    assert resumed.clip.clip_norm == clip
    assert run.plan.event.dimension == DIMENSION + 1
    assert len(again.devices) == PEOPLE
    again.close()
