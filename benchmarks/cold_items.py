"""Items that nobody had yet: how well each way of ranking them finds what people took next.

    python -m benchmarks.cold_items [--validation] [--json FILE]

The bundled sample of Online Retail (names and categories are all that describes its items). For
each seed a random fifth of the items is cold: struck from every history, from what is learned, and
from the counts. Asked is who took a cold item on the held-out invoice:

- ``among cold``: HR@10 where only the cold items are ranked.
- ``in all``: HR@10 where all items that the person did not have are ranked: are new items seen?
- ``known in all``, ``every``: the same for the other items of the invoice, and for all of them.
  What new items gain here, known ones lose: a guess as strong as this gains more than it costs.

``ordinary`` hides nothing: discover HR@10 with the release as it is, and with guesses for the items
outside of what it learned. The settings of `HybridSettings` were chosen with ``--validation`` (the
second-to-last invoices); without it, the last ones are asked. Noise, if any, is drawn by a seed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.assortment import prepare
from client_sdk.intelligence import (
    History,
    RankerSettings,
    RankerTable,
)
from simulations.evaluation.metrics import Scorer, hit_chances, measure, stand
from simulations.evaluation.split import Part, draw_targets, had_items, item_pairs
from simulations.tune import Bench, Release, learn

SEEDS: Final = (0, 1, 2)
DRAWS: Final = 4
COLD_SHARE: Final = 0.2
RELEASES: Final[Mapping[str, Release]] = {
    "no noise": Release(epsilon=None),
    "eps 8 as if 100,000": Release(epsilon=8.0),
}
ORDINARY: Final[Mapping[str, Release]] = {
    "no noise": Release(epsilon=None),
    "eps 8 as if 100,000": Release(epsilon=8.0),
    "eps 2 as if 100,000": Release(epsilon=2.0),
    "eps 8 as it is": Release(epsilon=8.0, population=None),
    "eps 8 as if 100,000, top 400": Release(top_items=400),
}
QUESTIONS: Final = ("among cold", "in all", "known in all", "every")

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """A bench where nobody ever had some of the items.

    Attributes:
        bench: with the histories that are left.
        cold: bool[n], what is hidden.
        table: what was learned from what is left; rows of cold items say nothing.
    """

    bench: Bench
    cold: BoolArray
    table: RankerTable


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--validation", action="store_true", help="ask the second-to-last invoices")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(argv)
    bench = Bench.load("validation" if options.validation else "test")
    rows = {"part": part_of(options.validation), "cold": {}, "ordinary": {}}
    print(f"{'HR@10, ' + rows['part']:44}" + "".join(f"{name:>17}" for name in QUESTIONS))
    for release_name, release in RELEASES.items():
        hidden = [hide(bench, release, seed) for seed in SEEDS]
        for arm in ("popularity", "words and categories", "hybrid vectors", "both"):
            figures = spread(ask(each, arm) for each in hidden)
            rows["cold"][f"{release_name}: {arm}"] = figures
            _print_row(f"{release_name}: {arm}", figures)
    print(f"\n{'ordinary: discover HR@10, nothing hidden':44}{'as it is':>17}{'with guesses':>17}")
    for release_name, release in ORDINARY.items():
        figures = spread(ordinary(bench, release, seed) for seed in SEEDS)
        rows["ordinary"][release_name] = figures
        _print_row(release_name, figures)
    if options.json is not None:
        options.json.write_text(json.dumps({"cold_items": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def part_of(validation: bool) -> Part:
    """Name the part of the data that is asked."""
    return "validation" if validation else "test"


def hide(bench: Bench, release: Release, seed: int) -> Hidden:
    """Strike a fifth of the items from the histories, learn, and forget what noise said of them."""
    cold = np.zeros(bench.n_items, np.bool_)
    order = np.random.default_rng((seed, bench.n_items)).permutation(bench.n_items)
    cold[order[: round(COLD_SHARE * bench.n_items)]] = True
    histories = [_without(history, cold) for history in bench.histories]
    left = replace(bench, arms=replace(bench.arms, histories=histories))
    table = learn(left, release, seed=seed)

    def known(column: npt.NDArray[np.float32], neutral: float) -> npt.NDArray[np.float32]:
        shown = cold.reshape(-1, *[1] * (column.ndim - 1))
        return np.where(shown, np.float32(neutral), column)

    table = RankerTable(
        factors=known(table.factors, 0),
        self_weight=known(table.self_weight, 0),
        scale=known(table.scale, 1),
        bias=known(table.bias, 0),
        popularity=known(table.popularity, 0),
        settings=table.settings,
    )
    return Hidden(bench=left, cold=cold, table=table)


def ask(hidden: Hidden, arm: str) -> dict[str, float]:
    """Give each question's HR@10, averaged over persons."""
    bench, train = hidden.bench, hidden.bench.split.train
    took = np.setdiff1d(item_pairs(bench.split.held_out), item_pairs(train), assume_unique=True)
    persons, items = np.divmod(took, bench.n_items)
    people = np.unique(persons).astype(np.int32)
    table = _table_of(arm, hidden)
    scores = _scorer(bench, table)(people)
    new = ~had_items(train, people)
    is_cold = hidden.cold[items]
    questions = {
        "among cold": (is_cold, new & hidden.cold),
        "in all": (is_cold, new),
        "known in all": (~is_cold, new),
        "every": (np.ones(len(items), np.bool_), new),
    }
    figures = {}
    for name, (asked, candidates) in questions.items():
        rows = np.searchsorted(people, persons[asked])
        standing = stand(scores[rows], items[asked].astype(np.int32), candidates[rows])
        each = hit_chances(standing) / np.bincount(rows)[rows]
        figures[name] = float(each.sum() / len(np.unique(rows)))
    return figures


def ordinary(bench: Bench, release: Release, seed: int) -> dict[str, float]:
    """Give discover HR@10 of a release as it is, and with guesses."""
    table = learn(bench, release, seed=seed)
    tables = {"as it is": table, "with guesses": _completed(bench, table)}
    targets = [draw_targets(bench.split, seed=seed + 1000 * draw) for draw in range(DRAWS)]
    figures = {}
    for name, each in tables.items():
        scorer = _scorer(bench, each)
        runs = [measure(scorer, bench.split, asked)["discover"]["hr@10"] for asked in targets]
        figures[name] = float(np.mean(runs))
    return figures


def spread(runs: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Fold the seeds into mean and sample standard deviation."""
    found = list(runs)
    return {
        name: {
            "mean": float(np.mean([run[name] for run in found])),
            "std": float(np.std([run[name] for run in found], ddof=1)),
        }
        for name in found[0]
    }


def _table_of(arm: str, hidden: Hidden) -> RankerTable:
    table, settings = hidden.table, hidden.table.settings
    if arm == "popularity":
        nothing = dict.fromkeys(
            ("together_weight", "own_weight", "category_weight", "word_weight"), 0.0
        )
        return _with(table, replace(settings, **nothing))
    if arm == "words and categories":
        return table
    completed = _completed(hidden.bench, table)
    if arm == "both":
        return completed
    return _with(completed, replace(settings, word_weight=0.0, category_weight=0.0))


def _scorer(bench: Bench, table: RankerTable) -> Scorer:
    """Score with exactly this table: no guesses but those that it holds."""
    shop = prepare(bench.arms.catalogue, table)
    return bench.arms.with_assortment(replace(shop, table=table))


def _completed(bench: Bench, table: RankerTable) -> RankerTable:
    return prepare(bench.arms.catalogue, table).table


def _with(table: RankerTable, settings: RankerSettings) -> RankerTable:
    return replace(table, settings=settings)


def _without(history: History, cold: BoolArray) -> History:
    left = ~cold[history.items]
    return History(
        items=history.items[left],
        counts=history.counts[left],
        last_time_s=history.last_time_s[left],
        now_s=history.now_s,
    )


def _print_row(name: str, figures: Mapping[str, Mapping[str, Any]]) -> None:
    cells = (f"{cell['mean']:9.4f} ±{cell['std']:.4f}" for cell in figures.values())
    print(f"{name:44}" + "".join(f"{cell:>17}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
