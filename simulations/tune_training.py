"""Choose the settings of item training on validation: ``python -m simulations.tune_training``.

Every row is 20 rounds of 200 people through the real graph in LiteRT, without noise, judged on the
validation part of the bundled data (each customer's second-to-last invoice); 85 % of the people
take part. The first row is the device alone: what a setting has to beat. The clip norm is 1, and
the median norm of an update is printed beside, because a clipped update loses its scale.

The last rows add noise to the table and remove it again (`models.item_training.remove_noise`): with
more noise than signal the list must fall back to that of the device alone, not below.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TextIO

import numpy as np

from aggregator.learning import TRAINING_RIDGE, TrainingRecipe
from client_sdk.intelligence import RankerSettings, RankerTable
from client_sdk.intelligence.item_training import ItemTrainingTask, train_rows
from client_sdk.intelligence.litert import LiteRtModel
from models.export import export_ranker
from models.item_training import (
    TrainingState,
    apply_sum,
    decode_trained,
    initial_state,
)
from simulations.evaluation.metrics import Measured, measure, summarise
from simulations.evaluation.split import PROTOCOLS, draw_targets
from simulations.tune import CONSENTING, Bench

RANK: Final = 32
BATCH: Final = 512
COHORT: Final = 200
SEEDS: Final = (0, 1, 2)
START: Final = TrainingRecipe(rounds=20)
WEIGHTS: Final = (0.003, 0.01, 0.03)
RECIPES: Final = (
    START,
    replace(START, device_learning_rate=1.0),
    replace(START, steps=3, device_learning_rate=1.0),
    replace(START, ridge=0.3),
    replace(START, ridge=3.0),
    replace(START, optimizer=replace(START.optimizer, learning_rate=10.0)),
    replace(START, optimizer=replace(START.optimizer, learning_rate=60.0)),
)
NOISE: Final = (0.05, 1.0, 10.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A table after its rounds, and the median norm of the updates that made it."""

    state: TrainingState
    median_norm: float


def train(bench: Bench, recipe: TrainingRecipe, model: LiteRtModel, *, seed: int = 0) -> Trained:
    """Train a table without noise, as `aggregator.learning.learn_item_training` does."""
    rng = np.random.default_rng(seed)
    people = len(bench.histories)
    taking_part = rng.permutation(people)[: round(CONSENTING * people)]
    state = initial_state(n_items=bench.n_items, rank=RANK, seed=seed)
    norms: list[float] = []
    for number in range(recipe.rounds):
        table = RankerTable.from_arrays(
            factors=state.factors, settings=RankerSettings(form="ridge", ridge=recipe.ridge)
        )
        task = ItemTrainingTask(
            seed=seed * 1000 + number,
            steps=recipe.steps,
            learning_rate=recipe.device_learning_rate,
            negatives=recipe.negatives,
        )
        total = np.zeros(state.factors.shape)
        for person in rng.choice(taking_part, COHORT, replace=False):
            delta = train_rows(model, table, bench.histories[person], task)
            norm = float(np.sqrt(np.square(delta.rows, dtype=np.float64).sum()))
            norms.append(norm)
            total[delta.items] += delta.rows * min(1.0, recipe.clip_norm / max(norm, 1e-12))
        state = apply_sum(state, (total / COHORT).astype(np.float32), recipe.optimizer)
    return Trained(state=state, median_norm=float(np.median(norms)))


def judge(
    bench: Bench, state: TrainingState | None, settings: RankerSettings, *, noise_std: float = 0.0
) -> list[Measured]:
    """Judge a table, or the device alone, on every seed's targets."""
    arms = bench.arms
    if state is None:
        scorer = arms.alone()
    else:
        counts = np.zeros(bench.n_items)
        for history in bench.histories:
            counts[history.items] += 1.0 / np.sqrt(max(len(history), 1))
        decoded = decode_trained(state, counts, table_noise_std=noise_std)
        scorer = arms.together(RankerTable(**vars(decoded), settings=settings))
    return [measure(scorer, bench.split, draw_targets(bench.split, seed=seed)) for seed in SEEDS]


def main(out: TextIO = sys.stdout) -> int:
    """Print the grid; the rows are in the order in which they were tried."""
    bench = Bench.load("validation")
    model = LiteRtModel(export_ranker(RANK, BATCH))
    out.write(f"hr@10{'':51}" + "".join(f"{protocol:>18}" for protocol in PROTOCOLS) + "\n")
    _write(out, "device alone", judge(bench, None, RankerSettings()))
    for recipe in RECIPES:
        trained = train(bench, recipe, model)
        for weight in WEIGHTS:
            settings = RankerSettings(form="ridge", ridge=recipe.ridge, together_weight=weight)
            name = (
                f"steps {recipe.steps} x {recipe.device_learning_rate:g}, ridge {recipe.ridge:g}, "
                f"server {recipe.optimizer.learning_rate:g}, weight {weight:g}"
                f" (norm {trained.median_norm:.2g})"
            )
            _write(out, name, judge(bench, trained.state, settings))
    chosen = RankerSettings(form="ridge", ridge=TRAINING_RIDGE, together_weight=0.01)
    state = train(bench, START, model).state
    rng = np.random.default_rng(1)
    for std in NOISE:
        noise = rng.standard_normal(state.factors.shape) * std
        noisy = replace(state, factors=(state.factors + noise).astype(np.float32))
        _write(out, f"noise {std:g}, kept", judge(bench, noisy, chosen))
        _write(out, f"noise {std:g}, removed", judge(bench, noisy, chosen, noise_std=std))
    return 0


def _write(out: TextIO, name: str, runs: Sequence[Measured]) -> None:
    found = summarise(runs)
    cells = (found[protocol]["hr@10"] for protocol in PROTOCOLS)
    out.write(f"{name:56}" + "".join(f"{c['mean']:10.4f} ±{c['std']:.4f}" for c in cells) + "\n")
    out.flush()


if __name__ == "__main__":
    raise SystemExit(main())
