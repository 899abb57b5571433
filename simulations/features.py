"""The features of many people at once, by the device's own functions.

Rules a reader can check line by line:

1. Nothing is computed here: interactions become the columns that a device makes of its events, and
   the device's `Counts`, `ItemTable` and `read_standard` do the rest.
2. People are folded in blocks, so that memory stays bounded; the blocks change no value.
3. Interactions carry no properties, so what needs one (a query, a discount, an offer) is as on a
   device whose app never sends it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from client_sdk.signals.features.catalogue import CatalogueColumns
from client_sdk.signals.features.columns import EventColumns
from client_sdk.signals.features.context import Context
from client_sdk.signals.features.counts import Counts
from client_sdk.signals.features.definitions import FeatureDefinition
from client_sdk.signals.features.items import ItemTable
from client_sdk.signals.features.reading import Reading
from client_sdk.signals.features.standard import STANDARD, read_standard
from client_sdk.signals.features.subkinds import SUBKIND_OF_KIND
from client_sdk.wire import Catalogue
from simulations.data.interactions import EVENT_KINDS, Interactions

PEOPLE_A_BLOCK: Final = 256
_SUBKINDS: Final = np.array([SUBKIND_OF_KIND[kind] for kind in EVENT_KINDS], np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class PeopleFeatures:
    """The features of P people, each at a moment.

    Attributes:
        definitions: What each column means.
        values: float64[P, F], finite.
        known: bool[P, F].
    """

    definitions: tuple[FeatureDefinition, ...]
    values: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]


def features_of(
    interactions: Interactions,
    catalogue: Catalogue,
    *,
    now_s: float | npt.NDArray[np.float64],
    contexts: Sequence[Context] = (Context(),),
    allowed_tags: Collection[str] = (),
    people_a_block: int = PEOPLE_A_BLOCK,
) -> PeopleFeatures:
    """Compute the standard features of everybody.

    Args:
        interactions: What happened.
        catalogue: The items that they are about.
        now_s: The moment, seconds since 1970 (UTC): one for all, or float64[P].
        contexts: One for all, or one for each person.
        allowed_tags: Sensitive tags that a policy allows by name.
        people_a_block: How many people are folded at once, 1 or more.

    Raises:
        ValueError: the catalogue has other items, or the moments or contexts are of another number.

    >>> from simulations.data.bundled import load_bundled
    >>> data = load_bundled()
    >>> features_of(data.interactions, data.catalogue, now_s=1.3e9).values.shape == (
    ...     798, len(STANDARD))
    True
    """
    n = interactions.n_people
    if len(catalogue.items) != interactions.n_items:
        raise ValueError("catalogue: expected the items of the interactions; got another number")
    if len(contexts) not in (1, n):
        raise ValueError("contexts: expected one for each person, or one for all")
    if people_a_block < 1:
        raise ValueError("people_a_block: expected 1 or more; got fewer")
    moments = np.broadcast_to(np.asarray(now_s, np.float64), (n,))
    columns = CatalogueColumns.of(catalogue, allowed=allowed_tags)
    values = np.empty((n, len(STANDARD)))
    known = np.empty((n, len(STANDARD)), np.bool_)
    for first in range(0, n, people_a_block):
        block = slice(first, min(first + people_a_block, n))
        rows = slice(*np.searchsorted(interactions.users, (block.start, block.stop)).tolist())
        values[block], known[block] = read_standard(
            _reading(
                interactions.take(rows),
                columns,
                first=first,
                now_s=moments[block],
                contexts=contexts if len(contexts) == 1 else contexts[block],
            )
        )
    return PeopleFeatures(definitions=STANDARD, values=values, known=known)


def _reading(
    interactions: Interactions,
    catalogue: CatalogueColumns,
    *,
    first: int,
    now_s: npt.NDArray[np.float64],
    contexts: Sequence[Context],
) -> Reading:
    """Fold one block of people: those from number ``first`` on, one for each moment."""
    people = interactions.users.astype(np.int64) - first
    n_items = interactions.n_items
    pairs, rows = np.unique(people * n_items + interactions.items, return_inverse=True)
    columns = EventColumns(
        people=people,
        subkinds=_SUBKINDS[interactions.kinds],
        times_s=interactions.times_s,
        rows=rows.astype(np.int64),
        prices=interactions.prices,
        keys=np.zeros(len(people), np.int64),
    )
    counts, items = Counts(len(now_s)), ItemTable(len(pairs))
    counts.fold(columns)
    items.fold(columns)
    return Reading(
        counts=counts,
        items=items,
        owners=pairs // n_items,
        item_rows=pairs % n_items,
        catalogue=catalogue,
        now_s=now_s,
        contexts=contexts,
    )
