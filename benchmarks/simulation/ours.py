"""Homebody's engine on the workload: ``python -m benchmarks.simulation.ours``.

A round is what `homebody simulate` does in one: the order with the table in it, consent and
participation of each invited person, the kernel's clipped lattice sum, noise from the system's
random source on every entry, the server's step. Nothing is booked, as peers book nothing.

* ``shortcut``: the kernel as it is by default, along the private vector.
* ``by_rows``: the general kernel, which copies and steps each row by itself.

Beside the rounds the parts of one are timed: ``kernel`` is people's contributions alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.in_process import InProcessGrid
from aggregator.item_training import TrainingRecipe
from aggregator.strategy import ReleaseLedger
from benchmarks.simulation.memory import peak_rss_mb
from benchmarks.simulation.workload import Settings, Workload
from client_sdk.wire import DEFAULT_POLICY, Order, RunTerms, TaskKind, sha256_hex
from models.item_training import (
    ServerOptimizer,
    TrainingState,
    apply_sum,
    state_from_factors,
)
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Crowd
from simulations.engines.encoders import KernelOptions
from simulations.engines.holdings import ActiveRelease, Holdings
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import Pool, ShardSum, Threads
from simulations.experiment import TRAINED
from simulations.house import UnsafeUnbookedLedger

FORMS: Final = ("shortcut", "by_rows")
# A batch that holds the longest history with its negatives: all events are positives.
BATCH: Final = 16_384
_CATALOGUE: Final = sha256_hex(b"a synthetic catalogue")


def main() -> int:
    """Run the first rounds of the workload; time all but the first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation.ours")
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True, help="timed, after one that is not")
    parser.add_argument("--form", choices=FORMS, required=True)
    parser.add_argument("--sum", type=Path, help="write the first round's sum, without noise")
    options = parser.parse_args()
    workload = Workload.load(options.workload)
    by_rows = options.form == "by_rows"
    if options.sum is not None:
        np.save(options.sum, first_sum(workload, by_rows=by_rows))
    kernel = TimedPool(inner=Threads(options=KernelOptions(by_rows=by_rows)))
    engine = Engine.of_workload(workload, pool=kernel, rounds=1 + options.rounds)
    state, seconds = state_from_factors(workload.factors), []
    for number in range(1 + options.rounds):
        started = time.perf_counter()
        state = engine.round(state, number)
        seconds.append(time.perf_counter() - started)
    found = {
        "seconds": seconds[1:],
        "kernel_seconds": kernel.seconds[1:],
        "peak_rss_mb": peak_rss_mb(),
        "versions": {"numpy": version("numpy")},
    }
    print(json.dumps(found))
    return 0


def first_sum(workload: Workload, *, by_rows: bool = False) -> NDArray[np.float64]:
    """Give the first round's sum without noise, float64[n_items, rank]."""
    pool = Threads(options=KernelOptions(by_rows=by_rows))
    engine = Engine.of_workload(workload, pool=pool, rounds=1, noise=False)
    return engine.ask(state_from_factors(workload.factors), 0)


def recipe_of(asked: Settings, *, rounds: int) -> TrainingRecipe:
    """Give the recipe that the settings describe."""
    return TrainingRecipe(
        rounds=rounds,
        steps=asked.steps,
        device_learning_rate=asked.learning_rate,
        negatives=asked.negatives,
        ridge=asked.ridge,
        clip_norm=asked.clip_norm,
        seed=asked.seed,
        optimizer=ServerOptimizer(
            learning_rate=asked.server_learning_rate, momentum=asked.momentum
        ),
    )


def histories_of(workload: Workload) -> HistoryColumns:
    """Lay the workload's people out as the engine wants them."""
    return HistoryColumns(
        offsets=workload.offsets,
        items=workload.items,
        counts=np.ones(len(workload.items), np.float32),
        last_time_s=workload.last_time_s,
        now_s=float(workload.now_s[0]),
    )


def crowd_of(histories: HistoryColumns, *, n_items: int, rank: int) -> Crowd:
    """Make willing people who hold a release of this shape."""
    release = ActiveRelease(
        catalogue_sha256=_CATALOGUE,
        policy_sha256=DEFAULT_POLICY.sha256,
        n_items=n_items,
        settings=TRAINED,
        rank=rank,
        batch=BATCH,
    )
    return Crowd.willing(Holdings(histories=histories, release=release))


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """Rounds of a workload through the kernel engine.

    Attributes:
        settings: Of every round.
        cohorts: int64[rounds, cohort], people by number.
        campaign: Whom to ask.
        recipe: What is asked.
        terms: What people hold to: consent and participation are checked in each round.
    """

    settings: Settings
    cohorts: NDArray[np.int64]
    campaign: Campaign
    recipe: TrainingRecipe
    terms: RunTerms

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        histories: HistoryColumns,
        n_items: int,
        rank: int,
        cohorts: NDArray[np.int64],
        pool: Pool,
        noise: bool = True,
        ledger: ReleaseLedger | None = None,
    ) -> Engine:
        """Set up; nothing of this is timed.

        Args:
            settings: Of every round.
            histories: What people hold.
            n_items: Length of the catalogue.
            rank: Of the table.
            cohorts: int64[rounds, cohort], people by number.
            pool: Who adds up.
            noise: False for the exact sum.
            ledger: Told of each release; by default nobody.
        """
        rounds = len(cohorts)
        clock: Callable[[], float] = lambda: histories.now_s  # noqa: E731 - a clock that stands
        campaign = Campaign(
            strategy=KernelStrategy(
                ledger=UnsafeUnbookedLedger() if ledger is None else ledger,
                crowd=crowd_of(histories, n_items=n_items, rank=rank),
                pool=pool,
                clock=clock,
            ),
            grid=InProcessGrid({}),
            population="benchmark",
            n_items=n_items,
            catalogue_sha256=_CATALOGUE,
            policy_sha256=DEFAULT_POLICY.sha256,
            report_goal=settings.cohort,
            quorum=1,
            privacy=PrivacyTarget(epsilon=1.0, delta=1e-6) if noise else UnsafeNoPrivacy(),
            clock=clock,
        )
        terms = RunTerms(
            run_id=campaign.new_task_id(),
            started_at_s=int(histories.now_s),
            rounds=rounds,
            min_separation=1,
            max_participations=rounds,
        )
        return cls(
            settings=settings,
            cohorts=cohorts,
            campaign=campaign,
            recipe=recipe_of(settings, rounds=rounds),
            terms=terms,
        )

    @classmethod
    def of_workload(
        cls, workload: Workload, *, pool: Pool, rounds: int, noise: bool = True
    ) -> Engine:
        """Set up for the first rounds of a workload."""
        n_items, rank = workload.factors.shape
        return cls.of(
            workload.settings,
            histories=histories_of(workload),
            n_items=n_items,
            rank=rank,
            cohorts=workload.cohorts[:rounds],
            pool=pool,
            noise=noise,
        )

    def ask(self, state: TrainingState, number: int) -> NDArray[np.float64]:
        """Ask a round's cohort; give the noisy sum, float64[n_items, rank]."""
        n_items, rank = state.factors.shape
        private = isinstance(self.campaign.privacy, PrivacyTarget)
        result = self.campaign.ask(
            TaskKind.ITEM_TRAINING,
            dimension=n_items * rank,
            noise_multiplier=self.settings.noise_multiplier if private else 0.0,
            parameters=self.recipe.parameters(number, rank=rank),
            payload=np.ascontiguousarray(state.factors, "<f4").tobytes(),
            round_number=number,
            clip_norm=self.recipe.clip_norm,
            cohort=(self.cohorts[number] + 1).tolist(),
            run=self.terms,
        )
        if result.accepted != len(self.cohorts[number]):
            raise SystemExit(f"only {result.accepted} people took part: {dict(result.refusals)}")
        return result.noisy_sum.reshape(n_items, rank)

    def step(self, state: TrainingState, total: NDArray[np.float64]) -> TrainingState:
        """Take the server's step along a noisy sum."""
        mean = (total / self.settings.cohort).astype(np.float32)
        return apply_sum(state, mean, self.recipe.optimizer)

    def round(self, state: TrainingState, number: int) -> TrainingState:
        """Do one whole round."""
        return self.step(state, self.ask(state, number))


class TimedPool:
    """A pool that notes how long each sum took."""

    def __init__(self, *, inner: Pool) -> None:
        self._inner = inner
        self.seconds: list[float] = []

    def add_up(self, order: Order, holdings: Holdings, people: NDArray[np.int64]) -> ShardSum:
        """Add up the contributions of these people, in their order."""
        started = time.perf_counter()
        found = self._inner.add_up(order, holdings, people)
        self.seconds.append(time.perf_counter() - started)
        return found


if __name__ == "__main__":
    sys.exit(main())
