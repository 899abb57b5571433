"""What pfl's loop is made of, whichever way a peer writes its round; needs pfl."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset

from benchmarks.simulation.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What is handed to ``algorithm.run``.

    Attributes:
        algorithm: pfl's or one of ours.
        parameters: Of the algorithm.
        train_parameters: Of people's training.
        model: Has ``last``, the aggregate that it was given last.
        aggregator: None for pfl's own.
    """

    algorithm: Any
    parameters: Any
    train_parameters: Any
    model: Any
    aggregator: Any = None


def data_of(workload: Workload) -> Any:
    """Give pfl the people, sampled as the workload says, round after round."""
    order: Iterator[int] = iter(workload.cohorts.ravel().tolist())

    def dataset_of(person: int) -> Any:
        start, stop = workload.offsets[person], workload.offsets[person + 1]
        return Dataset([workload.items[start:stop], workload.weights[start:stop]])

    return FederatedDataset(dataset_of, lambda: next(order))
