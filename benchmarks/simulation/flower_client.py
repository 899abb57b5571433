"""What a client of `benchmarks.simulation.flower_peer` does; Ray's workers import this module."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.simulation.by_hand import RoundWords, train, words_for
from benchmarks.simulation.workload import Workload


@functools.cache
def workload_of(file: str) -> Workload:
    """Read a workload once in each process."""
    return Workload.load(Path(file))


@functools.lru_cache(maxsize=1)
def words_of(file: str, number: int) -> RoundWords:
    """Draw the words of a round once in each worker."""
    workload = workload_of(file)
    return words_for(workload, workload.cohorts[number], seed=workload.settings.seed + number)


def client_app() -> ClientApp:
    """Make the client: the message's person trains on the message's table, and is clipped."""
    app = ClientApp()

    @app.train()
    def train_one(message: Message, context: Context) -> Message:
        del context
        asked_for: Any = message.content["asked"]
        file, number = str(asked_for["workload"]), int(asked_for["round"])
        workload, person = workload_of(file), int(asked_for["person"])
        table: Any = message.content["table"]
        start, stop = workload.offsets[person], workload.offsets[person + 1]
        done = train(
            table["factors"].numpy(),
            workload.items[start:stop],
            workload.weights[start:stop],
            words_of(file, number),
            workload.settings,
        )
        rows = done.rows
        norm = float(np.sqrt(np.square(rows).sum()))
        rows *= np.float32(min(1.0, workload.settings.clip_norm / norm))
        content = RecordDict(
            {"change": ArrayRecord({"touched": Array(done.touched), "rows": Array(rows)})}
        )
        return Message(content, reply_to=message)

    return app
