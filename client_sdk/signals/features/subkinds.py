"""Subkinds: the kinds of events, split where one property makes a difference to a feature.

Rules a reader can check line by line:

1. Every event has exactly one subkind, so counting subkinds counts events. A kind that the app
   registered itself is ``OTHER``.
2. A purchase is split by its ``discount`` (a number above 0), a view of content or of a screen by
   its ``topic`` (``"return-policy"``), a message by ``offer`` (true). Nothing else is looked at.
3. A search and a form error have a *key*: a hash of the normalised query, or of the field. Two
   events of one day with one key are a repetition. The text itself is not kept.
4. What a subkind does to an item is one column of the item's counts, the same for the device, one
   event or many, and the simulation. To read how an item is returned is no look at the item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

import numpy as np

from client_sdk.signals.events import Event

RETURN_POLICY_TOPIC: Final = "return-policy"


class Subkind(IntEnum):
    """What an event counts as; the number is its place in every table of counts."""

    OTHER = 0
    PRODUCT_VIEW = 1
    SEARCH = 2
    CART = 3
    CHECKOUT_STEP = 4
    PURCHASE = 5
    PURCHASE_DISCOUNTED = 6
    RETURN = 7
    CONTENT_VIEW = 8
    RETURN_POLICY_VIEW = 9
    SUPPORT = 10
    MESSAGE_SHOWN = 11
    OFFER_SHOWN = 12
    MESSAGE_OPENED = 13
    MESSAGE_DISMISSED = 14
    SCREEN = 15
    FORM_ERROR = 16


N_SUBKINDS: Final = len(Subkind)
# Two more columns of the daily counts, for events that repeat an earlier one of their day.
REPEATED_SEARCH: Final = N_SUBKINDS
REPEATED_FORM_ERROR: Final = N_SUBKINDS + 1
N_COUNTS: Final = N_SUBKINDS + 2

SUBKIND_OF_KIND: Final[Mapping[str, Subkind]] = {
    "product_view": Subkind.PRODUCT_VIEW,
    "search": Subkind.SEARCH,
    "cart": Subkind.CART,
    "checkout_step": Subkind.CHECKOUT_STEP,
    "purchase": Subkind.PURCHASE,
    "return": Subkind.RETURN,
    "content_view": Subkind.CONTENT_VIEW,
    "support": Subkind.SUPPORT,
    "message_shown": Subkind.MESSAGE_SHOWN,
    "message_opened": Subkind.MESSAGE_OPENED,
    "message_dismissed": Subkind.MESSAGE_DISMISSED,
    "screen": Subkind.SCREEN,
    "form_error": Subkind.FORM_ERROR,
}
_NUMBER_OF_KIND: Final = {kind: int(subkind) for kind, subkind in SUBKIND_OF_KIND.items()}
REPEATED: Final[Mapping[int, int]] = {
    Subkind.SEARCH: REPEATED_SEARCH,
    Subkind.FORM_ERROR: REPEATED_FORM_ERROR,
}

# The columns of an item's counts.
PURCHASES, RETURNS, CARTS, VIEWS = range(4)
NO_COLUMN: Final = -1
ITEM_COLUMN: Final = np.full(N_SUBKINDS, NO_COLUMN, np.int64)
ITEM_COLUMN[[Subkind.PURCHASE, Subkind.PURCHASE_DISCOUNTED]] = PURCHASES
ITEM_COLUMN[Subkind.RETURN] = RETURNS
ITEM_COLUMN[Subkind.CART] = CARTS
ITEM_COLUMN[[Subkind.PRODUCT_VIEW, Subkind.CONTENT_VIEW]] = VIEWS
ITEM_COLUMN.setflags(write=False)
ITEM_COLUMNS: Final[tuple[int, ...]] = tuple(ITEM_COLUMN.tolist())

# Kinds whose properties matter here; the others are done with one look-up.
_SPLIT: Final = frozenset({"purchase", "content_view", "screen", "message_shown"})
_KEY_PROPERTY: Final[Mapping[str, str]] = {"search": "query", "form_error": "field"}


def subkind_of(event: Event) -> int:
    """Say what an event counts as.

    >>> subkind_of(Event(kind="screen", time_s=0.0, properties={"topic": "return-policy"})).name
    'RETURN_POLICY_VIEW'
    """
    kind = event.kind
    subkind = _NUMBER_OF_KIND.get(kind, 0)
    if event.properties and kind in _SPLIT:
        return _split(subkind, event.properties)
    return subkind


def key_of(event: Event) -> int:
    """Give the 63-bit key of a search or form error, stable on every machine; 0 for "no key".

    A search without a query has none: it repeats nothing that is known. A form error without a
    field counts as one of the field with no name.

    >>> first = key_of(Event(kind="search", time_s=0.0, properties={"query": "Green  tea"}))
    >>> first == key_of(Event(kind="search", time_s=9.0, properties={"query": " green TEA "}))
    True
    """
    name = _KEY_PROPERTY.get(event.kind)
    if name is None:
        return 0
    value = event.properties.get(name)
    if value is None and name == "query":
        return 0
    text = " ".join(str(value).casefold().split())
    digest = hashlib.blake2b(f"{name}\0{text}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) or 1


def _split(subkind: int, properties: Mapping[str, object]) -> int:
    if subkind == Subkind.PURCHASE:
        discount = properties.get("discount")
        if isinstance(discount, int | float) and discount > 0:
            return Subkind.PURCHASE_DISCOUNTED
    elif subkind == Subkind.MESSAGE_SHOWN:
        if properties.get("offer") is True:
            return Subkind.OFFER_SHOWN
    elif properties.get("topic") == RETURN_POLICY_TOPIC:
        return Subkind.RETURN_POLICY_VIEW
    return subkind
