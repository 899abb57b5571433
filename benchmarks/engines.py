"""The kernel engine beside real devices, and a large town: ``python -m benchmarks.engines``.

First a town: people made from a model that is fitted to the bundled sample, on disk; one training
run with BLT noise over all rounds, participation, ledger and evaluation included. Its seconds and
this process's peak memory are printed. Then item training of the sample's own people: both forms of
the kernel and the real devices take turns; where their sums differ the benchmark fails.

Devices answer in this process, without a network: signatures, consent, encrypted store and LiteRT
are all there. That is what a device does, and what the kernel leaves out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.in_process import InProcessGrid
from aggregator.learning import TrainingRecipe, learn_item_training
from aggregator.publishing import export_checked_graph
from aggregator.strategy import TaskStrategy
from client_sdk.wire import DEFAULT_POLICY, Purpose, TaskKind
from client_sdk.wire.table import RankerTable
from models.item_training import TrainingState, initial_state
from privacy.budget import Budget
from privacy.noise import GaussianNoise
from simulations.data.bundled import load_bundled
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Answer, Crowd
from simulations.engines.encoders import KernelOptions
from simulations.engines.evaluation import evaluate_table
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import Threads
from simulations.evaluation.split import hold_out
from simulations.experiment import TRAINED
from simulations.house import House, UnsafeUnbookedLedger
from simulations.population import (
    SIMULATED_NOW_S,
    Attitude,
    Population,
    draw_attitudes,
    histories_of,
)
from simulations.rollout import update_all
from simulations.synthetic.fit import fit_population
from simulations.synthetic.generate import open_population, write_population
from simulations.workspace import temporary_workspace

RANK: Final = 32
EPSILON: Final = 2.0
DELTA: Final = 1e-7
EVALUATE_EVERY: Final = 20
EVALUATED: Final = 2_000
TURNS: Final = 3
MOST_APART: Final = 1e-5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--cohort", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--devices", type=int, default=200, help="real devices to compare with")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if not 1 <= options.cohort <= options.people or min(options.rounds, options.workers) < 1:
        parser.error("cohort must be from 1 to people; rounds and workers at least 1")
    if options.devices < 1:
        parser.error("devices must be at least 1")
    with temporary_workspace() as folder:
        found: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
        found["town"] = measure_town(folder, options)
        found["engines"] = compare_engines(folder, options.devices)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def measure_town(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fit, generate, train with noise, evaluate."""
    data = load_bundled()
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    model = fit_population(data.interactions)
    seconds["fit"] = time.perf_counter() - started
    started = time.perf_counter()
    write_population(folder / "town", model, people=options.people, seed=1)
    seconds["generate"] = time.perf_counter() - started
    town = open_population(folder / "town")
    crowd = town_of(town.histories, n_items=model.n_items, catalogue=data.catalogue.sha256)
    turns = np.random.default_rng(5).permutation(options.people)
    sample = np.sort(turns[: min(EVALUATED, options.people)]).astype(np.int64)
    settings = replace(TRAINED, ridge=TrainingRecipe(rounds=1).ridge)
    judged: list[float] = []

    def judge(state: TrainingState, people: NDArray[np.int64]) -> float:
        begun = time.perf_counter()
        found = evaluate_table(
            town.histories, town.targets, people, factors=state.factors, settings=settings
        )
        seconds["evaluate"] = seconds.get("evaluate", 0.0) + time.perf_counter() - begun
        return found["hr@10"]

    start = initial_state(n_items=model.n_items, rank=RANK, seed=1)
    last = start

    def on_round(number: int, state: TrainingState) -> None:
        nonlocal last
        last = state
        if (number + 1) % EVALUATE_EVERY == 0:
            judged.append(judge(state, sample))

    def cohort_of(number: int) -> list[int]:
        turn = (number * options.cohort + np.arange(options.cohort)) % options.people
        return [int(person) + 1 for person in np.sort(turns[turn])]

    seeds = iter(range(10**6))
    budgets = {"town": Budget(epsilon=EPSILON * 1.001, delta=DELTA)}
    with House(
        folder / "house",
        catalogue=data.catalogue,
        budgets=budgets,
        clock=lambda: model.now_s,
    ) as house:
        campaign = house.campaign(
            population="town",
            privacy=PrivacyTarget(
                epsilon=EPSILON,
                delta=DELTA,
                new_noise=lambda: GaussianNoise.from_seed_for_simulation(next(seeds)),
            ),
            grid=InProcessGrid({}),
            enrolled={},
            report_goal=options.cohort,
            quorum=max(1, options.cohort // 2),
        )
        strategy = KernelStrategy(
            ledger=house.ledger,
            crowd=crowd,
            pool=Threads(workers=options.workers),
            clock=lambda: model.now_s,
        )
        started = time.perf_counter()
        learned = learn_item_training(
            replace(campaign, strategy=strategy),
            start=start,
            recipe=TrainingRecipe(
                rounds=options.rounds, min_separation=max(1, options.people // options.cohort)
            ),
            cohort_of=cohort_of,
            on_round=on_round,
        )
        seconds["train_and_evaluate"] = time.perf_counter() - started
    accepted = sum(task.accepted for task in learned.tasks)
    found = {
        "people": options.people,
        "cohort": options.cohort,
        "rounds": options.rounds,
        "workers": options.workers,
        "entries": len(town.histories.items),
        "accepted": accepted,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "hr@10_of_the_start": round(judge(start, sample), 4),
        "hr@10_as_it_trains": [round(each, 4) for each in judged],
        "hr@10_in_the_end": round(judge(last, sample), 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    for name, value in found.items():
        print(f"{name:24} {value}", flush=True)
    return found


def town_of(histories: HistoryColumns, *, n_items: int, catalogue: str) -> Crowd:
    """Make a crowd of the synthetic people; they answer as the demo's people do."""
    attitudes = draw_attitudes(histories.people, seed=1)
    return replace(
        Crowd.willing(
            Holdings(
                histories=histories,
                release=ActiveRelease(
                    catalogue_sha256=catalogue,
                    policy_sha256=DEFAULT_POLICY.sha256,
                    n_items=n_items,
                    settings=TRAINED,
                    rank=RANK,
                ),
            )
        ),
        answers=np.array(
            [
                Answer.NOT_ASKED if each is Attitude.REFUSES else Answer.GRANTED
                for each in attitudes
            ],
            np.uint8,
        ),
        withdraws_midway=np.array([each is Attitude.WITHDRAWS_MIDWAY for each in attitudes]),
    )


def compare_engines(folder: Path, people: int) -> dict[str, Any]:
    """Let the engines take turns on one round of item training of the same people."""
    data = load_bundled()
    rows = data.interactions
    kept = rows.take(rows.users < people)
    split = hold_out(replace(kept, n_people=min(people, rows.n_people)))
    people = split.train.n_people
    n_items = len(data.catalogue.items)
    start = initial_state(n_items=n_items, rank=RANK, seed=1)
    graph = export_checked_graph(RANK)
    with House(
        folder / "sample", catalogue=data.catalogue, budgets={}, clock=lambda: SIMULATED_NOW_S
    ) as house:
        table = RankerTable.from_arrays(factors=start.factors, settings=TRAINED)
        house.publisher.publish_start(table=table, graph=graph)
        with Population(
            folder / "devices",
            split=split,
            catalogue=data.catalogue,
            server_url=house.url,
            trusted_root=house.trusted_root,
            seed=1,
        ) as population:
            update_all(population, tick=lambda: None)
            for person in population.people:
                person.device.consent.grant(Purpose.TRAIN, Purpose.STATISTICS)
            campaign = house.campaign(
                population="sample",
                privacy=UnsafeNoPrivacy(),
                grid=InProcessGrid({each.number + 1: each.node for each in population.people}),
                enrolled=population.directory,
                report_goal=people,
                quorum=1,
            )
            histories = HistoryColumns.from_histories(
                histories_of(split, data.catalogue), now_s=SIMULATED_NOW_S
            )
            crowd = town_of(histories, n_items=n_items, catalogue=data.catalogue.sha256)
            crowd.answers[:] = Answer.GRANTED
            strategies: dict[str, TaskStrategy] = {"devices": campaign.strategy}
            for name, by_rows in (("kernel", False), ("kernel_by_rows", True)):
                strategies[name] = KernelStrategy(
                    ledger=UnsafeUnbookedLedger(),
                    crowd=crowd,
                    pool=Threads(options=KernelOptions(by_rows=by_rows)),
                    clock=lambda: SIMULATED_NOW_S,
                )
            return _in_turns(campaign, strategies, start)


def _in_turns(
    campaign: Campaign, strategies: Mapping[str, TaskStrategy], start: TrainingState
) -> dict[str, Any]:
    """Time a round of each engine, in turns; the first turn does not count."""
    n_items, rank = start.factors.shape
    recipe = TrainingRecipe(rounds=1)
    rates: dict[str, list[float]] = {name: [] for name in strategies}
    apart: dict[str, float] = {}
    updates = 0
    for turn in range(TURNS + 1):
        sums = {}
        for name, strategy in strategies.items():
            started = time.perf_counter()
            result = replace(campaign, strategy=strategy).ask(
                TaskKind.ITEM_TRAINING,
                dimension=n_items * rank,
                noise_multiplier=0.0,
                parameters=recipe.parameters(turn, rank=rank),
                payload=np.ascontiguousarray(start.factors, "<f4").tobytes(),
            )
            if turn:
                rates[name].append(result.accepted / (time.perf_counter() - started))
            sums[name], updates = result.noisy_sum, result.accepted
        for name, total in sums.items():
            gap = np.linalg.norm(total - sums["devices"]) / np.linalg.norm(sums["devices"])
            if gap > MOST_APART:
                raise SystemExit(f"{name}: the sum is {gap:.1e} away from that of the devices")
            apart[name] = max(apart.get(name, 0.0), float(gap))
    found: dict[str, Any] = {"updates_a_round": updates}
    for name, each in rates.items():
        ratios = [ours / theirs for ours, theirs in zip(each, rates["devices"], strict=True)]
        found[name] = {
            "updates_per_s": round(float(np.median(each)), 1),
            "ratio_to_devices": [round(ratio, 1) for ratio in ratios],
            "relative_distance_of_the_sum": apart[name],
        }
        print(f"{name:24} {found[name]}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
