"""What a round costs as people and items grow: ``python -m benchmarks.simulation.scale``.

Populations are made on disk (`simulations.synthetic`) and read as memory maps; a smaller one is the
first people of the largest. Each is asked in cohorts of a fixed size and of a fixed share. A round
is the engine's, with noise on every entry, and its seconds are told apart:

* ``people``: their updates, clipped and added: what touched rows cost;
* ``noise``: drawn for every entry of the table, whoever touched it, or it would tell who did;
* ``optimiser``: the server's step, on every entry too;
* ``table``: the order's bytes, their hash and checks, the empty sum: once a round, every entry.

So a round costs touched rows plus whole tables. Whether the first part grows no faster than the
touched rows is said for each step of the population; the other parts do not see people at all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.item_training import TrainingRecipe
from benchmarks.simulation.memory import peak_rss_mb
from benchmarks.simulation.ours import Engine
from benchmarks.simulation.split import NotingLedger, SplitPool
from benchmarks.simulation.update import negatives_of
from benchmarks.simulation.workload import Settings, draw_cohorts
from models.item_training import initial_state
from simulations.engines.columns import HistoryColumns
from simulations.synthetic.generate import open_population, write_population
from simulations.synthetic.model import HOURS, PopulationModel

DEVICES: Final = (1_000, 10_000, 100_000, 1_000_000)
ITEMS: Final = (3_706, 50_000, 500_000)
RANK: Final = 32
FIXED_COHORT: Final = 500
SHARE: Final = 0.02
MEAN_ITEMS: Final = 20
ROUNDS: Final = 3
_TASTES: Final = 8
_COUNTED: Final = 2_000
_PERIOD_S: Final = 28 * 86_400.0
# What the clock and the memory may add to a step of ten times as many people.
_TOLERANCE: Final = 1.25
_PARTS: Final = ("people", "noise", "optimiser", "table")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One population, catalogue and cohort; seconds are the median of the timed rounds.

    Attributes:
        devices: People in the population.
        items: Rows of the table.
        cohort: People in a round.
        cohort_is: ``fixed`` or ``proportional``.
        touched_rows: Of all people of a round together, positives and negatives.
        people_s: Their updates, clipped and added.
        noise_s: Drawn and added.
        optimiser_s: The server's step.
        table_s: What else is done once a round.
    """

    devices: int
    items: int
    cohort: int
    cohort_is: str
    touched_rows: int
    people_s: float
    noise_s: float
    optimiser_s: float
    table_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the table and the chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation.scale")
    parser.add_argument("--devices", type=int, nargs="+", default=list(DEVICES), metavar="N")
    parser.add_argument("--items", type=int, nargs="+", default=list(ITEMS), metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for scale.json and scale.png")
    options = parser.parse_args(arguments)
    if min(options.devices) < 100 or min(options.items) < 10 * MEAN_ITEMS or options.seed < 0:
        parser.error(f"devices start at 100, items at {10 * MEAN_ITEMS}, seeds at 0")
    load = os.getloadavg()[0]
    cells: list[Cell] = []
    generated: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="homebody-scale-") as folder:
        for n_items in sorted(set(options.items)):
            model, town = population_model(n_items=n_items), Path(folder) / str(n_items)
            started = time.perf_counter()
            write_population(town, model, people=max(options.devices), seed=options.seed)
            generated[n_items] = round(time.perf_counter() - started, 1)
            everyone = open_population(town).histories
            for devices in sorted(set(options.devices)):
                for kind, cohort in _cohorts(devices):
                    cells.append(
                        measure(
                            first_people(everyone, devices),
                            n_items=n_items,
                            cohort=cohort,
                            cohort_is=kind,
                            seed=options.seed,
                        )
                    )
                    print(_line(cells[-1]), flush=True)
            del everyone
            for file in town.iterdir():
                file.unlink()
    growth = growth_of(cells)
    found = {
        "cells": [asdict(cell) for cell in cells],
        "growth": growth,
        "seconds_to_generate": generated,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "rank": RANK,
        "rounds": ROUNDS,
        "seed": options.seed,
        "machine": {"cores": os.cpu_count(), "load_at_the_start": round(load, 2)},
    }
    for each in growth:
        print(
            f"{each['items']:,} items, {each['from']:,} to {each['to']:,} devices: touched rows "
            f"x{each['rows']:.2f}, seconds of people x{each['seconds']:.2f}: "
            f"{'no faster' if each['no_faster'] else 'FASTER'}"
        )
    print(f"peak memory {found['peak_rss_mb']:,.0f} MB")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=2) + "\n"
        (options.out / "scale.json").write_text(text, encoding="utf-8")
        draw(cells, options.out / "scale.png")
    return 0


def _cohorts(devices: int) -> list[tuple[str, int]]:
    return [
        ("fixed", min(FIXED_COHORT, devices)),
        ("proportional", max(1, round(SHARE * devices))),
    ]


def population_model(*, n_items: int) -> PopulationModel:
    """Describe people with 20 items on average, of a catalogue of any length.

    Args:
        n_items: Length of the catalogue; popularity falls as a Zipf-Mandelbrot law.
    """
    rng = np.random.default_rng(n_items)
    sizes = np.bincount(
        np.clip(rng.lognormal(np.log(MEAN_ITEMS) - 0.32, 0.8, 100_000), 3, 8 * MEAN_ITEMS).astype(
            np.int64
        )
    )
    shares = (np.arange(n_items) + 60.0) ** -1.1
    items = np.stack([shares[rng.permutation(n_items)] for _ in range(_TASTES)])
    return PopulationModel(
        sizes=sizes / sizes.sum(),
        repeats=np.array([0.0, 1.0]),
        tastes=np.full(_TASTES, 0.3),
        items=items / items.sum(axis=1, keepdims=True),
        seasons=np.full((_TASTES, 13), 1.0 / 13.0),
        hours=np.full(HOURS, 1.0 / HOURS),
        start_s=1_600_000_000.0,
        period_s=_PERIOD_S,
    )


def first_people(histories: HistoryColumns, people: int) -> HistoryColumns:
    """Take the first people, still as memory maps."""
    entries = int(histories.offsets[people])
    return HistoryColumns(
        offsets=histories.offsets[: people + 1],
        items=histories.items[:entries],
        counts=histories.counts[:entries],
        last_time_s=histories.last_time_s[:entries],
        now_s=histories.now_s,
    )


def measure(
    histories: HistoryColumns, *, n_items: int, cohort: int, cohort_is: str, seed: int
) -> Cell:
    """Time a few rounds; one before them is not counted."""
    recipe = TrainingRecipe(rounds=1 + ROUNDS, seed=seed)
    settings = Settings(
        seed=seed,
        cohort=cohort,
        steps=recipe.steps,
        learning_rate=recipe.device_learning_rate,
        negatives=recipe.negatives,
        ridge=recipe.ridge,
        clip_norm=recipe.clip_norm,
        noise_multiplier=1.0,
        server_learning_rate=recipe.optimizer.learning_rate,
        momentum=recipe.optimizer.momentum,
    )
    cohorts = draw_cohorts(people=histories.people, cohort=cohort, rounds=1 + ROUNDS, seed=seed)
    pool, ledger = SplitPool(), NotingLedger()
    engine = Engine.of(
        settings,
        histories=histories,
        n_items=n_items,
        rank=RANK,
        cohorts=cohorts,
        pool=pool,
        ledger=ledger,
    )
    state = initial_state(n_items=n_items, rank=RANK, seed=seed)
    spent: dict[str, list[float]] = {name: [] for name in _PARTS}
    for number in range(1 + ROUNDS):
        started = time.perf_counter()
        total = engine.ask(state, number)
        asked = time.perf_counter()
        state = engine.step(state, total)
        ended = time.perf_counter()
        spent["people"].append(pool.people_s)
        spent["noise"].append(asked - ledger.committed)
        spent["optimiser"].append(ended - asked)
        spent["table"].append(ledger.committed - started - pool.people_s)
    medians = {name: float(np.median(values[1:])) for name, values in spent.items()}
    return Cell(
        devices=histories.people,
        items=n_items,
        cohort=cohort,
        cohort_is=cohort_is,
        touched_rows=touched_rows(histories, cohorts[1], n_items=n_items, settings=settings),
        people_s=medians["people"],
        noise_s=medians["noise"],
        optimiser_s=medians["optimiser"],
        table_s=medians["table"],
    )


def touched_rows(
    histories: HistoryColumns, people: NDArray[np.int64], *, n_items: int, settings: Settings
) -> int:
    """Count the rows that people touch, each person's own: positives and different negatives.

    Of a large cohort two thousand people are counted, drawn evenly, and scaled up.
    """
    some = people[:: max(1, len(people) // _COUNTED)]
    touched = 0
    for person in some:
        items = np.asarray(histories.history(int(person)).items)
        drawn = [
            negatives_of(
                seed=settings.seed + 1,
                step=step,
                count=settings.negatives * len(items),
                n_items=n_items,
                avoid=items,
            )
            for step in range(settings.steps)
        ]
        touched += len(items) + len(np.unique(np.concatenate(drawn)))
    return round(touched * len(people) / len(some))


def growth_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Say, step by step, how touched rows and the seconds of people grow.

    Only of proportional cohorts: a fixed one stays as it is.
    """
    found = []
    growing = [cell for cell in cells if cell.cohort_is == "proportional"]
    for before, after in itertools.pairwise(growing):
        if before.items != after.items:
            continue
        rows = after.touched_rows / before.touched_rows
        seconds = after.people_s / before.people_s
        found.append(
            {
                "items": before.items,
                "from": before.devices,
                "to": after.devices,
                "rows": rows,
                "seconds": seconds,
                "no_faster": seconds <= rows * _TOLERANCE,
            }
        )
    return found


def draw(cells: Sequence[Cell], file: Path) -> None:
    """Draw the chart: people's part by touched rows, and the table's parts by rows of the table."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    catalogues = sorted({cell.items for cell in cells})
    for n_items in catalogues:
        own = [cell for cell in cells if cell.items == n_items]
        growing = [cell for cell in own if cell.cohort_is == "proportional"]
        fixed = [cell for cell in own if cell.cohort_is == "fixed"]
        name = f"{n_items:,} items"
        left.loglog(
            [cell.touched_rows for cell in growing],
            [cell.people_s for cell in growing],
            "o-",
            label=name,
        )
        middle.loglog(
            [cell.devices for cell in fixed], [cell.people_s for cell in fixed], "o-", label=name
        )
    ends = [cell for cell in cells if cell.cohort_is == "proportional"]
    first = min(ends, key=lambda cell: cell.touched_rows)
    rows = np.array([first.touched_rows, max(cell.touched_rows for cell in ends)])
    guide = first.people_s * rows / rows[0]
    left.loglog(rows, guide, "--", color="grey", label="as touched rows")
    left.set(title=f"People's updates, cohort {SHARE:.0%} of all", xlabel="touched rows a round")
    middle.set(title=f"People's updates, cohort {FIXED_COHORT}", xlabel="devices")
    middle.set_ylim(bottom=min(cell.people_s for cell in cells) / 10)
    bottom = np.zeros(len(catalogues))
    for part in ("noise", "optimiser", "table"):
        height = np.array(
            [
                np.median([_seconds(cell)[part] for cell in cells if cell.items == n_items])
                for n_items in catalogues
            ]
        )
        right.bar([f"{each:,}" for each in catalogues], height, bottom=bottom, label=part)
        bottom += height
    right.set(title="Once a round, whoever takes part", xlabel="items (rows of the table)")
    for axes in (left, middle, right):
        axes.set_ylabel("seconds a round, one thread")
        axes.legend()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _seconds(cell: Cell) -> Mapping[str, float]:
    return {name: getattr(cell, f"{name}_s") for name in _PARTS}


def _line(cell: Cell) -> str:
    parts = "  ".join(f"{name} {value:8.4f} s" for name, value in _seconds(cell).items())
    whole = math.fsum(_seconds(cell).values())
    return (
        f"{cell.items:8,} items {cell.devices:10,} devices  cohort {cell.cohort:7,}  "
        f"{cell.touched_rows:11,} touched rows  {parts}  in all {whole:8.4f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
