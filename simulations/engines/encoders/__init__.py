"""From an order to the kernel that adds a block of people's contributions, task by task.

Each encoder reads an order as `client_sdk.federation.encoders` does on a device, in the same order:
what everybody would refuse is an `OrderRefusedError` with the same reason, what one person's device
would refuse is that person's `Status`. A new task is one file here and one row of the table below.

| task                | file                  | made by      | clipped by |
|---------------------|-----------------------|--------------|------------|
| item-counts         | `item_counts`         | numpy        | the kernel |
| item-statistics     | `item_statistics`     | the kernel   | the kernel |
| item-training       | `item_training`       | the kernel   | the kernel |
| experiment-outcomes | `experiment_outcomes` | numpy        | by its making, and the kernel |
| bandit-statistics   | `bandit_statistics`   | numpy        | the kernel |
| propensity-training | `propensity_training` | numpy        | the kernel |
| survey              | `survey`              | numpy        | by its making, and the kernel |
| model-evaluation    | `model_evaluation`    | `lists`      | by its making, and the kernel |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from client_sdk.federation.local_noise import read_local_noise
from client_sdk.wire import Order, TaskKind
from simulations.engines.encoders.bandit_statistics import bandit_statistics
from simulations.engines.encoders.encoding import (
    AS_FAST,
    REFUSAL_OF,
    Encode,
    KernelOptions,
    OrderRefusedError,
    UnsupportedByKernelError,
)
from simulations.engines.encoders.experiment_outcomes import experiment_outcomes
from simulations.engines.encoders.item_counts import item_counts
from simulations.engines.encoders.item_statistics import item_statistics
from simulations.engines.encoders.item_training import item_training
from simulations.engines.encoders.model_evaluation import model_evaluation
from simulations.engines.encoders.propensity_training import propensity_training
from simulations.engines.encoders.survey import survey
from simulations.engines.holdings import Holdings

__all__ = [
    "AS_FAST",
    "REFUSAL_OF",
    "Encode",
    "KernelOptions",
    "OrderRefusedError",
    "UnsupportedByKernelError",
    "check_supported",
    "encoder_for",
]


def check_supported(order: Order) -> None:
    """Say so where an order has no kernel.

    Raises:
        UnsupportedByKernelError: of this kind, with this clipping, or with noise at the device.
    """
    if order.kind not in _ENCODERS:
        raise UnsupportedByKernelError(
            f"{order.kind.value} has no kernel; run it on the engine devices"
        )
    counts_elsewhere = order.clipping.count_share and order.kind is not TaskKind.ITEM_TRAINING
    if order.clipping.layers or counts_elsewhere:
        raise UnsupportedByKernelError("this clipping has no kernel; run it on the engine devices")
    if read_local_noise(order):
        raise UnsupportedByKernelError(
            "noise at the device has no kernel; run it on the engine devices"
        )


def encoder_for(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Give what adds people's contributions to a sum of ``dimension - extra_entries`` entries.

    Raises:
        OrderRefusedError: every device would refuse the payload.
    """
    return _ENCODERS[order.kind](order, holdings, options)


_ENCODERS: Final[Mapping[TaskKind, Callable[[Order, Holdings, KernelOptions], Encode]]] = {
    TaskKind.ITEM_COUNTS: item_counts,
    TaskKind.ITEM_STATISTICS: item_statistics,
    TaskKind.ITEM_TRAINING: item_training,
    TaskKind.EXPERIMENT_OUTCOMES: experiment_outcomes,
    TaskKind.BANDIT_STATISTICS: bandit_statistics,
    TaskKind.PROPENSITY_TRAINING: propensity_training,
    TaskKind.SURVEY: survey,
    TaskKind.MODEL_EVALUATION: model_evaluation,
}
