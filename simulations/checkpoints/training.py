"""A whole training run over simulated people in one folder, which a kill can't spoil.

The folder holds the ledger and the store of runs, the noise keys, and the checkpoints. Running the
same again goes on where it stands, or gives the result at once where it is finished.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from aggregator.campaign import Campaign, PrivacyTarget, UnsafeNoPrivacy
from aggregator.in_process import InProcessGrid
from aggregator.learning import COUNTS_SHARE, Learned, TrainingRecipe
from aggregator.ledger import Ledger
from aggregator.run_keys import FileNoiseKeys
from aggregator.run_store import RunStore
from aggregator.strategy import ReleaseLedger
from aggregator.training_run import TrainingRuns
from models.item_training import TrainingState
from privacy.budget import Budget
from privacy.events import AssumedPopulation
from privacy.noise import GaussianNoise
from simulations.checkpoints.files import Checkpoints
from simulations.checkpoints.fingerprint import Fingerprint
from simulations.checkpoints.resuming import Judge, ResumableSimulation
from simulations.engines.crowd import Crowd
from simulations.engines.kernel import KernelStrategy
from simulations.engines.pool import ONE_THREAD, Pool
from simulations.house import UnsafeUnbookedLedger

_SLACK: Final = 1.001
_SEEDS_APART: Final = 1_000_003


@dataclass(frozen=True, kw_only=True)
class TrainingTerms:
    """What decides a training run's result, beside its people and its first table.

    Attributes:
        population: Name of the people, in the ledger.
        recipe: What is done in each round.
        cohort: People who are invited to a round; they come in turns.
        quorum: Fewest contributions for a round.
        seed: Of the noise, the turns and the task ids.
        epsilon: What all of it may cost; None for no noise at all.
        delta: Of that claim.
        counts_share: Share of ρ for the item counts.
        assumed: Set where these people stand for more.

    Raises:
        ValueError: nobody in a cohort, a quorum that no cohort has, or a seed below 0.
    """

    population: str
    recipe: TrainingRecipe
    cohort: int
    quorum: int
    seed: int
    epsilon: float | None
    delta: float
    counts_share: float = COUNTS_SHARE
    assumed: AssumedPopulation | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.quorum <= self.cohort or self.seed < 0:
            raise ValueError(
                f"quorum must be from 1 to the cohort of {self.cohort}, and seed at least 0; "
                f"got {self.quorum} and {self.seed}"
            )

    def to_values(self) -> dict[str, Any]:
        """Give plain JSON values, for the fingerprint."""
        return asdict(self)

    def cohort_of(self, number: int, *, people: int) -> list[int]:
        """Give a round's node ids: people take turns in an order that the seed drew.

        >>> terms = TrainingTerms(population="town", recipe=TrainingRecipe(rounds=3), cohort=2,
        ...     quorum=1, seed=0, epsilon=None, delta=1e-6)
        >>> sorted(terms.cohort_of(0, people=4) + terms.cohort_of(1, people=4))
        [1, 2, 3, 4]
        """
        turns = np.random.default_rng(self.seed).permutation(people)
        turn = (number * self.cohort + np.arange(min(self.cohort, people))) % people
        return [int(person) + 1 for person in np.sort(turns[turn])]

    def privacy(self) -> PrivacyTarget | UnsafeNoPrivacy:
        """Give the price, with noise that the seed repeats."""
        if self.epsilon is None:
            return UnsafeNoPrivacy()
        seeds = itertools.count(self.seed * _SEEDS_APART)
        return PrivacyTarget(
            epsilon=self.epsilon,
            delta=self.delta,
            new_noise=lambda: GaussianNoise.from_seed_for_simulation(next(seeds)),
            assumed=self.assumed,
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training run gave.

    Attributes:
        learned: As `aggregator.learning.learn_item_training` gives it, of all processes.
        judged: What the judge said of each round.
        resumed_at: How many tasks and rounds earlier processes had done; 0 for a new run.
    """

    learned: Learned
    judged: list[tuple[int, Any]]
    resumed_at: int


def run_training(
    folder: Path,
    *,
    crowd: Crowd,
    terms: TrainingTerms,
    start: TrainingState,
    settings: Mapping[str, Any] | None = None,
    pool: Pool = ONE_THREAD,
    judge: Judge | None = None,
    code: str | None = None,
) -> Trained:
    """Train a table on the engine ``kernel``; killed at any moment, the same call goes on.

    Args:
        folder: Of this run alone; made where it is not there.
        crowd: The people as they are before anything was asked. Their clock stands still.
        terms: What decides the result.
        start: The first table.
        settings: What else decides it (a scenario), as plain JSON values.
        pool: Who adds up; any, also another one than before.
        judge: Called once for each round; what it says is kept.
        code: Digest of the code; by default this process'.

    Raises:
        CheckpointError: the folder is another run's, in use, or damaged.
        BudgetExhaustedError, QuorumNotReachedError: as `learn_item_training`.
    """
    release = crowd.holdings.release
    told = {
        **terms.to_values(),
        "start": hashlib.sha256(start.factors.tobytes() + start.velocity.tobytes()).hexdigest(),
        "settings": dict(settings or {}),
    }
    fingerprint = Fingerprint.of(told, crowd.holdings, code=code)
    with Checkpoints(folder) as checkpoints:
        database = f"sqlite:///{folder / 'house.db'}"
        budget = Budget(epsilon=(terms.epsilon or 1.0) * _SLACK, delta=terms.delta)
        with (
            closing(
                Ledger(database, {terms.population: budget}, now_s=lambda: crowd.now_s)
            ) as ledger,
            closing(RunStore(database)) as store,
        ):
            runs = TrainingRuns(
                ledger=ledger, store=store, keys=FileNoiseKeys(folder / "noise-keys")
            )
            simulation = ResumableSimulation(
                checkpoints, fingerprint=fingerprint, crowd=crowd, runs=runs, seed=terms.seed
            )
            resumed_at = simulation.steps_done
            booking: ReleaseLedger = UnsafeUnbookedLedger() if terms.epsilon is None else ledger
            campaign = Campaign(
                strategy=KernelStrategy(
                    ledger=booking, crowd=crowd, pool=pool, clock=lambda: crowd.now_s
                ),
                grid=InProcessGrid({}),
                population=terms.population,
                n_items=release.n_items,
                catalogue_sha256=release.catalogue_sha256,
                policy_sha256=release.policy_sha256,
                report_goal=terms.cohort,
                quorum=terms.quorum,
                privacy=terms.privacy(),
                clock=lambda: crowd.now_s,
            )
            learned, judged = simulation.learn_item_training(
                campaign,
                start=start,
                recipe=terms.recipe,
                cohort_of=lambda number: terms.cohort_of(number, people=crowd.people),
                counts_share=terms.counts_share,
                judge=judge,
            )
    return Trained(learned=learned, judged=judged, resumed_at=resumed_at)
