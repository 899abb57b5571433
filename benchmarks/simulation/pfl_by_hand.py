"""A round in pfl without automatic differentiation; needs pfl. See `pfl_peer`.

`AddedRows` and `AddRows` are what makes ``tuned`` faster than ``dense``: pfl's own statistics are a
whole table for each person, which is clipped and added whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pfl.aggregate.base import SumAggregator
from pfl.algorithm.base import FederatedAlgorithm
from pfl.common_types import Population
from pfl.context import CentralContext
from pfl.hyperparam.base import AlgorithmHyperParams, ModelHyperParams
from pfl.metrics import Metrics
from pfl.model.base import Model
from pfl.stats import MappedVectorStatistics

from benchmarks.simulation.by_hand import RoundWords, train, words_for
from benchmarks.simulation.pfl_parts import Parts
from benchmarks.simulation.workload import Workload


class AddedRows(MappedVectorStatistics):
    """Touched rows of one person; pfl clips them as it would clip a table."""

    def __init__(
        self, touched: NDArray[np.int64], rows: NDArray[np.float32], weight: float = 1.0
    ) -> None:
        super().__init__({"rows": rows}, weight)
        self.touched = touched

    def from_weights(self, metadata: Any, weights: list[Any]) -> AddedRows:
        """Keep where the rows stand."""
        return AddedRows(self.touched, weights[0], float(metadata[0]))


class AddRows(SumAggregator):
    """Adds rows to one table, in place."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def accumulate(self, *, accumulated: Any, user_stats: Any) -> Any:
        """Add one person."""
        if accumulated is None:
            accumulated = MappedVectorStatistics({"table": np.zeros(self._shape, np.float32)}, 0.0)
        accumulated["table"][user_stats.touched] += user_stats["rows"]
        accumulated.weight += user_stats.weight
        return accumulated


class FactorTable(Model):
    """The table, and FedAvgM."""

    def __init__(self, workload: Workload) -> None:
        self._settings = workload.settings
        self.factors = workload.factors.copy()
        self.velocity = np.zeros_like(self.factors)
        self.last: NDArray[Any] = np.zeros(self.factors.shape)

    def apply_model_update(self, statistics: Any) -> tuple[FactorTable, Any]:
        """Take the server's step."""
        asked = self._settings
        self.last = next(iter(statistics.values()))
        self.velocity *= np.float32(asked.momentum)
        self.velocity += (self.last / asked.cohort).astype(np.float32)
        self.factors += np.float32(asked.server_learning_rate) * self.velocity
        return self, Metrics()


class Rounds(FederatedAlgorithm):
    """One cohort a round, each person's update by hand."""

    def __init__(self, workload: Workload, *, rounds: int, dense: bool) -> None:
        super().__init__()
        self._workload = workload
        self._rounds = rounds
        self._dense = dense
        self._words: RoundWords | None = None

    def get_next_central_contexts(
        self,
        model: Any,
        iteration: int,
        algorithm_params: Any,
        model_train_params: Any,
        model_eval_params: Any = None,
    ) -> tuple[Any, Any, Any]:
        """Say who is asked next."""
        if iteration == self._rounds:
            return None, model, Metrics()
        asked, cohort = self._workload.settings, self._workload.cohorts[iteration]
        self._words = words_for(self._workload, cohort, seed=asked.seed + iteration)
        context = CentralContext(
            current_central_iteration=iteration,
            do_evaluation=False,
            cohort_size=asked.cohort,
            population=Population.TRAIN,
            algorithm_params=algorithm_params,
            model_train_params=model_train_params,
            model_eval_params=model_eval_params,
            seed=self._get_seed(),
        )
        return (context,), model, Metrics()

    def simulate_one_user(self, model: Any, user_dataset: Any, central_context: Any) -> Any:
        """Train one person."""
        del central_context
        items, x = user_dataset.raw_data
        done = train(model.factors, items, x, self._words, self._workload.settings)
        if not self._dense:
            return AddedRows(done.touched, done.rows), Metrics()
        table = np.zeros(model.factors.shape, np.float32)
        table[done.touched] = done.rows
        return MappedVectorStatistics({"table": table}), Metrics()

    def process_aggregated_statistics(
        self, central_context: Any, aggregate_metrics: Any, model: Any, statistics: Any
    ) -> Any:
        """Hand the noisy sum to the model."""
        del central_context, aggregate_metrics
        return model.apply_model_update(statistics)


def parts_of(workload: Workload, *, rounds: int, dense: bool) -> Parts:
    """Put the parts together."""
    return Parts(
        algorithm=Rounds(workload, rounds=rounds, dense=dense),
        parameters=AlgorithmHyperParams(),
        train_parameters=ModelHyperParams(),
        model=FactorTable(workload),
        aggregator=None if dense else AddRows(workload.factors.shape),
    )
