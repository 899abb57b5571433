"""Bandit statistics for many people: what each one's bandit saw of the order's arms."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order, Refusal
from client_sdk.wire.bandit import read_arms_payload
from simulations.engines.encoders.encoding import (
    Encode,
    KernelOptions,
    OrderRefusedError,
    in_rows,
    send,
)
from simulations.engines.holdings import Holdings
from simulations.kernel.binding import Contributions, Status

# A longer vector is brought here before float32, and clipped from there: its direction is the same.
_LARGEST: Final = 1e30


def bandit_statistics(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.encoders.encode_bandit_statistics`.

    A device cuts its vector to the clip norm and the guard finds nothing left to clip; here the
    kernel's own clip does both.
    """
    try:
        arms = read_arms_payload(order.payload)
    except ValueError:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER) from None
    if len(arms) != int(order.parameters["arms"]):
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    held = holdings.bandits.get(str(order.parameters["bandit"]))
    d = int(order.parameters["features"])
    if held is None:
        raise OrderRefusedError(Refusal.TOO_LITTLE_DATA)
    asked = {arm: place for place, arm in enumerate(arms)}
    place_of = np.array([asked.get(arm, -1) for arm in held.arms], np.int64)
    rows, columns = np.triu_indices(held.n_features)
    # As `client_sdk.wire.bandit.ArmEvidence.pack`: entries off the diagonal count the root of two.
    factor = np.ones(len(rows) + held.n_features)
    factor[: len(rows)][rows != columns] = math.sqrt(2.0)
    width = len(factor)

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        starts = np.asarray(held.offsets[people], np.int64)
        lengths = np.asarray(held.offsets[people + 1], np.int64) - starts
        owner = np.repeat(np.arange(len(people)), lengths)
        at = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(len(owner))
        place = place_of[held.arm[at]] if len(at) else np.zeros(0, np.int64)
        known = place >= 0
        owner, at, place = owner[known], at[known], place[known]
        status = np.full(len(people), Status.NOTHING_TO_SEND, np.uint8)
        status[owner] = Status.DONE
        features = held.n_features if held.features is None else held.features[people]
        status[(status == Status.DONE) & (features != d)] = Status.UNAVAILABLE
        willing = status == Status.DONE
        sends = willing[owner]
        number = np.cumsum(willing) - 1
        owner, at, place = number[owner[sends]], at[sends], place[sends]
        values = held.evidence[at] * factor
        largest = np.zeros(int(willing.sum()))
        np.maximum.at(largest, owner, np.abs(values).max(axis=1, initial=0.0))
        values /= np.maximum(1.0, largest / _LARGEST)[owner, None]
        vectors = in_rows(
            np.repeat(owner, width),
            (place[:, None] * width + np.arange(width)).ravel(),
            values.astype(np.float32).ravel(),
            people=len(largest),
        )
        return send(vectors, status, order, into=into, options=options)

    return encode
