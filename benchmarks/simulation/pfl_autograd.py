"""A round in pfl as its own examples write it: torch, a loss, `backward`; needs pfl and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.dataset import Dataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel

from benchmarks.simulation.pfl_parts import Parts
from benchmarks.simulation.update import negatives_of
from benchmarks.simulation.workload import Settings, Workload


class Scores(torch.nn.Module):
    """The table as an embedding with sparse gradients."""

    def __init__(self, factors: NDArray[np.float32]) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(*factors.shape, sparse=True)
        with torch.no_grad():
            self.table.weight.copy_(torch.from_numpy(factors))

    def loss(
        self, u: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Give the weighted logistic loss of the rows."""
        return torch.nn.functional.binary_cross_entropy_with_logits(
            self.table(rows) @ u, labels, weights, reduction="sum"
        )

    def metrics(self, *data: torch.Tensor) -> dict[str, Any]:
        """Say nothing of interest; pfl asks once, in the round that is not timed."""
        return {"rows": Weighted(len(data), 1)}

    @torch.no_grad()
    def private_vector(self, items: torch.Tensor, x: torch.Tensor, ridge: float) -> torch.Tensor:
        """Solve the ridge."""
        held = self.table.weight[items]
        gram = held.T @ (x[:, None] * held) + ridge * torch.eye(held.shape[1])
        return torch.linalg.solve(gram, x @ held)


class NotingModel(PyTorchModel):
    """Keeps the last aggregate, to be compared."""

    def __init__(self, module: Scores, asked: Settings) -> None:
        super().__init__(
            module,
            torch.optim.SGD,
            torch.optim.SGD(
                module.parameters(), lr=asked.server_learning_rate, momentum=asked.momentum
            ),
        )
        self._cohort = asked.cohort
        self.last: NDArray[Any] = np.zeros(())

    def apply_model_update(self, statistics: Any) -> Any:
        """Take the server's step along the mean."""
        self.last = statistics["table.weight"].numpy() * self._cohort
        return super().apply_model_update(statistics)


class Averaging(FederatedAveraging):
    """Federated averaging in which each person solves their vector and draws negatives."""

    def __init__(self, asked: Settings) -> None:
        super().__init__()
        self._asked = asked

    def train_one_user(
        self, initial_model_state: Any, model: Any, user_dataset: Any, central_context: Any
    ) -> Any:
        """Take a person's steps, each on its own negatives."""
        asked, (items, x) = self._asked, user_dataset.raw_data
        module = model.pytorch_model
        u = module.private_vector(torch.from_numpy(items), torch.from_numpy(x), asked.ridge)
        found = None
        for step in range(asked.steps):
            drawn = negatives_of(
                seed=asked.seed + central_context.current_central_iteration,
                step=step,
                count=asked.negatives * len(items),
                n_items=module.table.num_embeddings,
                avoid=items,
            )
            negatives, counts = np.unique(drawn, return_counts=True)
            batch = Dataset(
                [
                    u,
                    torch.from_numpy(np.concatenate([items, negatives])),
                    torch.cat([torch.ones(len(items)), torch.zeros(len(negatives))]),
                    torch.cat([torch.ones(len(items)), torch.from_numpy(counts).float()]),
                ]
            )
            found = super().train_one_user(initial_model_state, model, batch, central_context)
        return found


def parts_of(workload: Workload, *, rounds: int) -> Parts:
    """Put the parts together."""
    torch.set_num_threads(1)
    asked = workload.settings
    return Parts(
        algorithm=Averaging(asked),
        parameters=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=10**9,
            train_cohort_size=asked.cohort,
            val_cohort_size=None,
        ),
        train_parameters=NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=asked.learning_rate,
            local_batch_size=None,
        ),
        model=NotingModel(Scores(workload.factors), asked),
    )
