"""What others would have reached: ``python -m benchmarks.arms [--data DIR] [--json FILE]``.

Every arm of `simulations.arms` on the bundled sample of Online Retail and, where it is (see
``benchmarks/movielens.py``), on MovieLens-1M; beside them what is learned together by one release
of item statistics. ``discover`` ranks all that the person has not had (MovieLens: He et al. 2017's
leave-one-out, full catalogue), ``again`` the whole catalogue (an invoice may repeat; not asked on
MovieLens, where nothing repeats), ``sampled`` the target among 99 drawn items.

Rules a reader can check line by line:

1. Three seeds. A seed draws first factors, sampling, noise and, on the bundled sample, the targets;
   ± is the sample standard deviation. On MovieLens the targets are given.
2. ε is what the arm's own accountant says at δ = 1e-6, for a person's whole history. Central and
   together: add or remove one person. Local: replace one, the stronger claim.
3. A population beyond the people there are is an assumption: the noise of so many people on the
   sums of those there are, as if the others had the same tastes. The row says so.
4. Hyperparameters were chosen on validation by ``python -m benchmarks.arms --tune`` (`RETAIL`,
   `MOVIELENS` and their `_MANY` in `benchmarks.arms_data`): one setting at
   a time, twice round, by the mean logarithm of the metrics that are printed. Private arms were
   tuned at ε 8, once for the people as they are and once for ten times as many; those serve every
   ε, and every larger population. Validation is each customer's second-to-last invoice; on
   MovieLens one random training item of each person. What is learned together was tuned elsewhere
   (``simulations.tune``, ``benchmarks.epsilon_quality``).
5. All arms of a data set know the same catalogue: its words and categories on the bundled sample,
   nothing on MovieLens (what attributes add there, ``benchmarks.epsilon_quality`` prints).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import movielens
from benchmarks.arms_data import DELTA, Workload, forecast_of, metrics_of, request_for, workloads
from benchmarks.arms_tuning import TUNED, tune_all
from privacy.events import ADJACENCY, TRUSTED
from simulations.arms import ARMS, LibraryMissingError, Request, make_arm
from simulations.evaluation.metrics import Scorer
from simulations.evaluation.split import Part

EPSILONS: Final = (2.0, 8.0)
TIMES: Final = (1, 10, 100)
SEEDS: Final = 3
TOGETHER: Final = "together"

Row = dict[str, Any]


def rows_of(load: Workload, seeds: int, only: str | None) -> Iterable[Row]:
    """Measure every arm, in the clear first; then every private one at every ε and population."""
    asked = {only} if only is not None else {*ARMS, TOGETHER}
    for name, arm in ARMS.items():
        if name in asked and not arm.private:
            yield _clear_row(load, seeds, name)
    if TOGETHER in asked:
        yield _together_row(load, seeds, None, 1)
    for times, epsilon in itertools.product(TIMES, EPSILONS):
        if TOGETHER in asked:
            yield _together_row(load, seeds, epsilon, times)
        for name, arm in ARMS.items():
            if name in asked and arm.private:
                yield _private_row(load, seeds, name, epsilon=epsilon, times=times)


def _clear_row(load: Workload, seeds: int, name: str) -> Row:
    """Measure an arm that spends nothing."""
    arm = ARMS[name]

    def make(seed: int) -> Scorer:
        return make_arm(name, load.arms, Request(seed=seed, settings=load.settings)).scorer

    return _row(
        load,
        seeds,
        make,
        arm=name,
        knows=arm.knows,
        trusted=arm.trusted,
        once=not arm.seeded,
    )


def _together_row(load: Workload, seeds: int, epsilon: float | None, times: int) -> Row:
    """Measure what is learned together by one release of item statistics."""
    return _row(
        load,
        seeds,
        lambda seed: load.arms.together(load.together(epsilon, times, seed)),
        arm=TOGETHER,
        knows="one noised release of item statistics, decoded; the person's own history",
        trusted=TRUSTED,
        epsilon=epsilon,
        delta=None if epsilon is None else DELTA,
        adjacency=ADJACENCY,
        population=times * load.people,
        forecast=forecast_of(load, times),
    )


def _private_row(load: Workload, seeds: int, name: str, *, epsilon: float, times: int) -> Row:
    """Measure a private arm; what it claims comes from the arm."""
    claims = []

    def make(seed: int) -> Scorer:
        request = request_for(load, seed, load.settings_for(times), epsilon, times)
        made = make_arm(name, load.arms, request)
        claims.append(made.claim)
        return made.scorer

    row = _row(load, seeds, make, arm=name, knows=ARMS[name].knows)
    claim = claims[0]
    return row | ({} if claim is None else claim.to_json())


def _row(
    load: Workload,
    seeds: int,
    make: Callable[[int], Scorer],
    *,
    once: bool = False,
    **about: Any,
) -> Row:
    """Make an arm once a seed and measure it; ``once`` where no seed changes the arm."""
    started = time.process_time()
    made = make(0) if once else None
    runs = [
        metrics_of(load, made if made is not None else make(seed), load.targets(seed))
        for seed in range(seeds)
    ]
    spent = (time.process_time() - started) / (1 if once else seeds)
    found = {
        name: {
            "mean": float(np.mean([run[name] for run in runs])),
            "std": float(np.std([run[name] for run in runs], ddof=1)) if seeds > 1 else 0.0,
        }
        for name in runs[0]
    }
    about.setdefault("epsilon", None)
    about.setdefault("population", load.people)
    about.setdefault("forecast", "")
    return {"data": load.name, **about, "seeds": seeds, "cpu_s_each": spent, "metrics": found}


def show(row: Row) -> None:
    """Print one row."""
    epsilon = "none" if row["epsilon"] is None else f"{row['epsilon']:.2f}"
    cells = []
    for protocol in ("discover", "next", "sampled"):
        hits = row["metrics"].get(f"{protocol} hr@10")
        gains = row["metrics"].get(f"{protocol} ndcg@10")
        cells.append(
            f"{hits['mean']:.4f} ±{hits['std']:.4f} {gains['mean']:.4f}" if hits else " " * 22
        )
    people = f"{'as if ' if row['forecast'] else ''}{row['population']:,}"
    print(
        f"{row['arm']:15} {epsilon:>6} {people:>13}  {'  '.join(cells)}  "
        f"{row['cpu_s_each']:6.1f}  {row['trusted'].split(';')[0].split(',')[0].split(':')[0]}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or with ``--tune`` the validation grid.

    Returns:
        0 when it ran; 2 where the named data is not there, or a library is missing.
    """
    parser, options = _read(arguments)
    folder = movielens.data_folder(options.data)
    there = movielens.is_there(folder)
    if not there and (options.only == "movielens" or options.data):
        parser.exit(2, f"MovieLens-1M is not in {folder}; name its parent with --data\n")
    part: Part = "validation" if options.tune else "test"
    rows: list[Row] = []
    try:
        for load in workloads(folder if there else None, options.only, part):
            if options.tune:
                tune_all(load, options.arm)
            else:
                rows += table_of(load, options.seeds, options.arm)
    except LibraryMissingError as error:
        parser.exit(2, f"{error}\n")
    if not there:
        print(f"MovieLens-1M is not in {folder}: its rows are left out")
    if options.json and not options.tune:
        text = json.dumps(rows, indent=2, allow_nan=False) + "\n"
        options.json.write_text(text, encoding="utf-8")
    return 0


def table_of(load: Workload, seeds: int, only: str | None) -> list[Row]:
    """Print the rows of one data set as they come, and give them."""
    print(
        f"\n{load.name}, {load.people:,} people, {load.split.train.n_items:,} items; "
        f"{seeds} seeds; each protocol: HR@10 ± std, NDCG@10\n"
        f"{'arm':15} {'ε':>6} {'people':>13}  {'discover':22}  {'again':22}  "
        f"{'sampled':22}  {'CPU s':>6}  trusted"
    )
    rows = []
    for row in rows_of(load, seeds, only):
        rows.append(row)
        show(row)
    return rows


def _read(
    arguments: Sequence[str] | None,
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the words after the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.arms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder that holds ml-1m/")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of a row")
    parser.add_argument("--only", choices=("bundled", "movielens"), help="one of the two data sets")
    parser.add_argument("--tune", action="store_true", help="print the validation grid instead")
    parser.add_argument("--arm", choices=(*ARMS, TOGETHER), help="this arm only")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    if options.tune and options.arm not in {None, *TUNED}:
        parser.error(f"--tune knows {', '.join(TUNED)}; {options.arm} has nothing to choose here")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    return parser, options


if __name__ == "__main__":
    sys.exit(main())
