"""Record how utility falls with noise: ``python -m benchmarks.utility_curves [--json FILE]``.

What the planner predicts from, `privacy/utility_curves.json`, is what this printed, written there
by ``--json privacy/utility_curves.json``. Everything is learned from the bundled Online Retail
sample and judged on its validation part (each customer's second-to-last invoice), by the HR@10 of
`discover`.

The axis is the deviation of the noise in one entry of the released mean, over the clip norm: noise
multiplier / report goal for one release; noise multiplier · RMSE of the prefix sums / (report goal
· rounds) for a run, whose mean is taken over its rounds too.

- ``item-statistics``: one release of counts and packed x x', as `simulations.tune` learns it, with
  K chosen for the noise. Deviations of x x' are given; the counts get the share that tuning chose.
- ``item-training``: 20 rounds of 200 people in LiteRT, as `simulations.tune_training` trains, with
  BLT noise (2 buffers, minimum separation 3) on every round.

MovieLens-1M is not redistributed; its numbers, by ``python -m benchmarks.epsilon_quality``, are
quoted here (`MOVIELENS`) with the ε and the population that they were printed for.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from client_sdk.intelligence import RankerSettings, RankerTable
from client_sdk.intelligence.item_training import ItemTrainingTask, train_rows
from client_sdk.intelligence.litert import LiteRtModel
from models.export import export_ranker
from models.item_training import TrainingState, apply_sum, initial_state
from privacy.factorisation import Factorisation, FactorisationName
from privacy.gaussian import noise_multipliers_for
from privacy.optimise import factorisation_for
from simulations.evaluation.metrics import Measured
from simulations.experiment import TRAINED
from simulations.tune import (
    COUNTS_SHARE,
    DELTA,
    SEEDS,
    Bench,
    Release,
    device_alone,
    judge,
    learn,
)
from simulations.tune_training import BATCH, COHORT, CONSENTING, RANK, START
from simulations.tune_training import judge as judge_training

DATA: Final = "bundled Online Retail sample, 798 people, validation part"
COMMAND: Final = "python -m benchmarks.utility_curves --json privacy/utility_curves.json"
METRIC: Final = "discover HR@10"
STATISTICS_NOISE: Final = (1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 0.1)
TRAINING_NOISE: Final = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2)
TRAINING_SEEDS: Final = (0, 1)
SEPARATION: Final = 3

# What `python -m benchmarks.epsilon_quality --only movielens` printed (full HR@10, test split,
# three noise seeds, δ 1e-6, public attributes as a prior): ε, people of the noise, HR@10.
# Its two references: popularity, and no noise at rank 512.
MOVIELENS: Final = (
    (1.0, 6_040, 0.0749),
    (2.0, 6_040, 0.0825),
    (4.0, 6_040, 0.0843),
    (8.0, 6_040, 0.0914),
    (1.0, 60_400, 0.0962),
    (2.0, 60_400, 0.0997),
    (4.0, 60_400, 0.1036),
    (8.0, 60_400, 0.1045),
)
MOVIELENS_POPULARITY: Final = 0.041
MOVIELENS_NO_NOISE: Final = 0.107


def movielens_curve() -> dict[str, Any]:
    """Turn the quoted numbers into a curve; the axis follows from ε and the people."""
    points = []
    for epsilon, people, utility in MOVIELENS:
        shares = (COUNTS_SHARE, 1.0 - COUNTS_SHARE)
        sigma = noise_multipliers_for(epsilon=epsilon, delta=DELTA, shares=shares)[1]
        points.append({"noise": sigma / people, "utility": utility})
    return {
        "name": "movielens-1m",
        "task": "item-statistics",
        "data": "MovieLens-1M, 6,040 people, leave one out, noise for 6,040 and 60,400 people",
        "metric": "full-ranking HR@10",
        "command": "python -m benchmarks.epsilon_quality --only movielens",
        "people": 6_040,
        "dimension": None,
        "seeds": 3,
        "without_learning": MOVIELENS_POPULARITY,
        "without_noise": MOVIELENS_NO_NOISE,
        "points": sorted(points, key=lambda point: point["noise"]),
    }


def statistics_curve(bench: Bench) -> dict[str, Any]:
    """Measure one-shot item statistics at each noise."""
    alone = _mean(judge(bench, lambda _: device_alone(bench), SEEDS))
    clean = _mean(_judge_release(bench, Release(epsilon=None)))
    points = []
    people = len(bench.histories)
    for noise in STATISTICS_NOISE:
        # The deviation on the mean is what counts; it is reached by scaling noise at a fixed ε.
        shares = (COUNTS_SHARE, 1.0 - COUNTS_SHARE)
        sigma = noise_multipliers_for(epsilon=8.0, delta=DELTA, shares=shares)[1]
        taking_part = round(CONSENTING * people)
        population = round(sigma * people / (noise * taking_part))
        utility = _mean(_judge_release(bench, Release(epsilon=8.0, population=population)))
        points.append({"noise": noise, "utility": utility})
        print(f"item-statistics  noise {noise:8.1e}  {utility:.4f}", flush=True)
    return _curve(
        "item-statistics",
        dimension=None,
        seeds=len(SEEDS),
        alone=alone,
        clean=clean,
        points=points,
    )


def training_curve(bench: Bench) -> dict[str, Any]:
    """Measure item training at each noise."""
    model = LiteRtModel(export_ranker(RANK, BATCH))
    alone = _mean(judge_training(bench, None, RankerSettings()))
    run = factorisation_for(
        FactorisationName.BLT,
        rounds=START.rounds,
        min_separation=SEPARATION,
        max_participations=-(-START.rounds // SEPARATION),
    )
    utilities = {}
    for noise in (0.0, *TRAINING_NOISE):
        runs: list[Measured] = []
        for seed in TRAINING_SEEDS:
            state, left = train(bench, model, run, noise=noise, seed=seed)
            runs += judge_training(bench, state, TRAINED, noise_std=left)
        utilities[noise] = _mean(runs)
        print(f"item-training    noise {noise:8.1e}  {utilities[noise]:.4f}", flush=True)
    points = [{"noise": noise, "utility": utilities[noise]} for noise in TRAINING_NOISE]
    return _curve(
        "item-training",
        dimension=bench.n_items * RANK,
        seeds=len(TRAINING_SEEDS),
        alone=alone,
        clean=utilities[0.0],
        points=points,
    )


def train(
    bench: Bench, model: LiteRtModel, run: Factorisation, *, noise: float, seed: int
) -> tuple[TrainingState, float]:
    """Train a table with correlated noise.

    Args:
        bench: The data.
        model: The graph.
        run: How the rounds' noise hangs together.
        noise: Deviation in one entry of the mean over people and rounds, over the clip norm.
        seed: Of everything.

    Returns:
        The table, and the deviation of the noise that is left in each of its entries.
    """
    rng = np.random.default_rng(seed)
    rounds = run.rounds
    taking_part = rng.permutation(len(bench.histories))[: round(CONSENTING * len(bench.histories))]
    state = initial_state(n_items=bench.n_items, rank=RANK, seed=seed)
    inverse = np.linalg.inv(run.strategy_matrix())
    # White noise such that the prefix sums' RMSE, over people and rounds, is what was asked for.
    white = noise * rounds / math.sqrt(float(run.prefix_errors().mean()))
    normals = np.random.default_rng(seed + 10_000).standard_normal((rounds, state.factors.size))
    for number in range(rounds):
        table = RankerTable.from_arrays(
            factors=state.factors, settings=RankerSettings(form="ridge", ridge=START.ridge)
        )
        task = ItemTrainingTask(
            seed=seed * 1000 + number,
            steps=START.steps,
            learning_rate=START.device_learning_rate,
            negatives=START.negatives,
        )
        mean = (inverse[number] @ normals * white).reshape(state.factors.shape)
        for person in rng.choice(taking_part, COHORT, replace=False):
            delta = train_rows(model, table, bench.histories[person], task)
            norm = float(np.sqrt(np.square(delta.rows, dtype=np.float64).sum()))
            mean[delta.items] += delta.rows * min(1.0, START.clip_norm / max(norm, 1e-12)) / COHORT
        state = apply_sum(state, mean.astype(np.float32), START.optimizer)
    momentum, rate = START.optimizer.momentum, START.optimizer.learning_rate
    kept = np.cumsum(momentum ** np.arange(rounds))[::-1] * rate
    return state, float(white * np.linalg.norm(kept @ inverse))


def _judge_release(bench: Bench, release: Release) -> list[Measured]:
    def make(seed: int) -> Any:
        return bench.arms.together(learn(bench, release, seed=seed))

    return judge(bench, make, SEEDS)


def _mean(runs: Iterable[Measured]) -> float:
    return round(float(np.mean([run["discover"]["hr@10"] for run in runs])), 5)


def _curve(
    task: str,
    *,
    dimension: int | None,
    seeds: int,
    alone: float,
    clean: float,
    points: Sequence[dict[str, float]],
) -> dict[str, Any]:
    return {
        "name": f"online-retail-{task}",
        "task": task,
        "data": DATA,
        "metric": METRIC,
        "command": COMMAND,
        "people": 798,
        "dimension": dimension,
        "seeds": seeds,
        "without_learning": alone,
        "without_noise": clean,
        "points": list(points),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(description="How utility falls with noise.")
    parser.add_argument("--json", type=Path, help="write the curves here as well")
    options = parser.parse_args(arguments)
    bench = Bench.load("validation")
    curves = [movielens_curve(), statistics_curve(bench), training_curve(bench)]
    for curve in curves:
        print(
            f"{curve['name']}: {curve['metric']} {curve['without_learning']:.3f} without learning, "
            f"{curve['without_noise']:.3f} without noise"
        )
    if options.json:
        text = json.dumps({"version": 1, "curves": curves}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
