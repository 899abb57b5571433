"""Quality against epsilon: ``python -m benchmarks.epsilon_quality [--data DIR] [--json FILE]``.

One release of item statistics (counts, then packed x x'), for epsilon 1, 2, 4, 8 and none, and for
the people as they are, ten and a hundred times as many: the noise on the same sum is 1, 1/10 or
1/100 of what it is, as if the others had the same tastes. delta is 1e-6, add or remove one person,
the aggregator trusted. Private rows are means of three noise seeds, with their deviation.

- Online Retail, bundled: the test part, as ``python -m simulations.tune --test`` measures it.
- MovieLens-1M, where it is (see ``benchmarks/movielens.py``): leave one out.

``discover`` ranks all that the person has not had, ``sampled`` the target among 99 drawn items.
Beside it stands the known reach: `discover` HR@10 of one-shot statistics with 6,040 people without
attributes, as it was known before.

Hyperparameters were chosen on validation, never on the test. MovieLens-1M: three random training
items of each person held out, `discover` HR@10 at epsilon 1 and 4, as is, one setting for all rows;
``--tune`` prints the neighbourhood of the choice with one item held out. ``keeps`` is the share of
the HR@10 that one round of statistics has without noise, with its own settings
(``benchmarks/movielens_goals.py``). Those give long histories more weight. For private rows that
was tried at epsilon 2, ten and a hundred times the people: better on later events, worse on a
random item of everybody, and worse on the test, which had then been looked at once; every history
has norm 1, as before. Bundled data: ``python -m simulations.tune``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import movielens, movielens_goals
from benchmarks.movielens_attributes import attributes_of
from benchmarks.movielens_goals import learn_statistics
from models.item_prior import ItemPrior
from models.item_statistics import StatisticsSettings
from simulations.evaluation.metrics import Scorer
from simulations.tune import AS_IS_PRIOR, AS_IS_STATISTICS, Bench, Release, judge
from simulations.tune import learn as learn_bundled

EPSILONS: Final = (1.0, 2.0, 4.0, 8.0)
TIMES: Final = (1, 10, 100)
KNOWN_REACH: Final = {1.0: 0.062, 2.0: 0.073, 8.0: 0.088}
"""Epsilon to `discover` HR@10 on MovieLens-1M, 6,040 people; of 4 nothing is known."""
KEPT_GOALS: Final = {(2.0, 10): 0.88, (2.0, 100): 0.97}
"""Epsilon and how many times the people to the share of the noiseless HR@10 that should be left."""
METRICS: Final = ("discover hr@10", "discover ndcg@10", "sampled hr@10", "sampled ndcg@10")
_NAMES: Final = dict(
    zip(
        ("full HR@10", "full NDCG@10", "sampled HR@10", "sampled NDCG@10"),
        METRICS,
        strict=True,
    )
)

Row = dict[str, Any]


def movielens_row(
    people: movielens.Population,
    prior: ItemPrior | None,
    *,
    epsilon: float,
    times: int,
    seeds: Sequence[int],
    statistics: StatisticsSettings = movielens.NOISY,
) -> Row:
    """Learn and measure one private row of MovieLens-1M."""
    started, runs = time.perf_counter(), []
    for seed in seeds:
        table = movielens.learn(
            people,
            epsilon=epsilon,
            times=times,
            seed=seed,
            statistics=statistics,
            prior=prior,
            most_top_items=movielens.MOST_TOP_ITEMS,
        )
        found = movielens.evaluate(people, table)
        runs.append({_NAMES[name]: value for name, value in found.items()})
    row = _row(runs, data="MovieLens-1M", epsilon=epsilon, people=people.n_people * times)
    row |= {"times": times, "seconds": (time.perf_counter() - started) / len(runs)}
    return row | ({"known": KNOWN_REACH[epsilon]} if times == 1 and epsilon in KNOWN_REACH else {})


def movielens_rows(
    folder: Path,
    seeds: Sequence[int],
    *,
    epsilons: Sequence[float] = EPSILONS,
    populations: Sequence[int] = TIMES,
) -> Iterable[Row]:
    """Measure the test of MovieLens-1M: no noise first, then how much of it is kept."""
    people = movielens.Population(movielens.load(folder))
    attributes = attributes_of(folder)
    started = time.perf_counter()
    clean = learn_statistics(
        people, ItemPrior(attributes=attributes, settings=movielens_goals.PRIOR)
    )
    found = {_NAMES[name]: value for name, value in movielens.evaluate(people, clean).items()}
    first = _row([found], data="MovieLens-1M", epsilon=None, people=people.n_people)
    yield first | {"seconds": time.perf_counter() - started}
    prior = ItemPrior(attributes=attributes, settings=movielens.PRIOR)
    for times in populations:
        for epsilon in epsilons:
            row = movielens_row(people, prior, epsilon=epsilon, times=times, seeds=seeds)
            row["kept"] = row[METRICS[0]] / first[METRICS[0]]
            yield row | (
                {"goal": KEPT_GOALS[epsilon, times]} if (epsilon, times) in KEPT_GOALS else {}
            )


def bundled_rows(seeds: Sequence[int]) -> Iterable[Row]:
    """Measure the test part of the bundled sample."""
    bench = Bench.load("test")
    people = len(bench.histories)
    base = Release(statistics=AS_IS_STATISTICS, prior=AS_IS_PRIOR)
    asked: list[tuple[float | None, int]] = [(e, t) for t in TIMES for e in EPSILONS]
    for epsilon, times in [*asked, (None, 1)]:
        release = replace(base, epsilon=epsilon, population=people * times)
        measured = judge(bench, partial(_bundled_arm, bench, release), seeds)
        runs = [
            {name: run[name.split()[0]][name.split()[1]] for name in METRICS} for run in measured
        ]
        yield _row(runs, data="Online Retail", epsilon=epsilon, people=people * times)


def _bundled_arm(bench: Bench, release: Release, seed: int) -> Scorer:
    """Learn a release of the bundled data and give what scores with it."""
    return bench.arms.together(learn_bundled(bench, release, seed=seed))


def tune(folder: Path) -> None:
    """Print the validation grid of MovieLens-1M: one setting at a time from what was chosen."""
    ratings = movielens.validation_of(movielens.load(folder), seed=0)
    people = movielens.Population(ratings)
    attributes = attributes_of(folder)
    tried: list[tuple[str, dict[str, Any]]] = [("chosen", {})]
    for name, values in {
        "penalty_edges": (0.2, 0.8),
        "common": (0.5, 2.0),
        "own": (0.02, 0.15),
        "popularity_power": (0.0, 0.5),
        "added": (0.0, 0.1, 0.6),
        "outside": (0.0, 0.25, 1.0),
    }.items():
        tried += [(f"prior {name} {value:g}", {"prior": {name: value}}) for value in values]
    for name, values in {
        "ridge_edges": (0.05, 0.6),
        "ridge_mean": (0.0, 4.0),
        "popularity_power": (0.0, 0.8),
        "diagonal_power": (0.7, 1.0),
    }.items():
        tried += [(f"{name} {value:g}", {"statistics": {name: value}}) for value in values]
    print(f"{'validation, discover HR@10 at epsilon 1, 4':44}")
    for text, change in tried:
        settings = replace(movielens.PRIOR, **change.get("prior", {}))
        statistics = replace(movielens.NOISY, **change.get("statistics", {}))
        prior = ItemPrior(attributes=attributes, settings=settings)
        found = [
            movielens_row(
                people, prior, epsilon=epsilon, times=1, seeds=(0,), statistics=statistics
            )["discover hr@10"]
            for epsilon in (1.0, 4.0)
        ]
        print(f"{text:30} {found[0]:.4f} {found[1]:.4f}", flush=True)
    bare = [
        movielens_row(
            people,
            None,
            epsilon=epsilon,
            times=1,
            seeds=(0,),
            statistics=StatisticsSettings(rank=512, ridge_edges=0.3, ridge_mean=4.0),
        )["discover hr@10"]
        for epsilon in (1.0, 4.0)
    ]
    print(f"{'no attributes':30} {bare[0]:.4f} {bare[1]:.4f}", flush=True)


def _row(runs: Sequence[dict[str, float]], **about: Any) -> Row:
    """Average the runs of one row."""
    row: Row = dict(about) | {name: float(np.mean([run[name] for run in runs])) for name in METRICS}
    spread = float(np.std([run[METRICS[0]] for run in runs], ddof=1)) if len(runs) > 1 else 0.0
    return row | {"std": spread, "seeds": len(runs)}


def show(row: Row) -> None:
    """Print one row."""
    epsilon = "none" if row["epsilon"] is None else f"{row['epsilon']:g}"
    known = f"{row['known']:.3f}" if "known" in row else ""
    kept = f"  keeps {row['kept']:.1%}" if "kept" in row else ""
    if "goal" in row:
        kept += f", goal {row['goal']:.0%}: {'yes' if row['kept'] >= row['goal'] else 'NO'}"
    if "seconds" in row:
        kept += f"  {row['seconds']:.0f} s"
    cells = "  ".join(f"{row[name]:.4f}" for name in METRICS[1:])
    print(
        f"{row['data']:14} {row['people']:9,} {epsilon:>6}  "
        f"{row[METRICS[0]]:.4f} ±{row['std']:.4f}  {known:>6}  {cells}{kept}",
        flush=True,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; without MovieLens-1M, the bundled rows and one line that says so."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epsilon_quality")
    parser.add_argument("--data", type=Path, help="folder that holds ml-1m/")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    parser.add_argument("--seeds", type=int, default=3, help="noise seeds of a private row")
    parser.add_argument(
        "--epsilon", type=float, choices=EPSILONS, help="one row for MovieLens-1M, not all"
    )
    parser.add_argument("--times", type=int, choices=TIMES, help="so many times its people only")
    parser.add_argument("--only", choices=("bundled", "movielens"), help="one of the two data sets")
    parser.add_argument("--tune", action="store_true", help="print the validation grid instead")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    folder = movielens.data_folder(options.data)
    there = movielens.is_there(folder)
    if options.tune and there:
        tune(folder)
        return 0
    if (options.tune or options.only == "movielens") and not there:
        parser.exit(2, f"MovieLens-1M is not in {folder}; name its parent with --data\n")
    seeds = range(options.seeds)
    print(
        f"{'data':14} {'people':>9} {'eps':>6}  discover HR@10   known  "
        "NDCG@10  sampled HR@10, NDCG@10"
    )
    rows: list[Row] = []
    if options.only != "movielens":
        for row in bundled_rows(seeds):
            rows.append(row)
            show(row)
    if options.only != "bundled" and there:
        epsilons = EPSILONS if options.epsilon is None else (options.epsilon,)
        populations = TIMES if options.times is None else (options.times,)
        for row in movielens_rows(folder, seeds, epsilons=epsilons, populations=populations):
            rows.append(row)
            show(row)
    elif not there:
        print(f"MovieLens-1M is not in {folder}: its rows are left out")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
