"""Federated evaluation for many people: how one ranker or two place each one's latest item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order
from client_sdk.wire.table import RankerTable, ReleaseFormatError
from simulations.engines.columns import HistoryColumns
from simulations.engines.encoders.encoding import (
    Encode,
    KernelOptions,
    in_rows,
    pack_outcomes,
    send,
)
from simulations.engines.holdings import Holdings
from simulations.engines.lists import Ranker, place_targets
from simulations.evaluation.metrics import discounted_gains, hit_chances
from simulations.kernel.binding import Contributions, Status

_LEAST_ITEMS = 2


def model_evaluation(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.evaluation`."""
    tables = _tables(order, n_items=holdings.release.n_items)
    rankers = [Ranker(table=each, categories=holdings.release.categories) for each in tables or ()]
    library = options.compiled

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        enough = holdings.histories.offsets[people + 1] - holdings.histories.offsets[people]
        status = np.full(len(people), Status.DONE, np.uint8)
        if tables is None:
            status[:] = Status.OUT_OF_BOUNDS
        status[enough < _LEAST_ITEMS] = Status.NOTHING_TO_SEND
        held = holdings.histories.of(people[status == Status.DONE])
        rest, targets = hold_out_latest(held)
        quality = [
            place_targets(rest, targets, ranker=ranker, library=library) for ranker in rankers
        ]
        found = [np.stack([hit_chances(each), discounted_gains(each)], axis=1) for each in quality]
        if len(found) > 1:
            found.append(np.clip((1.0 + (found[1] - found[0])) / 2.0, 0.0, 1.0))
            del found[1]
        parts = np.concatenate(found, axis=1) if found else np.zeros((0, 1))
        block = pack_outcomes(parts, clip_norm=order.clip_norm)
        count, entries = block.shape
        vectors = in_rows(
            np.repeat(np.arange(count), entries),
            np.tile(np.arange(entries), count),
            block.ravel(),
            people=count,
        )
        return send(vectors, status, order, into=into, options=options)

    return encode


def hold_out_latest(held: HistoryColumns) -> tuple[HistoryColumns, NDArray[np.int32]]:
    """Take each person's latest item out of their history; the lowest of those of one moment.

    Args:
        held: People with at least one item each.

    Returns:
        What is left, and int32[people] what was taken.
    """
    person = np.repeat(np.arange(held.people), held.lengths)
    latest = np.full(held.people, -np.inf)
    np.maximum.at(latest, person, held.last_time_s)
    at = np.flatnonzero(held.last_time_s == latest[person])
    _, first = np.unique(person[at], return_index=True)
    taken = at[first]
    return (
        HistoryColumns(
            offsets=np.asarray(held.offsets) - np.arange(held.people + 1),
            items=np.delete(held.items, taken),
            counts=np.delete(held.counts, taken),
            last_time_s=np.delete(held.last_time_s, taken),
            now_s=held.now_s,
        ),
        np.asarray(held.items[taken]),
    )


def _tables(order: Order, *, n_items: int) -> list[RankerTable] | None:
    """Read the payload; None where a device refuses it."""
    models = int(order.parameters["models"])
    first_bytes = int(order.parameters["first_bytes"])
    parts = [order.payload[:first_bytes], order.payload[first_bytes:]][:models]
    whole = len(parts[0]) == first_bytes and b"".join(parts) == order.payload
    if not (whole and all(parts)):
        return None
    try:
        tables = [RankerTable.from_bytes(part) for part in parts]
    except ReleaseFormatError:
        return None
    return tables if all(table.n_items == n_items for table in tables) else None
