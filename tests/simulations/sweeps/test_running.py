"""A whole sweep: what is run on which split, by how many processes, and after a kill."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from simulations.progress import Progress
from simulations.report.sweep_page import format_sweep, render_sweep
from simulations.scenarios.forms import ScenarioError
from simulations.studies import EventStudy, SyntheticStudy
from simulations.sweeps.cell import Bench, Job
from simulations.sweeps.reading import FileMistakeError, read_sweep
from simulations.sweeps.running import Swept, run_sweep
from simulations.sweeps.store import CellDamagedError, CellStore
from simulations.sweeps.summary import summarise_sweep
from simulations.sweeps.table import COLUMNS
from tests.simulations.scenarios.test_play import small_model
from tests.simulations.sweeps.conftest import TEXT
from tests.simulations.sweeps.test_reading import EXAMPLE

CODE = "0" * 64
"""Another process may be changing the sources while the tests run."""
KILLED = """
import sys
from pathlib import Path
from simulations.progress import Progress
from simulations.sweeps.running import run_sweep
run_sweep(Path(sys.argv[1]), Path(sys.argv[2]), Progress(sys.stderr), workers=2, code="0" * 64)
"""


def sweep(file: Path, folder: Path, **options: Any) -> Swept:
    """Run one without a word."""
    quiet = Progress(io.StringIO(), quiet=True)
    return run_sweep(file, folder, quiet, **{"code": CODE, **options})


class Planted:
    """Finds what a test wants; on validation and on test the opposite."""

    def __init__(self, best: float) -> None:
        self.best = best
        self.jobs: list[Job] = []

    def __call__(self, _bench: Bench) -> Callable[[Job], dict[str, Any]]:
        """Give what does a job."""

        def find(job: Job) -> dict[str, Any]:
            self.jobs.append(job)
            clip = None if job.cell is None else job.cell.settings["clip"]
            good = (clip == self.best) == (job.split == "validation")
            value = {"hr@10": 0.9 if good else 0.1, "ndcg@10": 0.5}
            return {"metrics": {"discover": value}, "segments": {"new": value}}

        return find


@pytest.fixture(scope="module")
def alone(town_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The town, swept by one process."""
    return sweep(town_sweep, tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("best", [0.2, 1.0])
def test_sweep_validation_chooses_though_test_disagrees(
    town_sweep: Path, tmp_path: Path, best: float
) -> None:
    """What is best on validation is reported, as bad as it is on test; the others never see it."""
    planted = Planted(best)
    swept = sweep(town_sweep, tmp_path, find=planted)
    assert [c.cell.settings["clip"] for c in swept.choices if c.cell] == [best, best]
    on_test = [job for job in planted.jobs if job.split == "test" and job.cell is not None]
    assert {job.cell.settings["clip"] for job in on_test if job.cell} == {best}
    assert sorted(job.seed for job in on_test) == [3, 3, 4, 4]
    result = summarise_sweep(swept)
    assert [goal["test"]["discover"]["hr@10"]["mean"] for goal in result["goals"]] == [0.1, 0.1]
    line = f"chosen on validation: clip {best:g}, of 2 settings (best HR@10 of 1 seed); reported on"
    assert line in render_sweep(result)
    assert "reported on test, 2 seeds" in " ".join(format_sweep(result).split())


def test_bench_validation_is_what_came_before_the_test(town_sweep: Path, tmp_path: Path) -> None:
    """Nothing that is asked on test was ever held out, or learned from, on validation."""
    bench = Bench.of(read_sweep(town_sweep), tmp_path)
    test, validation = bench.test, bench.validation
    assert isinstance(test, EventStudy)
    assert isinstance(validation, EventStudy)
    asked = set(zip(test.split.held_out.users, test.split.held_out.times_s, strict=True))
    for part in (validation.split.held_out, validation.split.train):
        assert asked.isdisjoint(zip(part.users, part.times_s, strict=True))
    held = validation.split.held_out
    assert set(zip(held.users, held.times_s, strict=True)) <= set(
        zip(test.split.train.users, test.split.train.times_s, strict=True)
    )


def test_bench_synthetic_halves_never_meet(tmp_path: Path) -> None:
    """With any seeds, who is asked on validation is not asked on test."""
    file = tmp_path / "s.toml"
    (tmp_path / "model.json").write_bytes(small_model().to_json())
    people = 'source = "synthetic"\nmodel = "model.json"\ncount = 101\n'
    file.write_text(TEXT.replace('source = "events"\nevents = "events.csv"\n', people))
    bench = Bench.of(read_sweep(file), tmp_path)
    test, validation = bench.test, bench.validation
    assert isinstance(test, SyntheticStudy)
    assert isinstance(validation, SyntheticStudy)
    met: list[set[int]] = []
    for study in (test, validation):
        asked: set[int] = set()

        def note(
            people: Any, into: set[int] = asked, n_items: int = study.n_items
        ) -> np.ndarray[Any, Any]:
            into.update(people.tolist())
            return np.zeros((len(people), n_items))

        for seed in range(3):
            study.judge_for(seed)(note)
        met.append(asked)
    assert (len(met[0]), len(met[1])) == (51, 50)
    assert met[0].isdisjoint(met[1])


def test_sweep_table_has_a_row_for_each_cell_seed_arm_and_split(alone: Swept) -> None:
    """Documented columns, with the assumption beside the number; nothing in seconds."""
    table = parquet.read_table(alone.table)
    assert table.column_names == list(COLUMNS)
    assert all(field.metadata[b"says"] for field in table.schema)
    rows = table.to_pylist()
    kinds = [(row["arm"], row["split"]) for row in rows]
    assert (
        kinds
        == [("together", "validation")] * 4
        + [("together", "test")] * 4
        + [("popularity", "test")] * 2
    )
    private = [row for row in rows if row["epsilon"] is not None]
    assert {row["noise_population"] for row in private} == {100_000}
    assert all(row["population_assumed"] and row["people"] == 40 for row in private)
    spent = sorted(row["epsilon_spent"] for row in private)
    assert 3.5 < spent[0] <= spent[-1] < 4.0 + 1e-6
    assert all(row["discover_hr_at_10"] is not None and not row["failed"] for row in rows)
    assert all(row["invited"] == row["accepted"] + row["refused"] > 0 for row in rows[:8])
    assert len({row["table_sha256"] for row in rows[:8]}) == 8
    assert all(len(goal["course"]) == 3 for goal in summarise_sweep(alone)["goals"])


def test_sweep_killed_goes_on_with_two_workers_to_the_same_bytes(
    town_sweep: Path, alone: Swept, tmp_path: Path
) -> None:
    """What was finished is not done again; nothing is left over of what was not."""
    words = [sys.executable, "-c", KILLED, str(town_sweep), str(tmp_path)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("cells/*.json")):
            assert process.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    finished = {file: file.stat().st_mtime_ns for file in tmp_path.glob("cells/*.json")}
    assert not (tmp_path / "results.parquet").exists()
    swept = sweep(town_sweep, tmp_path, workers=2)
    assert 1 <= swept.done_before == len(finished) < len(swept.findings)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert swept.table.read_bytes() == alone.table.read_bytes()
    again = sweep(town_sweep, tmp_path, find=_never)
    assert again.done_before == len(again.findings)
    deadline = time.monotonic() + 20
    while _in_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _in_session(process.pid), "workers outlived the sweep"


def _never(_bench: Bench) -> Callable[[Job], dict[str, Any]]:
    def find(job: Job) -> dict[str, Any]:
        raise AssertionError(f"{job} was done again")

    return find


def _in_session(session: int) -> list[str]:
    """Give the processes that the killed one started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, *rest = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(rest[2]) == session and state != "Z":
            found.append(entry.parent.name)
    return found


def test_sweep_other_data_or_code_finds_nothing_done(town_sweep: Path, tmp_path: Path) -> None:
    """A cell is known by its settings, its data and the code."""
    first = sweep(town_sweep, tmp_path, find=Planted(1.0))
    assert sweep(town_sweep, tmp_path, find=Planted(1.0)).done_before == len(first.findings)
    assert sweep(town_sweep, tmp_path, find=Planted(1.0), code="1" * 64).done_before == 0
    other = tmp_path / "s.toml"
    lines = (town_sweep.parent / "events.csv").read_text().splitlines()
    (tmp_path / "events.csv").write_text("\n".join(lines[:-1]) + "\n")
    other.write_text(TEXT)
    assert sweep(other, tmp_path, find=Planted(1.0)).done_before == 0
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
    other.write_text(TEXT.replace("clip = [0.2, 1.0]", "clip = [0.2, 0.5]"))
    # Of validation and test, half of the cells are new; the arm beside is not.
    assert sweep(other, tmp_path, find=Planted(0.2)).done_before == 2 + 2


def test_sweep_damaged_cell_is_one_error(town_sweep: Path, tmp_path: Path) -> None:
    """A file that does not read is named, and never taken for a result."""
    sweep(town_sweep, tmp_path, find=Planted(1.0))
    file = next(tmp_path.glob("cells/*.json"))
    good = json.loads(file.read_text())
    for bad in ("", "{", "[]", json.dumps({**good, "identity": "x"}),
                json.dumps({**good, "found": {}})):  # fmt: skip
        file.write_text(bad)
        with pytest.raises(CellDamagedError, match="remove it to run it again"):
            sweep(town_sweep, tmp_path, find=Planted(1.0))
    assert CellStore(tmp_path).load("f" * 64) is None


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("clip = [0.2, 1.0]", "cohort = [5, 41]", "line 16: cohort: expected at most the 40 peopl"),
        ("clip = [0.2, 1.0]", "population = [39]", "line 16: population: expected at least the 40"),
    ],
)
def test_sweep_more_than_there_is_is_one_error_before_the_work(
    town_sweep: Path, tmp_path: Path, old: str, new: str, part: str
) -> None:
    """What only the data can tell is told before the first cell."""
    file = town_sweep.with_name("more.toml")
    file.write_text(TEXT.replace(old, new))
    with pytest.raises((FileMistakeError, ScenarioError), match=part):
        sweep(file, tmp_path, find=_never)


def test_sweep_missed_quorum_is_told_and_never_chosen(town_sweep: Path, tmp_path: Path) -> None:
    """Settings that cannot be finished are shown with their reason."""
    file = town_sweep.with_name("quorum.toml")
    text = TEXT.replace("epsilon = [4.0, inf]", "epsilon = [inf]").replace("test_seeds = 2", "")
    text = text.replace("clip = [0.2, 1.0]", "clip = [1.0]").replace("[search]\n", "")
    text = text.replace("cohort = 20", "cohort = 20\nquorum = 0.9")
    file.write_text(f"{text}\n[consent]\nrefuse = 0.5\n")
    result = summarise_sweep(sweep(file, tmp_path))
    assert result["goals"][0]["chosen"] is None
    assert "fewer than its quorum" in result["tried"][0]["failed"]
    page = render_sweep(result)
    assert "fewer than its quorum" in page
    assert "none, as all 1 settings failed" in page
    assert "none, as all 1 settings failed" in " ".join(format_sweep(result).split())


def test_example_sweep_finds_more_than_best_sellers(tmp_path: Path) -> None:
    """What we show runs on real people, here with one seed on test, and is worth showing."""
    file = tmp_path / "small.toml"
    file.write_text(EXAMPLE.read_text().replace("test_seeds = 3", "test_seeds = 1"))
    result = summarise_sweep(sweep(file, tmp_path))
    worth = [goal["test"]["discover"]["hr@10"]["mean"] for goal in result["goals"]]
    popular = result["arms"][0]["test"]["discover"]["hr@10"]["mean"]
    assert min(worth) > 1.5 * popular
    assert [goal["chosen"] for goal in result["goals"]] == [{"clip": 1.0}] * 2
