"""What every encoder of the kernel engine needs: what it gives, its refusals, and its options."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order, Refusal
from client_sdk.wire.outcomes import SPREAD_FACTOR
from simulations.kernel.binding import Contributions, Rows, Status, add_vectors
from simulations.kernel.compiled import SOURCE, load

Encode = Callable[[NDArray[np.int64], NDArray[np.int64]], Contributions]
"""Adds the contributions of some people, int64[m] by number, to an int64[dimension] sum."""

REFUSAL_OF: Final[Mapping[Status, Refusal]] = {
    Status.NOTHING_TO_SEND: Refusal.TOO_LITTLE_DATA,
    Status.NOT_FINITE: Refusal.OUTBOUND_GUARD,
    Status.OUT_OF_BOUNDS: Refusal.OUT_OF_BOUNDS_ORDER,
    Status.UNAVAILABLE: Refusal.UNKNOWN_TASK,
}
"""What a device answers where a status is not `Status.DONE`."""


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
        source: The C file; another one only to show that a test would notice.
    """

    by_rows: bool = False
    source: Path = SOURCE

    @property
    def compiled(self) -> ctypes.CDLL:
        """The compiled library."""
        return load(self.source)


AS_FAST: Final = KernelOptions()


def send(
    vectors: Rows,
    status: NDArray[np.uint8],
    order: Order,
    *,
    into: NDArray[np.int64],
    options: KernelOptions,
) -> Contributions:
    """Add the vectors of those who send one.

    Args:
        vectors: One row for each person whose status is `Status.DONE`, in their order.
        status: uint8[m]; what became of each person before the outbound guard.
        order: Its clip norm bounds each.
        into: int64[dimension], added to.
        options: How the kernel computes.

    Returns:
        Of all m people.
    """
    willing = np.flatnonzero(status == Status.DONE)
    found = add_vectors(
        vectors,
        np.arange(vectors.people),
        dimension=len(into),
        clip_norm=order.clip_norm,
        into=into,
        library=options.compiled,
    )
    status, norms = status.copy(), np.zeros(len(status))
    status[willing], norms[willing] = found.status, found.norms
    return Contributions(sum=found.sum, norms=norms, status=status)


def in_rows(
    owner: NDArray[np.int64],
    places: NDArray[np.int64],
    values: NDArray[np.float32],
    *,
    people: int,
) -> Rows:
    """Lay out entries in any order as one vector a person; zeros are left out.

    Args:
        owner: int64[entries], whose each is.
        places: int64[entries], where in the vector; each once for a person.
        values: float32[entries].
        people: How many vectors.
    """
    kept = np.flatnonzero(values)
    kept = kept[np.lexsort((places[kept], owner[kept]))]
    lengths = np.bincount(owner[kept], minlength=people)
    return Rows(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=places[kept].astype(np.int32),
        weights=np.ascontiguousarray(values[kept]),
    )


def pack_outcomes(parts: NDArray[np.float64], *, clip_norm: float) -> NDArray[np.float32]:
    """Write people's outcomes as `client_sdk.wire.outcomes.OutcomeLayout.pack` does, for many.

    Args:
        parts: float64[m, metrics], in [0, 1].
        clip_norm: Of the block.

    Returns:
        float32[m, 1 + 2 metrics], rounded towards zero.

    >>> pack_outcomes(np.array([[0.5]]), clip_norm=2.0 ** 0.5).round(3).tolist()
    [[1.0, 0.5, 0.75]]
    """
    people, metrics = parts.shape
    block = np.empty((people, 1 + 2 * metrics))
    block[:, 0] = 1.0
    block[:, 1::2] = parts
    block[:, 2::2] = SPREAD_FACTOR * parts * (1.0 - parts)
    block *= clip_norm / np.sqrt(1 + metrics)
    values = block.astype(np.float32)
    return np.where(values > block, np.nextafter(values, np.float32(0)), values)
