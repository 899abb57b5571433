"""From an order to the kernel that adds a block of people's contributions, task by task.

Each encoder reads an order as `client_sdk.federation.encoders` does on a device: what a device
would refuse is an `OrderRefusedError` with the same reason, for everybody alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order, Refusal, TaskKind
from client_sdk.wire.table import RankerSettings
from simulations.engines.holdings import Holdings
from simulations.kernel.binding import (
    Contributions,
    ItemTraining,
    count_items,
    item_statistics,
    train_items,
)

_BINARY: Final = RankerSettings(weighting="binary", half_life_days=float("inf"))

Encode = Callable[[NDArray[np.int64], NDArray[np.int64]], Contributions]
"""Adds the contributions of some people, int64[m] by number, to an int64[dimension] sum."""


class UnsupportedByKernelError(ValueError):
    """There is no kernel for this; nothing was reserved, and the engine `devices` can do it."""


class OrderRefusedError(Exception):
    """No device can obey the order's payload.

    Attributes:
        reason: What every device would answer.
    """

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class KernelOptions:
    """How the kernel computes; the result is the same to rounding.

    Attributes:
        by_rows: Item training by the general kernel, row by row; slower.
    """

    by_rows: bool = False


AS_FAST: Final = KernelOptions()


def check_supported(order: Order) -> None:
    """Say so where an order has no kernel.

    Raises:
        UnsupportedByKernelError: of this kind, or with this clipping.
    """
    if order.kind not in _ENCODERS:
        raise UnsupportedByKernelError(
            f"{order.kind.value} has no kernel; run it on the engine devices"
        )
    counts_elsewhere = order.clipping.count_share and order.kind is not TaskKind.ITEM_TRAINING
    if order.clipping.layers or counts_elsewhere:
        raise UnsupportedByKernelError("this clipping has no kernel; run it on the engine devices")


def encoder_for(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Give what adds people's contributions to a sum of ``dimension - extra_entries`` entries.

    Raises:
        OrderRefusedError: every device would refuse the payload.
    """
    return _ENCODERS[order.kind](order, holdings, options)


def _counts(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    del options
    if order.payload:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        block = holdings.histories.of(people)
        return count_items(
            block.weigh(_BINARY),
            np.arange(block.people),
            n_items=order.dimension,
            clip_norm=order.clip_norm,
            into=into,
        )

    return encode


def _statistics(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    del options
    top_items = int(order.parameters["top_items"])
    if len(order.payload) != 4 * top_items:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    top = np.frombuffer(order.payload, "<i4").astype(np.int32)
    rising = bool(np.all(top[1:] > top[:-1]))
    if not rising or top[0] < 0 or int(top[-1]) >= holdings.release.n_items:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    settings = holdings.release.settings or RankerSettings()

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        block = holdings.histories.of(people)
        return item_statistics(
            block.weigh(settings, within=top),
            np.arange(block.people),
            top_items=top_items,
            clip_norm=order.clip_norm,
            into=into,
        )

    return encode


def _training(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    release, asked = holdings.release, order.parameters
    settings = release.settings
    if settings is None or release.rank is None:
        raise OrderRefusedError(Refusal.UNKNOWN_TASK)
    rank, negatives = int(asked["rank"]), int(asked["negatives"])
    if len(order.payload) != 4 * release.n_items * rank or rank != release.rank:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    factors = np.frombuffer(order.payload, "<f4").astype(np.float32)
    if not np.isfinite(factors).all():
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    room = release.batch // (1 + negatives)
    if room < 1:
        raise OrderRefusedError(Refusal.DEVICE_ERROR)

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        block = holdings.histories.of(people)
        offsets, positives = block.latest(room=room)
        task = ItemTraining(
            factors=factors.reshape(release.n_items, rank),
            positive_offsets=offsets,
            positives=positives,
            seed=int(asked["seed"]),
            steps=int(asked["steps"]),
            learning_rate=float(asked["learning_rate"]),
            negatives=negatives,
            ridge=float(asked["ridge"]),
            by_rows=options.by_rows,
        )
        return train_items(
            block.weigh(settings),
            task,
            np.arange(block.people),
            clip_norm=order.clip_norm,
            count_share=order.clipping.count_share,
            into=into,
        )

    return encode


_ENCODERS: Final[Mapping[TaskKind, Callable[[Order, Holdings, KernelOptions], Encode]]] = {
    TaskKind.ITEM_COUNTS: _counts,
    TaskKind.ITEM_STATISTICS: _statistics,
    TaskKind.ITEM_TRAINING: _training,
}
