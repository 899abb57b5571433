"""What is killed: an aggregator that trains run after run, and says what it makes and publishes.

Run as a script it forks a child for each order it reads: one line of JSON with the database's URL
and the folder of the noise keys. The child resumes what is running, or begins the next run; it
says ``made`` when a round's noisy sum exists in memory and ``published`` when it is handed out.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.training_run import TrainingRun
from client_sdk.wire import sha256_hex
from privacy.budget import Budget
from tests.aggregator.training_town import TrainingTown
from tests.client_sdk.victims import say, serve

BUDGET = Budget(epsilon=100.0, delta=1e-6)


def run_id_of(number: int) -> str:
    """Name the runs of a store in their order."""
    return f"{number:032x}"


def digest(noisy_sum: NDArray[np.float64]) -> str:
    """Name a noisy sum."""
    return sha256_hex(noisy_sum.tobytes())


def next_run(town: TrainingTown) -> TrainingRun:
    """Resume the run that is under way, or begin the one after the last."""
    for run_id in town.store.running():
        say({"step": "resuming", "run": run_id})
        return town.runs.resume(run_id)
    number = next(n for n in count() if town.store.load(run_id_of(n)) is None)
    say({"step": "beginning", "run": run_id_of(number)})
    # A key without its run is what a kill between the first two steps leaves behind.
    town.keys.destroy(run_id_of(number))
    return town.begin(run_id=run_id_of(number))


def finish(town: TrainingTown, run: TrainingRun) -> None:
    """Take a run to its end."""
    run_id = run.plan.run_id
    while not run.is_complete:
        number = run.rounds_done
        say({"step": "asking", "run": run_id, "round": number})

        def made(noisy_sum: NDArray[np.float64], number: int = number) -> None:
            say({"step": "made", "run": run_id, "round": number, "sum": digest(noisy_sum)})

        published = town.one_round(run, made=made)
        say({"step": "published", "run": run_id, "round": number, "sum": digest(published)})
    run.finish()
    say({"step": "finished", "run": run_id})


def work(order: dict[str, Any]) -> None:
    """Work until killed."""
    town = TrainingTown(order["url"], Path(order["keys"]), budget=BUDGET)
    say({"step": "open"})
    while True:
        finish(town, next_run(town))


if __name__ == "__main__":
    serve(work)
