"""Item counts for many people: each one's unit-norm history vector."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order, Refusal
from client_sdk.wire.table import RankerSettings
from simulations.engines.encoders.encoding import Encode, KernelOptions, OrderRefusedError
from simulations.engines.holdings import Holdings
from simulations.kernel.binding import Contributions, count_items

_BINARY: Final = RankerSettings(weighting="binary", half_life_days=float("inf"))


def item_counts(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.encoders.encode_item_counts`."""
    if order.payload:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    library = options.compiled

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        block = holdings.histories.of(people)
        return count_items(
            block.weigh(_BINARY),
            np.arange(block.people),
            n_items=order.dimension,
            clip_norm=order.clip_norm,
            into=into,
            library=library,
        )

    return encode
