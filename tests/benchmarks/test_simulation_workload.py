"""What `make bench-simulation` compares is the same sum: the kernel's, by hand, and plain numpy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulation.__main__ import MOST_APART, main
from benchmarks.simulation.by_hand import RoundWords, train, words_for
from benchmarks.simulation.ours import first_sum, histories_of
from benchmarks.simulation.update import change_of, clipped_sum, negatives_of
from benchmarks.simulation.workload import Settings, Workload, draw_cohorts, draw_people
from models.item_training import initial_state
from simulations.experiment import TRAINED

ITEMS, RANK, COHORT, CLIP_NORM = 300, 8, 24, 1.0


@pytest.fixture(scope="module")
def workload() -> Workload:
    """A small workload of two steps, of which about half of the people are clipped."""
    people = draw_people(seed=5, people=60, n_items=ITEMS, mean_events=40.0, most_events=150)
    made = Workload(
        settings=Settings(
            seed=5,
            cohort=COHORT,
            steps=2,
            learning_rate=0.3,
            negatives=4,
            ridge=1.0,
            clip_norm=CLIP_NORM,
            noise_multiplier=1.0,
            server_learning_rate=30.0,
            momentum=0.9,
        ),
        offsets=people.offsets,
        items=people.items,
        weights=np.zeros(len(people.items), np.float32),
        last_time_s=people.last_time_s,
        now_s=np.array([people.now_s]),
        factors=initial_state(n_items=ITEMS, rank=RANK, seed=5, std=0.3).factors,
        cohorts=draw_cohorts(people=60, cohort=COHORT, rounds=1, seed=5),
    )
    return replace(made, weights=histories_of(made).weigh(TRAINED).weights)


def _norms(workload: Workload) -> list[float]:
    changes = (change_of(workload, workload.factors, int(each), 5) for each in workload.cohorts[0])
    return [float(np.linalg.norm(change.rows)) for change in changes]


def _apart(found: np.ndarray, judge: np.ndarray) -> float:
    return float(np.linalg.norm(found - judge) / np.linalg.norm(judge))


@pytest.mark.parametrize("by_rows", [False, True])
def test_first_sum_kernel_equals_plain_numpy(workload: Workload, by_rows: bool) -> None:
    """Both forms of the kernel give the sum that the protocol's description gives."""
    clipped = np.mean(np.array(_norms(workload)) > CLIP_NORM)
    assert 0.2 < clipped < 0.8
    judge = clipped_sum(workload, workload.cohorts[0], seed=5)
    assert _apart(first_sum(workload, by_rows=by_rows), judge) < MOST_APART / 10


def test_train_by_hand_equals_plain_numpy(workload: Workload) -> None:
    """What the peers run changes the same rows by the same amounts, person by person."""
    words = words_for(workload, workload.cohorts[0], seed=5)
    for person in workload.cohorts[0]:
        start, stop = workload.offsets[person], workload.offsets[person + 1]
        done = train(
            workload.factors,
            workload.items[start:stop],
            workload.weights[start:stop],
            words,
            workload.settings,
        )
        judge = change_of(workload, workload.factors, int(person), 5)
        assert done.touched.tolist() == judge.items.tolist()
        assert _apart(done.rows, judge.rows) < MOST_APART / 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 6},
        {"clip_norm": 0.99 * CLIP_NORM},
        {"learning_rate": 0.29},
        {"negatives": 3},
        {"ridge": 1.1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_clipped_sum_one_setting_differs_is_found(
    workload: Workload, wrong: dict[str, float]
) -> None:
    """The comparison would find other negatives, another clip, another step or another solve."""
    judge = clipped_sum(workload, workload.cohorts[0], seed=5)
    other = replace(workload, settings=replace(workload.settings, **wrong))
    found = clipped_sum(other, workload.cohorts[0], seed=int(other.settings.seed))
    assert _apart(found, judge) > MOST_APART


@pytest.mark.parametrize("limit", [1, 7, 3_000, 2**31 + 11])
def test_round_words_any_limit_equal_numpys_draws(limit: int) -> None:
    """Multiplying a round's words gives what the generator gives, redrawn words included."""
    words = RoundWords(seed=9, steps=2, most=64)
    for step in range(2):
        source = np.random.Generator(np.random.Philox(key=9, counter=[0, 0, 0, step]))
        expected = source.integers(0, limit, size=63)
        assert words.below(limit, step=step, count=63).tolist() == expected.tolist()


def test_negatives_of_a_person_are_never_their_items() -> None:
    """Negatives fill exactly the gaps between a person's items."""
    avoid = np.array([0, 2, 3, 9], np.int32)
    drawn = negatives_of(seed=1, step=0, count=500, n_items=10, avoid=avoid)
    assert set(drawn.tolist()) == {1, 4, 5, 6, 7, 8}


def test_draw_people_default_has_movielens_shape() -> None:
    """As many people, about as many events, the same extremes; everyone's items rise."""
    people = draw_people(seed=1)
    lengths = np.diff(people.offsets)
    assert len(people) == 6_040
    assert 150 < lengths.mean() < 180
    assert 20 <= lengths.min() < 30
    assert lengths.max() == 2_314
    starts = np.zeros(len(people.items), bool)
    starts[people.offsets[:-1]] = True
    assert bool(np.all((np.diff(people.items) > 0) | starts[1:]))


def test_workload_saved_and_loaded_is_the_same(workload: Workload, tmp_path: Path) -> None:
    """Peers read what the runner wrote, and say so where a file is something else."""
    workload.save(tmp_path / "w.npz")
    found = Workload.load(tmp_path / "w.npz")
    assert found.settings == workload.settings
    assert np.array_equal(found.cohorts, workload.cohorts)
    (tmp_path / "no.npz").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no workload"):
        Workload.load(tmp_path / "no.npz")


def test_main_peer_missing_one_line_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a peer's environment the benchmark names it and how to make it, and ends."""
    code = main(["--pfl", str(tmp_path / "nobody"), "--flower", sys.executable])
    assert code == 2
    assert "make bench-simulation" in capsys.readouterr().err


def test_ours_as_a_process_reports_one_line_of_json(workload: Workload, tmp_path: Path) -> None:
    """The engine runs its rounds with noise, and reports seconds and memory of each."""
    file = tmp_path / "w.npz"
    replace(workload, cohorts=np.repeat(workload.cohorts, 3, axis=0)).save(file)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.simulation.ours", "--workload", str(file)),
            *("--rounds", "2", "--form", "shortcut"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["seconds"]) == len(found["kernel_seconds"]) == 2
    assert 30 < found["peak_rss_mb"] < 300
