"""Item statistics for many people: the outer product of each one's history over the top items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import Order, Refusal
from client_sdk.wire.table import RankerSettings
from simulations.engines.encoders.encoding import Encode, KernelOptions, OrderRefusedError
from simulations.engines.holdings import Holdings
from simulations.kernel import binding
from simulations.kernel.binding import Contributions


def item_statistics(order: Order, holdings: Holdings, options: KernelOptions) -> Encode:
    """Read the order; see `client_sdk.federation.encoders.encode_item_statistics`."""
    top_items = int(order.parameters["top_items"])
    if len(order.payload) != 4 * top_items:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    top = np.frombuffer(order.payload, "<i4").astype(np.int32)
    rising = bool(np.all(top[1:] > top[:-1]))
    if not rising or top[0] < 0 or int(top[-1]) >= holdings.release.n_items:
        raise OrderRefusedError(Refusal.OUT_OF_BOUNDS_ORDER)
    settings, library = holdings.release.settings or RankerSettings(), options.compiled

    def encode(people: NDArray[np.int64], into: NDArray[np.int64]) -> Contributions:
        block = holdings.histories.of(people)
        return binding.item_statistics(
            block.weigh(settings, within=top),
            np.arange(block.people),
            top_items=top_items,
            clip_norm=order.clip_norm,
            into=into,
            library=library,
        )

    return encode
