"""The device half of a federated evaluation: how a released ranker does for this person.

Rules a reader can check line by line:

1. The person's latest item is held out, and the rest of the history is all that the ranker sees.
   Where several were last at the same moment, the first row of the catalogue counts.
2. It is ranked among everything that the rest of the history does not hold. Ties count their mean:
   of t equal scores the target takes each place with the chance 1 / t.
3. HR@10 is 1 if it is among the first ten; NDCG@10 is 1 / log2(1 + place). Both lie in [0, 1].
4. One model gives a vector of `EVALUATION`. Two give one of `COMPARISON`: the first model's
   numbers, and the differences (second less first) as (1 + d) / 2, so that the server has the
   variance of the difference of the *same* people.
5. The tables are the signed payload; they are read as a release's are, and must be of this
   catalogue. Nothing of them is kept.
"""

from __future__ import annotations

import numpy as np

from client_sdk.federation.encoding import (
    EncoderInput,
    OrderOutOfBoundsError,
    Parameters,
    TooLittleDataError,
)
from client_sdk.intelligence.categories import ItemCategories
from client_sdk.intelligence.history import History
from client_sdk.intelligence.ranker import score_all, solve_private_vector
from client_sdk.wire import Order, SparseVector
from client_sdk.wire.evaluation import CUT, layout_of, part_of_difference
from client_sdk.wire.outcomes import ExperimentOutcome
from client_sdk.wire.table import RankerTable, ReleaseFormatError

MAX_TABLE_BYTES = 512 * 1024 * 1024
_LEAST_ITEMS = 2


def asked_dimension(order: Order) -> int:
    """Say how long the vector is that an order asks for.

    Raises:
        OrderOutOfBoundsError: a parameter is missing, unknown, or outside its bounds.
    """
    return layout_of(_asked(order)[0], clip_norm=order.clip_norm).dimension


def encode_evaluation(order: Order, given: EncoderInput) -> SparseVector:
    """Give how the order's ranker, or two of them, do for this person.

    Raises:
        TooLittleDataError: fewer than two items.
        OrderOutOfBoundsError: the payload is no table of this catalogue.
    """
    if len(given.history) < _LEAST_ITEMS:
        raise TooLittleDataError("nothing is left beside the item that is held out")
    models, first_bytes = _asked(order)
    parts = [order.payload[:first_bytes], order.payload[first_bytes:]][:models]
    whole = len(parts[0]) == first_bytes and b"".join(parts) == order.payload
    if not (whole and all(parts)):
        raise OrderOutOfBoundsError("the payload is not of that many tables")
    categories = None if given.categories is None else given.categories()
    tables = [_table(part, n_items=given.n_items) for part in parts]
    quality = [measure_ranker(table, given.history, categories) for table in tables]
    outcomes = list(quality[0])
    if models > 1:
        outcomes += [part_of_difference(b - a) for a, b in zip(*quality, strict=True)]
    layout = layout_of(models, clip_norm=order.clip_norm)
    return layout.pack(ExperimentOutcome(group=0, outcomes=tuple(outcomes)))


def measure_ranker(
    table: RankerTable, history: History, categories: ItemCategories | None = None
) -> tuple[float, float]:
    """Give HR@10 and NDCG@10 of a ranker for one person, leaving their latest item out.

    Args:
        table: The ranker.
        history: At least two items, all in the table.
        categories: The catalogue's.

    >>> history = History.from_events(items=[0, 2], times_s=[1.0, 2.0], now_s=2.0)
    >>> hit, gain = measure_ranker(RankerTable.without_model(3), history)
    >>> hit, round(gain, 6)
    (1.0, 0.815465)
    """
    target = int(history.items[int(np.argmax(history.last_time_s))])
    kept = history.items != target
    rest = History(
        items=history.items[kept],
        counts=history.counts[kept],
        last_time_s=history.last_time_s[kept],
        now_s=history.now_s,
    )
    private = solve_private_vector(table, rest)
    scores = score_all(table, table.settings, private, rest, categories)
    wanted = scores[target]
    candidates = np.ones(table.n_items, np.bool_)
    candidates[rest.items] = False
    ahead = int(np.count_nonzero(candidates & (scores > wanted)))
    tied = int(np.count_nonzero(candidates & (scores == wanted)))
    places = np.arange(ahead, min(ahead + tied, CUT))
    gains = (1.0 / np.log2(places + 2.0)).sum()
    return len(places) / tied, float(gains) / tied


def _table(data: bytes, *, n_items: int) -> RankerTable:
    try:
        table = RankerTable.from_bytes(data)
    except ReleaseFormatError as error:
        raise OrderOutOfBoundsError("expected a ranker table") from error
    if table.n_items != n_items:
        raise OrderOutOfBoundsError("the table is of another catalogue")
    return table


def _asked(order: Order) -> tuple[int, int]:
    parameters = Parameters(order.parameters)
    models = parameters.whole("models", 1, 2)
    first_bytes = parameters.whole("first_bytes", 1, MAX_TABLE_BYTES)
    parameters.done()
    return models, first_bytes
