"""Propensity training for many people: how each one's cases would move the shared weights.

The steps are those of `models.propensity_graph`, in float32, for a block of people at a time:
everybody's rows padded with weight 0, as a device pads its own. Whose batch is all padding has a
gradient of exactly 0, and so no step.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.federation.encoding import OrderOutOfBoundsError
from client_sdk.federation.propensity import AskedPropensity, asked_of, asked_weights
from client_sdk.wire import Order, Refusal
from client_sdk.wire.propensity import STEP_FLOOR, PropensityWeights
from simulations.engines.encoders.encoding import (
    Encode,
    KernelOptions,
    OrderRefusedError,
    in_rows,
    send,
)
from simulations.engines.holdings import Holdings, PropensityColumns
from simulations.kernel.binding import Contributions, Status

_NUMBERS_AT_ONCE: Final = 4_000_000
"""Of a block of people's features; more would only need more memory."""
_FILLED_TO: Final = 8

Float32Array = NDArray[np.float32]


def propensity_training(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.propensity.encode_propensity_training`."""
    try:
        asked, start = asked_of(order), asked_weights(order)
    except OrderOutOfBoundsError:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER) from None
    held = holdings.propensities.get(asked.propensity)
    if held is None:
        raise OrderRefusedError(Refusal.TOO_LITTLE_DATA)
    counting = held.counting()
    fits = (held.n_features, held.hidden) == (asked.features, asked.hidden)

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        found = Status.DONE if fits else Status.UNAVAILABLE
        status = np.where(counting[people] > 0, found, Status.NOTHING_TO_SEND).astype(np.uint8)
        willing = people[status == Status.DONE]
        changes = changes_of(held, willing, start, asked)
        count, width = changes.shape
        vectors = in_rows(
            np.repeat(np.arange(count), width),
            np.tile(np.arange(width), count),
            changes.ravel(),
            people=count,
        )
        return send(vectors, status, order, into=into, options=options)

    return encode


def changes_of(
    held: PropensityColumns,
    people: NDArray[np.int64],
    start: PropensityWeights,
    asked: AskedPropensity,
    *,
    numbers_at_once: int = _NUMBERS_AT_ONCE,
) -> Float32Array:
    """Give everybody's change of the weights: float32[people, P].

    A person's rows are filled up to a length that depends on their own cases alone, so the bits of
    a change are the same whoever else is asked, and by how many workers.

    Args:
        held: Their cases, of the weights' sizes.
        people: int64[m], who.
        start: The weights.
        asked: How to step.
        numbers_at_once: Most numbers of features in memory at once; one person's always fit.
    """
    changes = np.zeros((len(people), start.parameters.size), np.float32)
    lengths = held.offsets[people + 1] - held.offsets[people]
    in_one_call = np.minimum(-(-lengths // _FILLED_TO) * _FILLED_TO, held.batch)
    calls = -(-lengths // held.batch)
    rows = np.where(calls > 1, calls * held.batch, in_one_call)
    for each in np.unique(rows).tolist():
        group = np.flatnonzero(rows == each)
        most = max(numbers_at_once // max(each * held.n_features, 1), 1)
        for at in range(0, len(group), most):
            part = group[at : at + most]
            changes[part] = _block(held, people[part], start, asked, rows=each)
    return changes


def _block(
    held: PropensityColumns,
    people: NDArray[np.int64],
    start: PropensityWeights,
    asked: AskedPropensity,
    *,
    rows: int,
) -> Float32Array:
    first = np.asarray(held.offsets[people], np.int64)
    lengths = np.asarray(held.offsets[people + 1], np.int64) - first
    place = np.arange(rows)
    there = place < lengths[:, None]
    case = np.where(there, first[:, None] + place, 0)
    x = start.standardised(held.features[case.ravel()]).reshape(*case.shape, held.n_features)
    labels, weights = held.labels[case], np.where(there, held.weights[case], np.float32(0))
    parameters = np.tile(start.parameters, (len(people), 1))
    memory = np.full(parameters.shape, asked.memory, np.float32)
    rate = np.float32(asked.learning_rate)
    for _ in range(asked.passes):
        for at in range(0, rows, held.batch):
            part = slice(at, at + held.batch)
            gradient = _gradient(
                x[:, part], labels[:, part], weights[:, part], parameters, hidden=held.hidden
            )
            memory = np.sqrt(memory * memory + gradient * gradient)
            parameters = parameters - rate * gradient / (memory + np.float32(STEP_FLOOR))
    return np.asarray(parameters - start.parameters, np.float32)


def _gradient(
    x: Float32Array,
    labels: Float32Array,
    weights: Float32Array,
    parameters: Float32Array,
    *,
    hidden: int,
) -> Float32Array:
    """Give the gradient of each one's mean loss over a batch: float32[m, P]."""
    people, _, features = x.shape
    last = parameters[:, -1:]
    if not hidden:
        logits = np.matmul(x, parameters[:, :-1, None])[:, :, 0] + last
        error = _error(logits, labels, weights)
        parts = [np.matmul(error[:, None, :], x)[:, 0]]
    else:
        width = features * hidden
        layer = parameters[:, :width].reshape(people, features, hidden)
        shift, top = np.split(parameters[:, width:-1], 2, axis=1)
        units = np.tanh(np.matmul(x, layer) + shift[:, None, :])
        logits = np.matmul(units, top[:, :, None])[:, :, 0] + last
        error = _error(logits, labels, weights)
        back = error[:, :, None] * top[:, None, :] * (1 - units * units)
        inner = np.matmul(x.transpose(0, 2, 1), back).reshape(people, width)
        parts = [inner, back.sum(axis=1), np.matmul(error[:, None, :], units)[:, 0]]
    return np.concatenate([*parts, error.sum(axis=1, keepdims=True)], axis=1)


def _error(logits: NDArray[Any], labels: Float32Array, weights: Float32Array) -> Float32Array:
    chances = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    total = np.maximum(weights.sum(axis=1, keepdims=True), np.float32(1))
    return np.asarray(weights * (chances - labels) / total, np.float32)
