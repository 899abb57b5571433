"""People's histories laid out for the kernel: one block of rows instead of an object each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.history import History, IndexArray, statistics_vector
from client_sdk.wire.table import RankerSettings
from simulations.kernel.binding import Rows

_Scalar = TypeVar("_Scalar", bound=np.generic)


def pack_histories(
    histories: Sequence[History],
    settings: RankerSettings,
    *,
    within: IndexArray | None = None,
) -> Rows:
    """Weigh each history as a device with these settings does, and put them one after the other.

    Args:
        histories: One a person.
        settings: Weighting and half-life.
        within: int32[K], strictly increasing; when given, only these items count, and rows hold
            positions among them.
    """
    parts = [
        statistics_vector(
            each,
            weighting=settings.weighting,
            half_life_days=settings.half_life_days,
            within=within,
        )
        for each in histories
    ]
    return Rows(
        offsets=_offsets([len(items) for items, _ in parts]),
        items=_joined([items for items, _ in parts], np.int32),
        weights=_joined([weights for _, weights in parts], np.float32),
    )


def latest_items(
    histories: Sequence[History], *, room: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Give each person's latest items that fit a device's batch, sorted.

    Args:
        histories: One a person.
        room: How many fit: the batch's rows over one plus the negatives of an item.

    Returns:
        int64[people + 1] offsets and int32[...] items.
    """
    if room < 1:
        raise ValueError(f"the batch needs room for at least one item; got {room}")
    kept = [
        np.sort(each.items[np.lexsort((each.items, -each.last_time_s))[:room]])
        for each in histories
    ]
    return _offsets([len(each) for each in kept]), _joined(kept, np.int32)


def _offsets(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _joined(parts: Sequence[NDArray[_Scalar]], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
