"""Outcomes of an experiment for many people: each one's group and bounded outcomes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order, Refusal
from simulations.engines.encoders.encoding import (
    Encode,
    KernelOptions,
    OrderRefusedError,
    in_rows,
    pack_outcomes,
    send,
)
from simulations.engines.holdings import NO_GROUP, Holdings
from simulations.kernel.binding import Contributions, Status


def experiment_outcomes(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.encoders.encode_experiment_outcomes`."""
    if order.payload:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    held = holdings.experiments.get(str(order.parameters["experiment"]))
    groups, metrics = int(order.parameters["groups"]), int(order.parameters["metrics"])
    if held is None:
        raise OrderRefusedError(Refusal.TOO_LITTLE_DATA)
    entries = 1 + 2 * metrics

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        group = held.group[people].astype(np.int64)
        status = np.full(len(people), Status.DONE, np.uint8)
        fits = (group < groups) & (held.outcomes.shape[1] == metrics)
        status[~fits] = Status.OUT_OF_BOUNDS
        status[group == NO_GROUP] = Status.NOTHING_TO_SEND
        willing = status == Status.DONE
        block = pack_outcomes(held.outcomes[people[willing]], clip_norm=order.clip_norm)
        places = group[willing, None] * entries + np.arange(entries)
        count = len(block)
        vectors = in_rows(
            np.repeat(np.arange(count), entries if count else 0),
            places.ravel(),
            block.ravel(),
            people=count,
        )
        return send(vectors, status, order, into=into, options=options)

    return encode
