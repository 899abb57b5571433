"""Kill -9 while people train together, go on, and get the same bits and the same ledger."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.errors import QuorumNotReachedError, RunStateError
from aggregator.ledger import Ledger
from aggregator.run_keys import FileNoiseKeys
from aggregator.run_store import RunStore
from client_sdk.wire import Order
from models.item_training import initial_state
from privacy.budget import Budget
from privacy.chain import RowKind
from privacy.noise import GaussianNoise
from simulations.checkpoints.errors import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointForeignError,
    FolderInUseError,
)
from simulations.checkpoints.files import Checkpoints, Snapshot
from simulations.checkpoints.once_booked import OnceBooked
from simulations.checkpoints.training import Trained
from simulations.engines.holdings import Holdings
from simulations.engines.pool import ONE_THREAD, ShardSum, Threads
from tests.client_sdk.victims import Victims
from tests.simulations.checkpoints import killed_training
from tests.simulations.checkpoints.killed_training import (
    ITEMS,
    NO_NOISE,
    RANK,
    ROUNDS,
    TERMS,
    summary,
    town,
    train,
)

KILLS = {True: 14, False: 6}
MOST_KILLS = 100


class InterruptedRunError(Exception):
    """What a test's pool raises in place of a kill."""


class Stops:
    """A pool that is interrupted at one of its sums; a `simulations.engines.pool.Pool`."""

    def __init__(self, at: int) -> None:
        self._left = at

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up, or stop."""
        if not self._left:
            raise InterruptedRunError
        self._left -= 1
        return ONE_THREAD.add_up(order, holdings, people)


@pytest.fixture(scope="module", params=["private", "no-noise"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bool, Path, Trained]:
    """A run that nobody killed: whether it is private, its folder, what it gave."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    private = request.param == "private"
    return private, folder, train(folder, private=private)


def told(trained: Trained) -> dict[str, Any]:
    """Give a run's summary as it comes through a pipe."""
    found: dict[str, Any] = json.loads(json.dumps(summary(trained)))
    return found


def ledger_of(folder: Path) -> Ledger:
    """Open a run's ledger."""
    return Ledger(f"sqlite:///{folder / 'house.db'}", {"town": Budget(epsilon=9.0, delta=1e-6)})


def booked(folder: Path) -> list[Any]:
    """Give the ledger's reservations; of a round that was noted late, what both notes have."""
    with closing(ledger_of(folder)) as ledger:
        ledger.verify()
        rows = []
        for each in ledger.reservations():
            notes = [
                {name: note[name] for name in note if name in ("round", "sum_sha256", "realised")}
                for note in each.notes
            ]
            rows.append([each.event.to_json().decode(), each.state.value, each.accepted, notes])
        return rows


def place_of(folder: Path) -> str:
    """Say where a kill hit, by what it left."""
    checkpoints = sorted(folder.glob("checkpoint-*"))
    if not checkpoints or not (folder / "house.db").exists():
        return "before"
    steps = Snapshot.from_bytes(checkpoints[-1].read_bytes()).facts["steps"]
    if not steps or steps[-1]["run_id"] is None:
        return "counts"
    with closing(RunStore(f"sqlite:///{folder / 'house.db'}")) as store:
        run = store.load(steps[-1]["run_id"])
    if run is None:
        return "no noise"
    if run.stage == "finished":
        return "finished"
    return "round open" if run.rounds_done == steps[-1]["round"] else "round closed"


def test_killed_training_resumed_same_bits_and_ledger(
    whole: tuple[bool, Path, Trained], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL at random moments, again and again: tables, refusals and the ledger are the same."""
    private, folder, trained = whole
    expected, rng = told(trained), random.Random(20_261_122)  # noqa: S311 - a test's choices
    kills, runs, resumed = 0, 0, 0
    hit: Counter[str] = Counter()
    wanted = {"round open", "round closed"} if private else {"no noise"}
    with Victims.of(killed_training.__file__) as victims:
        run = tmp_path / "run"
        order = {"folder": str(run), "private": private}
        for _ in range(2):
            longest_s = victims.time_one(order, lambda said: "done" in said)
            shutil.rmtree(run)
        while True:
            said_enough = kills >= KILLS[private] and wanted <= set(hit)
            if said_enough and resumed and not run.exists():
                break
            # Once there were kills enough, a run that was hit is left alone.
            alone = said_enough and run.exists()
            after_s = longest_s * (4.0 if alone else 0.7 * rng.random())
            said = victims.kill_one(order, after_s)
            kills += 1
            assert kills < MOST_KILLS, "the kills came at the wrong times, and say nothing"
            assert not [line for line in said if "error" in line], said
            done = [line for line in said if "done" in line]
            if not done:
                hit[place_of(run)] += 1
                if (run / "house.db").exists():
                    check_spent(run, said)
                continue
            assert done[0]["done"] == expected
            assert booked(run) == booked(folder)
            resumed += done[0]["resumed_at"] > 0
            runs += 1
            shutil.rmtree(run)
    with capsys.disabled():
        print(f" {runs} runs, {resumed} of them resumed; kills hit {dict(hit)} ", end="")


def check_spent(folder: Path, said: list[dict[str, Any]]) -> None:
    """A round that was seen is committed and noted in the ledger, whatever was killed after it."""
    seen = [line["round"] for line in said if "round" in line]
    with closing(ledger_of(folder)) as ledger:
        ledger.verify()
        for each in ledger.reservations():
            if each.event.factorisation is not None and seen:
                assert each.state is RowKind.COMMIT
                noted = {facts.get("round") for facts in each.notes}
                assert set(seen) <= noted


def test_finished_training_run_again_gives_the_result_and_asks_nobody(
    whole: tuple[bool, Path, Trained],
) -> None:
    """A finished folder answers from what it holds."""
    private, folder, trained = whole
    before = booked(folder)
    again = train(folder, private=private, pool=Stops(at=0))
    assert told(again) == told(trained)
    assert again.resumed_at == ROUNDS + 1
    assert booked(folder) == before


@pytest.mark.parametrize("workers", [1, 3])
def test_training_interrupted_between_rounds_resumed_with_other_workers(
    whole: tuple[bool, Path, Trained], tmp_path: Path, workers: int
) -> None:
    """How many workers there are is no setting: any of them may go on."""
    private, _, trained = whole
    with pytest.raises(InterruptedRunError):
        train(tmp_path / "run", private=private, pool=Stops(at=1 + ROUNDS // 2))
    resumed = train(tmp_path / "run", private=private, pool=Threads(workers=workers))
    assert resumed.resumed_at == 1 + ROUNDS // 2
    assert told(resumed) == told(trained)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crowd": town(seed=6)}, "other people"),
        ({"terms": replace(TERMS, seed=4)}, "other settings"),
        ({"terms": replace(TERMS, quorum=11)}, "other settings"),
        ({"settings": {"scenario": "rain"}}, "other settings"),
        ({"start": initial_state(n_items=ITEMS, rank=RANK, seed=2)}, "other settings"),
        ({"code": "1" * 64}, "another version"),
    ],
    ids=["people", "seed", "quorum", "scenario", "start", "code"],
)
def test_checkpoint_of_another_simulation_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    """What decides the result is in the fingerprint, and the error says what differs."""
    with pytest.raises(InterruptedRunError):
        train(tmp_path, private=True, pool=Stops(at=0))
    with pytest.raises(CheckpointForeignError, match=words):
        train(tmp_path, private=True, **change)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "nonsense", "renamed"])
def test_checkpoint_damaged_one_clear_error(tmp_path: Path, damage: str) -> None:
    """A checkpoint that is not whole is named; nothing starts anew, and nothing is skipped."""
    with pytest.raises(InterruptedRunError):
        train(tmp_path, private=True, pool=Stops(at=3))
    newest = max(tmp_path.glob("checkpoint-*"))
    data = newest.read_bytes()
    middle = len(data) // 2
    if damage == "renamed":
        newest = newest.rename(tmp_path / "checkpoint-000000000099")
    else:
        newest.write_bytes(
            {
                "cut": data[:-1],
                "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
                "empty": b"",
                "nonsense": os.urandom(300),
            }[damage]
        )
    before = booked(tmp_path)
    with pytest.raises(CheckpointDamagedError, match=newest.name):
        train(tmp_path, private=True)
    assert booked(tmp_path) == before


def test_checkpoints_put_back_or_removed_refused(tmp_path: Path) -> None:
    """A folder whose checkpoints are older than its runs, or gone, does not go on."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    with pytest.raises(InterruptedRunError):
        train(run, private=True, pool=Stops(at=3))
    shutil.copytree(run, copy)
    train(run, private=True)
    for old in run.glob("checkpoint-*"):
        old.unlink()
    with pytest.raises(CheckpointDamagedError, match="has no checkpoint"):
        train(run, private=True)
    for old in copy.glob("checkpoint-*"):
        shutil.copy(old, run)
    with pytest.raises(CheckpointDamagedError, match="put back"):
        train(run, private=True)


def test_checkpoint_before_an_open_round_missing_refused(tmp_path: Path) -> None:
    """Where the round of the newest checkpoint was not closed, the one before is needed."""

    class StopsAfterError(Exception):
        pass

    def stop(number: int) -> None:
        if number == 2:
            raise StopsAfterError

    with pytest.raises(StopsAfterError):
        train(tmp_path, private=True, on_round=stop)
    *others, newest = sorted(tmp_path.glob("checkpoint-*"))
    snapshot = Snapshot.from_bytes(newest.read_bytes())
    steps = [*snapshot.facts["steps"], {**snapshot.facts["steps"][-1], "round": 3}]
    with Checkpoints(tmp_path) as checkpoints:
        facts = {**snapshot.facts, "steps": steps}
        checkpoints.save(replace(snapshot, step=len(steps), facts=facts))
    for each in (*others, newest):
        each.unlink(missing_ok=True)
    with pytest.raises(CheckpointDamagedError, match="lacks checkpoint"):
        train(tmp_path, private=True)


class FullDisk(Stops):
    """A pool beside a disk that is full from one of its sums on: no checkpoint can be written."""

    def __init__(self, at: int, folder: Path) -> None:
        super().__init__(at)
        self._folder = folder

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up; from then on nothing can be written at the checkpoint's place."""
        if not self._left:
            (self._folder / "unfinished").mkdir()
        self._left -= 1
        return ONE_THREAD.add_up(order, holdings, people)


@pytest.mark.parametrize("at", [0, 1 + ROUNDS // 2])
def test_checkpoint_not_written_resumed_same_bits_and_booked_once(
    whole: tuple[bool, Path, Trained], tmp_path: Path, at: int
) -> None:
    """Where the disk is full after a commit, one clear error; then on, and nothing booked twice.

    A noise key whose run was never stored, which a kill may leave as well, is in nobody's way.
    """
    private, folder, trained = whole
    with pytest.raises(CheckpointError, match="no checkpoint could be written"):
        train(tmp_path, private=private, pool=FullDisk(at, tmp_path))
    (tmp_path / "unfinished").rmdir()
    if private and at == 0:
        assert booked(tmp_path)[0][1] == "commit"
        run_id = trained.learned.run_events[0].task_id
        FileNoiseKeys(tmp_path / "noise-keys").store(run_id, os.urandom(32))
    assert told(train(tmp_path, private=private)) == told(trained)
    assert booked(tmp_path) == booked(folder)


def test_folder_in_use_second_process_refused(tmp_path: Path) -> None:
    """Two processes never work on one simulation; the lock ends with its owner."""
    with Checkpoints(tmp_path), pytest.raises(FolderInUseError, match="another process"):
        Checkpoints(tmp_path)
    Checkpoints(tmp_path).close()


def test_folder_that_is_a_file_one_clear_error(tmp_path: Path) -> None:
    """What can't be a folder is said in one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="can't hold checkpoints"):
        Checkpoints(tmp_path / "file")


def test_failure_of_a_round_met_again_by_whoever_resumes(tmp_path: Path) -> None:
    """A round without its quorum fails again in the same way, and costs nothing more."""
    terms = replace(NO_NOISE, quorum=89)
    for _ in range(2):
        with pytest.raises(QuorumNotReachedError):
            train(tmp_path, private=False, terms=terms)


def test_release_with_noise_of_the_system_not_made_twice(tmp_path: Path) -> None:
    """A committed release whose noise nobody kept stays spent, and is not released again."""
    source = tmp_path / "source"
    train(source, private=True)
    with closing(ledger_of(source)) as ledger:
        event = ledger.reservations()[0].event
    real = replace(event, task_id="a" * 32, noise_source=GaussianNoise.from_system().source)
    with closing(ledger_of(tmp_path)) as ledger:
        once = OnceBooked(inner=ledger, booked=ledger)
        first = once.reserve(real)
        assert once.reserve(real) == first
        once.commit(first, 5)
        with pytest.raises(RunStateError, match="stays spent"):
            once.reserve(real)
        with pytest.raises(RunStateError, match="another release"):
            once.reserve(replace(real, noise_multiplier=1e3))
        seeded = once.reserve(replace(event, task_id="b" * 32))
        once.commit(seeded, 5)
        assert once.reserve(replace(event, task_id="b" * 32)) == seeded
        once.commit(seeded, 5)
        with pytest.raises(RunStateError, match="5 contributions, not 6"):
            once.commit(seeded, 6)
        once.void(seeded, "a failure")
        assert [each.state for each in ledger.reservations()] == [RowKind.COMMIT] * 2
