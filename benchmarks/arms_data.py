"""What arms are compared on, and how they learn there; see `benchmarks.arms`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import movielens
from client_sdk.intelligence import RankerTable
from client_sdk.wire import Catalogue, Item
from privacy.budget import Budget
from privacy.events import AssumedPopulation
from simulations.arms import Arms, ArmSettings, Request
from simulations.arms.ease import EaseSettings
from simulations.arms.least_squares import LeastSquaresSettings
from simulations.arms.local_statistics import LocalSettings
from simulations.arms.neighbours import NeighbourSettings
from simulations.arms.private_factors import FactorSettings
from simulations.data.bundled import load_bundled
from simulations.data.interactions import DEFAULT_KIND, EVENT_KINDS, Interactions, LoadedData
from simulations.evaluation.metrics import Measured, Scorer, measure
from simulations.evaluation.split import Part, Split, Targets, draw_targets, hold_out
from simulations.population import histories_of
from simulations.tune import AS_IS_PRIOR, AS_IS_STATISTICS, Bench, Release
from simulations.tune import learn as learn_bundled

DELTA: Final = 1e-6

# Chosen by `python -m benchmarks.arms --tune`; the private arms for the people as they are, and in
# `MANY_…` for more.
RETAIL: Final = ArmSettings(ease=EaseSettings(ridge=2.0, length_power=0.25))
RETAIL_MANY: Final = replace(
    RETAIL, factors=FactorSettings(learning_rate=100.0, top_items=400, rank=16)
)
MOVIELENS: Final = ArmSettings(
    ease=EaseSettings(ridge=2.0, length_power=0.25),
    neighbours=NeighbourSettings(neighbours=200, shrink=10.0),
    least_squares=LeastSquaresSettings(factors=128, regularisation=30.0, positive_weight=2.0),
    factors=FactorSettings(learning_rate=300.0, top_items=1_600, rank=32, zero_weight=1.0),
    local=LocalSettings(counts_share=0.5, most_top_items=128),
)
MOVIELENS_MANY: Final = MOVIELENS


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """One data set, ready to learn from and to ask.

    Attributes:
        name: For the table.
        split: What may be learned from, and what is held out.
        arms: What arms are made from.
        settings: How they learn from the people there are.
        settings_many: How they learn where more people are assumed.
        tuning_seeds: How many seeds a choice rests on.
        targets: From a seed to what is asked.
        asked: Protocols that mean something here.
        together: From ε (None: no noise), times the people and seed to a release of ours.
    """

    name: str
    split: Split
    arms: Arms
    settings: ArmSettings
    settings_many: ArmSettings
    tuning_seeds: int
    targets: Callable[[int], Targets]
    asked: tuple[str, ...]
    together: Callable[[float | None, int, int], RankerTable]

    @property
    def people(self) -> int:
        """How many there are."""
        return self.split.train.n_people

    def settings_for(self, times: int) -> ArmSettings:
        """How arms learn from so many times the people."""
        return self.settings if times == 1 else self.settings_many


def retail(part: Part) -> Workload:
    """Load the bundled sample."""
    return retail_of(load_bundled(), part, name="Online Retail")


def retail_of(data: LoadedData, part: Part, *, name: str) -> Workload:
    """Take a shop's events, with the settings that were chosen on the bundled sample."""
    split = hold_out(data.interactions, part=part)
    arms = Arms(
        train=split.train, histories=histories_of(split, data.catalogue), catalogue=data.catalogue
    )
    bench = Bench(split=split, arms=arms)

    def together(epsilon: float | None, times: int, seed: int) -> RankerTable:
        release = Release(
            epsilon=epsilon,
            population=times * split.train.n_people,
            statistics=AS_IS_STATISTICS,
            prior=AS_IS_PRIOR,
        )
        return learn_bundled(bench, release, seed=seed)

    return Workload(
        name=name,
        split=split,
        arms=arms,
        settings=RETAIL,
        settings_many=RETAIL_MANY,
        tuning_seeds=3,
        targets=lambda seed: draw_targets(split, seed=seed),
        asked=("discover", "next", "sampled"),
        together=together,
    )


def movielens_workload(folder: Path, part: Part) -> Workload:
    """Load MovieLens-1M as columns: every rating is an occasion of its own, at no known time."""
    ratings = movielens.load(folder)
    if part == "validation":
        ratings = movielens.validation_of(ratings, seed=0)
    population = movielens.Population(ratings)
    everyone = np.arange(ratings.n_people, dtype=np.int32)
    train = _columns(ratings.users, ratings.items, n_people=ratings.n_people)
    held_out = _columns(everyone, ratings.targets, n_people=ratings.n_people)
    wanted = ratings.targets.astype(np.int32)
    targets = Targets(
        seed=0,
        next_people=everyone,
        next_items=wanted,
        discover_people=everyone,
        discover_items=wanted,
        negatives=ratings.negatives,
    )

    @lru_cache(maxsize=1)
    def in_the_clear() -> RankerTable:
        return movielens.learn(
            population,
            epsilon=None,
            times=1,
            seed=0,
            statistics=movielens.CLEAN,
            length_power=movielens.CLEAN_LENGTH_POWER,
        )

    def together(epsilon: float | None, times: int, seed: int) -> RankerTable:
        if epsilon is None:
            return in_the_clear()
        return movielens.learn(
            population,
            epsilon=epsilon,
            times=times,
            seed=seed,
            statistics=movielens.NOISY,
            most_top_items=movielens.MOST_TOP_ITEMS,
        )

    return Workload(
        name="MovieLens-1M",
        split=Split(train=train, held_out=held_out, now_s=np.zeros(ratings.n_people)),
        arms=Arms(
            train=train,
            histories=population.histories,
            catalogue=Catalogue(
                items=tuple(Item(item_id=str(item)) for item in range(movielens.N_ITEMS))
            ),
            ranker=movielens.RANKER,
        ),
        settings=MOVIELENS,
        settings_many=MOVIELENS_MANY,
        tuning_seeds=1,
        targets=lambda _: targets,
        asked=("discover", "sampled"),
        together=together,
    )


def _columns(users: Any, items: Any, *, n_people: int) -> Interactions:
    rows = len(users)
    return Interactions(
        n_people=n_people,
        n_items=movielens.N_ITEMS,
        users=np.asarray(users, np.int32),
        items=np.asarray(items, np.int32),
        times_s=np.zeros(rows),
        quantities=np.ones(rows),
        prices=np.full(rows, np.nan),
        kinds=np.full(rows, EVENT_KINDS.index(DEFAULT_KIND), np.int8),
        occasions=np.arange(rows, dtype=np.int32),
    )


def request_for(
    load: Workload, seed: int, settings: ArmSettings, epsilon: float | None, times: int
) -> Request:
    """Give what an arm is made with; ε None for arms that spend nothing."""
    return Request(
        seed=seed,
        settings=settings,
        budget=None if epsilon is None else Budget(epsilon=epsilon, delta=DELTA),
        assumed=_assumed(load, times),
    )


def forecast_of(load: Workload, times: int) -> str:
    """Say what is assumed of so many times the people; nothing for those there are."""
    assumed = _assumed(load, times)
    return "" if assumed is None else assumed.label


def _assumed(load: Workload, times: int) -> AssumedPopulation | None:
    if times == 1:
        return None
    return AssumedPopulation(simulated_people=load.people, people=times * load.people)


def metrics_of(load: Workload, scorer: Scorer, targets: Targets) -> dict[str, float]:
    """Measure one arm in the protocols that are asked."""
    found: Measured = measure(scorer, load.split, targets)
    return {
        f"{protocol} {metric}": value
        for protocol in load.asked
        for metric, value in found[protocol].items()
    }


def workloads(folder: Path | None, only: str | None, part: Part) -> Iterable[Workload]:
    """Load one data set after the other."""
    if only != "movielens":
        yield retail(part)
    if only != "bundled" and folder is not None:
        yield movielens_workload(folder, part)
