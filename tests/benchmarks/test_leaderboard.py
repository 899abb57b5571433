"""The leaderboard: its rows, its page, and what it refuses; quality itself isn't tested here."""

import csv
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.arms_data import Workload, metrics_of
from benchmarks.leaderboard.__main__ import main
from benchmarks.leaderboard.data import load, read_retail
from benchmarks.leaderboard.entries import (
    DATA,
    ENTRIES,
    EPSILONS,
    MOVIELENS,
    PEERS_MANY,
    SAMPLE,
    TIMES,
)
from benchmarks.leaderboard.measure import (
    Extras,
    Job,
    jobs_of,
    measure_entry,
    reset_peak_memory,
)
from benchmarks.leaderboard.page import PageError, markers, rewrite, tables
from benchmarks.simulation.memory import peak_rss_mb
from simulations.arms import ARMS

PAGE = Path(__file__).parents[2] / "docs" / "leaderboard.md"


def row(name: str, hits: float = 0.1, std: float = 0.0, **changed: Any) -> dict[str, Any]:
    """One made-up row of MovieLens."""
    entry = ENTRIES[name]
    values = {"mean": hits, "std": std}
    metrics = {
        f"{protocol} {metric}": values
        for protocol in ("discover", "sampled")
        for metric in ("hr@10", "ndcg@10")
    }
    return {
        "name": name,
        "data": entry.data,
        "arm": entry.arm,
        "epsilon": entry.epsilon,
        "times": entry.times,
        "people": 6_040,
        "metrics": metrics,
        "seconds": 1.0,
        "peak_mib": 100.0,
        "seeds": 3,
        "chosen": entry.chosen,
        "knows": "nothing",
        "trusted": "nobody",
        "date": "2026-01-01",
        "load": 0.5,
    } | changed


def test_entries_every_arm_epsilon_and_population_has_a_row_of_its_own() -> None:
    """Ours has a row for each ε and population, others fewer for more people than there are."""
    peers = len(EPSILONS) + (len(TIMES) - 1) * len(PEERS_MANY)
    for data in DATA:
        arms = [entry.arm for entry in ENTRIES.values() if entry.data == data]
        for name, arm in ARMS.items():
            assert arms.count(name) == (peers if arm.private else 1)
        assert arms.count("ours") == len(EPSILONS) * len(TIMES) + 1
    assert all(name == entry.name for name, entry in ENTRIES.items())


def test_entries_each_command_that_chose_names_a_module_that_is_there() -> None:
    """A reader can run what the last column says."""
    root = PAGE.parents[1]
    for entry in ENTRIES.values():
        if " -m " in entry.chosen:
            module = entry.chosen.split(" -m ")[1].split()[0].rstrip(";")
            assert (root / (module.replace(".", "/") + ".py")).is_file(), entry.chosen


def test_jobs_hold_every_row_once_and_one_data_set_each() -> None:
    """No row is lost or measured twice, and a process loads one data set."""
    jobs = jobs_of(list(ENTRIES.values()), seeds=3, folder=None)
    names = [entry.name for job in jobs for entry in job.entries]
    assert sorted(names) == sorted(ENTRIES)
    assert all(len({entry.data for entry in job.entries}) == 1 for job in jobs)


@pytest.fixture(scope="module")
def work() -> Workload:
    """The bundled sample, read once."""
    return load(SAMPLE, None)


def test_measure_popularity_agrees_with_the_arm_asked_directly(work: Workload) -> None:
    """What stands in the row is what the arm reaches: mean and deviation over the seeds."""
    entry = ENTRIES[f"{SAMPLE}/popularity"]
    extras = Extras(Job(entries=(entry,), seeds=2, folder=None))
    found = measure_entry(entry, work, extras, seeds=2)
    runs = [metrics_of(work, work.arms.popularity(), work.targets(seed)) for seed in range(2)]
    for name, value in found["metrics"].items():
        both = [run[name] for run in runs]
        assert value["mean"] == pytest.approx(np.mean(both))
        assert value["std"] == pytest.approx(np.std(both, ddof=1))
    assert found["seeds"] == 2
    assert found["people"] == 798
    assert found["forecast"] == ""
    assert found["seconds"] > 0
    assert "raw history" in found["trusted"]


def test_measure_private_row_claims_the_epsilon_and_says_what_is_assumed(work: Workload) -> None:
    """Noise as if ten times the people took part is a forecast, and the row carries the words."""
    entry = ENTRIES[f"{SAMPLE}/local-dp/eps2/x10"]
    extras = Extras(Job(entries=(entry,), seeds=1, folder=None))
    found = measure_entry(entry, work, extras, seeds=1)
    assert 1.9 < found["claimed"] <= 2.0
    assert found["population"] == 7_980
    assert "as if 7,980 people" in found["forecast"]
    assert found["trusted"].startswith("nobody")
    assert "replace one" in found["adjacency"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_peak_memory_is_of_the_row_and_not_of_the_one_before() -> None:
    """The high-water mark falls when it is set back, and sees what comes after."""
    held = np.ones(12_000_000)
    high = peak_rss_mb()
    del held
    reset_peak_memory()
    low = peak_rss_mb()
    assert low < high - 60
    again = np.ones(12_000_000)
    assert peak_rss_mb() > low + 60
    del again


def test_tables_say_what_is_assumed_quoted_missing_and_ahead() -> None:
    """A reader can't take a forecast for people, a quotation for a run, or silence for a lead."""
    rows = [
        row("ml-1m/ours/eps2", 0.485, std=0.001),
        row("ml-1m/ours-attributes/eps2", 0.619),
        row("ml-1m/central-dp-sgd/eps2", 0.508, std=0.004),
        row("ml-1m/ours/eps2/x10", 0.626),
        row("ml-1m/central-dp-sgd/eps2/x10", 0.60),
    ]
    text = tables(MOVIELENS, rows)
    assert "Noise as if 60,400 took part (6,040 simulated)" in text
    assert text.count("quoted, not run") == 2
    assert re.search(r"Not measured: .*`ml-1m/local-dp/eps2`", text)
    assert "`ml-1m/ours/eps2`" not in text.split("Not measured:")[1]
    ahead = [line for line in text.splitlines() if line.startswith("- `")]
    assert "- `central-dp-sgd`, sampled HR@10: ε 2 (0.5080 beside 0.4850)" in ahead
    assert not any("x 10" in line or "attributes" in line for line in ahead)
    assert "0.4850 ± 0.0010" in text


def test_tables_a_lead_inside_the_spread_is_said_to_be_one() -> None:
    """Chance isn't printed as a victory, and isn't left out either."""
    rows = [row("ml-1m/ours", 0.1, std=0.01), row("ml-1m/central", 0.105, std=0.0)]
    assert "(0.1050 beside 0.1000, within the spread)" in tables(MOVIELENS, rows)


def test_tables_what_costs_nothing_is_held_against_every_epsilon() -> None:
    """Noise that leaves less than a device has by itself isn't hidden by the lack of a peer."""
    rows = [row("ml-1m/device-alone", 0.2), row("ml-1m/ours/eps1", 0.1), row("ml-1m/central", 0.3)]
    text = tables(MOVIELENS, rows)
    assert "- `device-alone`, `discover` HR@10: ε 1 (0.2000 beside 0.1000)" in text
    assert "- `central`" not in text


def test_rewrite_changes_the_measured_data_set_alone_and_twice_is_once() -> None:
    """Tables of data that was not there stay as they were."""
    before = PAGE.read_text(encoding="utf-8")
    rows = [row("ml-1m/popularity")]
    once = rewrite(before, rows)
    assert rewrite(once, rows) == once
    assert "`ml-1m/popularity` | none | 0.1000 ± 0.0000" in once
    begin, end = markers(MOVIELENS)
    assert once.split(begin)[0] == before.split(begin)[0]
    assert once.split(end)[1] == before.split(end)[1]


def test_rewrite_a_page_without_its_place_is_refused() -> None:
    """Nothing is appended where nobody looks."""
    with pytest.raises(PageError, match="begin ml-1m"):
        rewrite("# A page\n", [row("ml-1m/popularity")])


def test_read_retail_keeps_identified_purchases_and_the_last_name(tmp_path: Path) -> None:
    """Cancellations, returns, gifts and the unknown customer are no taste of anybody."""
    lines = [
        ("1", "A", "RED MUG", "2.0", "2010-12-01 08:00:00", "1.5", "7.0", "UK"),
        ("2", "A", "BLUE MUG", "1.0", "2010-12-02 08:00:00", "1.5", "8.0", "UK"),
        ("C3", "B", "LOST", "1.0", "2010-12-02 08:00:00", "1.5", "8.0", "UK"),
        ("4", "C", "LOST", "-1.0", "2010-12-02 08:00:00", "1.5", "8.0", "UK"),
        ("5", "D", "LOST", "1.0", "2010-12-02 08:00:00", "0.0", "8.0", "UK"),
        ("6", "E", "LOST", "1.0", "2010-12-02 08:00:00", "1.0", "", "UK"),
    ]
    path = tmp_path / "online_retail.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
        csv.writer(file).writerows([header.split(","), *lines])
    found = read_retail(path)
    assert found.interactions.n_people == 2
    assert [(item.item_id, item.name) for item in found.catalogue.items] == [("A", "BLUE MUG")]
    assert found.quality.occasions == 2


def test_leaderboard_one_row_is_printed_kept_and_written_beside_earlier_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of a row, as it stands in the page, in a process of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    page, earlier, kept = tmp_path / "page.md", tmp_path / "old.json", tmp_path / "new.json"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    stale, other = row(f"{SAMPLE}/popularity", 0.9), row("ml-1m/popularity", 0.8)
    earlier.write_text(json.dumps([stale, other]), encoding="utf-8")
    words = ["--row", f"{SAMPLE}/popularity", "--seeds", "1", "--json", str(kept)]
    assert main([*words, "--beside", str(earlier), "--write", str(page)]) == 0
    assert f"{SAMPLE}/popularity" in capsys.readouterr().out
    rows = {found["name"]: found for found in json.loads(kept.read_text(encoding="utf-8"))}
    hits = rows[f"{SAMPLE}/popularity"]["metrics"]["discover hr@10"]["mean"]
    assert 0.01 < hits < 0.1
    assert rows["ml-1m/popularity"] == other
    text = page.read_text(encoding="utf-8")
    assert f"| `{SAMPLE}/popularity` | none | {hits:.4f} |" in text
    assert "| `ml-1m/popularity` | none | 0.8000" in text
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--row", "nonsense"], "there is no row 'nonsense'"),
        (["--row", "ml-1m/ours", "--data", "{tmp}"], "MovieLens-1M is not in"),
        (["--row", "retail/ours", "--data", "{tmp}"], "online-retail"),
        (["--row", "retail-sample/ours", "--write", "{tmp}/none.md"], "--write"),
        (["--row", "retail-sample/ours", "--beside", "{tmp}/none.json"], "--beside"),
        (["--row", "retail-sample/ours", "--beside", "{tmp}/odd.json"], "isn't what --json"),
        (["--all", "--seeds", "0"], "--seeds"),
        (["--all", "--json", "{tmp}/none/rows.json"], "--json"),
        (["--row", "retail-sample/ours", "--write", "{tmp}/odd.md"], "begin retail-sample"),
        ([], "--all"),
    ],
)
def test_leaderboard_nonsense_is_one_error_and_exit_code_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything is measured, without a traceback."""
    (tmp_path / "odd.json").write_text(json.dumps([{"name": "retail-sample/ours"}]))
    (tmp_path / "odd.md").write_text("# No place\n")
    with pytest.raises(SystemExit) as stopped:
        main([word.replace("{tmp}", str(tmp_path)) for word in words])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
