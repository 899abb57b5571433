"""pfl-research as a peer, in its own environment: ``python -m benchmarks.simulation.pfl_peer``.

Three ways to write the same round, all through pfl's algorithm loop, `SimulatedBackend`, user
sampling and central Gaussian mechanism (which clips each person and adds the noise):

* ``autograd``: as pfl's own examples do it. A torch module with a sparse embedding,
  `FederatedAveraging`, a loss, `backward` (`benchmarks.simulation.pfl_autograd`).
* ``dense``: the update by hand (`benchmarks.simulation.by_hand`), handed over as pfl's own
  `MappedVectorStatistics`, a whole table for each person (`benchmarks.simulation.pfl_by_hand`).
* ``tuned``: the same update, and statistics of our own that hold touched rows alone: pfl clips the
  rows, and adding a person is adding rows to one table. The fastest that we found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pfl.aggregate.simulate import SimulatedBackend
from pfl.callback.base import TrainingProcessCallback
from pfl.metrics import Metrics
from pfl.privacy.gaussian_mechanism import GaussianMechanism
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism

from benchmarks.simulation.memory import peak_rss_mb
from benchmarks.simulation.pfl_parts import Parts, data_of
from benchmarks.simulation.workload import Workload

FORMS: Final = ("tuned", "dense", "autograd")


class Clock(TrainingProcessCallback):
    """Notes when each round is over."""

    def __init__(self) -> None:
        self.at = [time.perf_counter()]

    def after_central_iteration(
        self, aggregate_metrics: Any, model: Any, *, central_iteration: int
    ) -> tuple[bool, Any]:
        """Note it, and go on."""
        del aggregate_metrics, model, central_iteration
        self.at.append(time.perf_counter())
        return False, Metrics()


def main() -> int:
    """Run the first rounds of the workload; time all but the first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation.pfl_peer")
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True, help="timed, after one that is not")
    parser.add_argument("--form", choices=FORMS, required=True)
    parser.add_argument("--sum", type=Path, help="write the first round's sum, without noise")
    options = parser.parse_args()
    workload = Workload.load(options.workload)
    if options.sum is not None:
        total, _ = _run(workload, form=options.form, rounds=1, noise=False)
        np.save(options.sum, total)
    _, seconds = _run(workload, form=options.form, rounds=1 + options.rounds, noise=True)
    found = {
        "seconds": seconds[1:],
        "peak_rss_mb": peak_rss_mb(),
        "versions": {name: version(name) for name in ("pfl", "torch", "numpy")},
    }
    print(json.dumps(found))
    return 0


def _parts_of(workload: Workload, *, form: str, rounds: int) -> Parts:
    """Import what a form needs, and no more: torch is 200 MB."""
    if form == "autograd":
        from benchmarks.simulation import pfl_autograd

        return pfl_autograd.parts_of(workload, rounds=rounds)
    from benchmarks.simulation import pfl_by_hand

    return pfl_by_hand.parts_of(workload, rounds=rounds, dense=form == "dense")


def _run(
    workload: Workload, *, form: str, rounds: int, noise: bool
) -> tuple[NDArray[Any], list[float]]:
    """Give the last round's sum as the server got it, and the seconds of each round."""
    asked, parts = workload.settings, _parts_of(workload, form=form, rounds=rounds)
    privacy = CentrallyAppliedPrivacyMechanism(
        GaussianMechanism(asked.clip_norm, asked.noise_multiplier if noise else 0.0)
    )
    np.random.seed(asked.seed)  # noqa: NPY002 - pfl draws from the global generator
    data = data_of(workload)
    backend = SimulatedBackend(
        training_data=data,
        val_data=data,
        postprocessors=[privacy],
        aggregator=parts.aggregator,
    )
    clock = Clock()
    parts.algorithm.run(
        parts.parameters,
        backend,
        parts.model,
        model_train_params=parts.train_parameters,
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    return parts.model.last, np.diff(clock.at).tolist()


if __name__ == "__main__":
    sys.exit(main())
