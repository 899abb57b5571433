"""A survey for many people: histograms, counts, means and shares in one vector each.

The cells and parts are those of `client_sdk.wire.statistics`, for a column of people at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from client_sdk.federation.statistics import asked_dimension
from client_sdk.wire import Order, Refusal, WireFormatError
from client_sdk.wire.statistics import Binning, Measure, MeasureForm, Question, Survey
from simulations.engines.encoders.encoding import (
    Encode,
    KernelOptions,
    OrderRefusedError,
    in_rows,
    pack_outcomes,
    send,
)
from simulations.engines.holdings import Holdings
from simulations.kernel.binding import Contributions, Status

_Read = Callable[[str], NDArray[np.float64]]


def survey(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.statistics.encode_survey`."""
    try:
        asked = Survey.from_bytes(order.payload)
    except WireFormatError:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER) from None
    if asked.dimension != asked_dimension(order):
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    features = holdings.features
    if features is None or not asked.features <= features.ordinary:
        raise OrderRefusedError(Refusal.UNKNOWN_TASK)
    share = order.clip_norm / math.sqrt(len(asked.questions))

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        known = {name: features.of(name, people) for name in asked.features}
        owners, places, values, start = [], [], [], 0
        for question in asked.questions:
            answered, cell, block = _answer(question, known.__getitem__, len(people), share=share)
            entries = block.shape[1]
            owners.append(np.repeat(answered, entries))
            places.append((start + cell[:, None] * entries + np.arange(entries)).ravel())
            values.append(block.ravel())
            start += question.entries
        owner = np.concatenate(owners)
        status = np.full(len(people), Status.NOTHING_TO_SEND, np.uint8)
        status[owner] = Status.DONE
        number = np.cumsum(status == Status.DONE) - 1
        vectors = in_rows(
            number[owner],
            np.concatenate(places),
            np.concatenate(values),
            people=int(np.count_nonzero(status == Status.DONE)),
        )
        return send(vectors, status, order, into=into, options=options)

    return encode


def _answer(
    question: Question, read: _Read, people: int, *, share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Give who answers a question, in which cell, and the entries of that cell."""
    cells = np.zeros(people, np.int64)
    if question.by is not None:
        cells = _cells_of(question.by, read(question.by.feature))
    everyone = np.arange(people)
    if not question.measures:
        value = np.float32(share)
        value = value if value <= share else np.nextafter(value, np.float32(0))
        return everyone, cells, np.full((people, 1), value, np.float32)
    parts = np.stack([_parts_of(each, read(each.feature)) for each in question.measures], axis=1)
    answered = np.flatnonzero(~np.isnan(parts).any(axis=1))
    return answered, cells[answered], pack_outcomes(parts[answered], clip_norm=share)


def _cells_of(bins: Binning, values: NDArray[np.float64]) -> NDArray[np.int64]:
    edges = np.array(bins.edges)
    cells = np.searchsorted(edges, values, side="right")
    if len(edges) > 1:
        cells[values == edges[-1]] = len(edges) - 1
    cells[np.isnan(values)] = len(edges) + 1
    return cells


def _parts_of(measure: Measure, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give y in [0, 1]; NaN where the person is not asked."""
    if measure.form is MeasureForm.SHARE:
        return ((measure.low <= values) & (values <= measure.high)).astype(np.float64)
    cut = np.clip(values, measure.low, measure.high)
    return np.clip((cut - measure.low) / (measure.high - measure.low), 0.0, 1.0)
