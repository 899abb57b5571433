"""What is killed: a small town that trains together, and says how far it is.

Run as a script it forks a child for each order it reads: one line of JSON with the folder of the
run and whether it is private. The child goes on where the folder stands; it says ``round`` when a
round was closed and judged, and ``done`` with everything that the run gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.learning import TrainingRecipe
from client_sdk.wire import DEFAULT_POLICY, sha256_hex
from client_sdk.wire.table import RankerSettings
from models.item_training import TrainingState, initial_state
from privacy.clipping import Adaptation
from simulations.checkpoints.training import Trained, TrainingTerms, run_training
from simulations.engines.columns import HistoryColumns
from simulations.engines.crowd import Answer, Crowd
from simulations.engines.holdings import ActiveRelease, Holdings
from tests.client_sdk.victims import say, serve

PEOPLE, ITEMS, RANK, ROUNDS, NOW_S = 240, 50, 4, 6, 1_000_000.0
TERMS = TrainingTerms(
    population="town",
    recipe=TrainingRecipe(
        rounds=ROUNDS,
        min_separation=2,
        clip_norm=0.05,
        adaptation=Adaptation(learning_rate=0.5, count_share=0.05),
    ),
    cohort=150,
    quorum=10,
    seed=3,
    epsilon=4.0,
    delta=1e-6,
)
NO_NOISE = replace(TERMS, epsilon=None, recipe=replace(TERMS.recipe, adaptation=None))


def town(seed: int = 5) -> Crowd:
    """Some people: a few refuse, are switched off, or withdraw when they see the order."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 12, PEOPLE)
    items = [np.sort(rng.choice(ITEMS, each, replace=False)) for each in lengths]
    total = int(lengths.sum())
    histories = HistoryColumns(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.concatenate(items).astype(np.int32),
        counts=rng.integers(1, 5, total).astype(np.float32),
        last_time_s=rng.uniform(0, NOW_S, total),
        now_s=NOW_S,
    )
    release = ActiveRelease(
        catalogue_sha256="1" * 64,
        policy_sha256=DEFAULT_POLICY.sha256,
        n_items=ITEMS,
        settings=RankerSettings(form="ridge", ridge=0.7),
        rank=RANK,
    )
    return replace(
        Crowd.willing(Holdings(release=release, histories=histories)),
        answers=np.where(rng.random(PEOPLE) < 0.1, Answer.NOT_ASKED, Answer.GRANTED).astype("u1"),
        withdraws_midway=rng.random(PEOPLE) < 0.1,
        silent=rng.random(PEOPLE) < 0.1,
    )


def judge(number: int, state: TrainingState) -> dict[str, Any]:
    """Name a round's table."""
    return {"round": number, "table": sha256_hex(state.factors.tobytes())}


def train(
    folder: Path,
    *,
    private: bool,
    on_round: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> Trained:
    """Train the town, or go on."""

    def told(number: int, state: TrainingState) -> dict[str, Any]:
        on_round(number)
        return judge(number, state)

    given: dict[str, Any] = {
        "crowd": town(),
        "terms": TERMS if private else NO_NOISE,
        "start": initial_state(n_items=ITEMS, rank=RANK, seed=1),
        "judge": told,
        # Another process may be changing the sources while the tests run.
        "code": "0" * 64,
    }
    return run_training(folder, **{**given, **options})


def summary(trained: Trained) -> dict[str, Any]:
    """Give everything that has to be the same, as JSON values."""
    ranker, tasks = trained.learned.ranker, trained.learned.tasks
    return {
        "factors": sha256_hex(ranker.factors.tobytes()),
        "popularity": sha256_hex(ranker.popularity.tobytes()),
        "judged": [list(each) for each in trained.judged],
        "tasks": [
            [
                each.event.to_json().decode(),
                each.invited,
                each.accepted,
                {reason.value: count for reason, count in sorted(each.refusals.items())},
            ]
            for each in tasks
        ],
        "events": [each.to_json().decode() for each in trained.learned.events],
    }


def work(order: dict[str, Any]) -> None:
    """Go on where the folder stands."""
    trained = train(
        Path(order["folder"]),
        private=order["private"],
        on_round=lambda number: say({"round": number}),
    )
    say({"done": summary(trained), "resumed_at": trained.resumed_at})


if __name__ == "__main__":
    # Found once for all children: the search takes longer than the run.
    TERMS.recipe.factorisation()
    serve(work)
