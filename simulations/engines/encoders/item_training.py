"""Item training for many people: the change of the rows that private steps on a history make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order, Refusal
from simulations.engines.encoders.encoding import Encode, KernelOptions, OrderRefusedError
from simulations.engines.holdings import Holdings
from simulations.kernel.binding import Contributions, ItemTraining, train_items


def item_training(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.encoders.encode_item_training`."""
    release, asked = holdings.release, order.parameters
    settings, library = release.settings, options.compiled
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
        histories, asked_of = holdings.histories, people
        rows = histories.weighed(people, settings) if histories.longest <= room else None
        if rows is None:
            histories, asked_of = histories.of(people), np.arange(len(people))
            rows = histories.weigh(settings)
        offsets, positives = histories.latest(room=room)
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
            rows,
            task,
            asked_of,
            clip_norm=order.clip_norm,
            count_share=order.clipping.count_share,
            into=into,
            library=library,
        )

    return encode
