"""What a person did: one typed, bounded event.

Rules a reader can check line by line:

1. An `Event` that exists is well-formed: every field is checked when it is made, and `EventError`
   names the field, what was expected and what *type* came. A person's data is never in an error.
   Whether a custom kind is registered, and fits its schema, is for the `taxonomy` to say.
2. Sizes are bounded, so that one event can't fill the store: see `fields`.
3. `Event.to_json` and `Event.from_json` are inverse to each other, and `from_json` takes the common
   tracking form ``{"user_id", "event", "product_id", "timestamp", "device"}`` as it is.
4. `Event.to_row` and `Event.from_row` are inverse to each other as well. A row is for places that
   prove who wrote it: `from_row` checks the shape, and trusts what is in it.
5. Nothing here reads a clock: an event that carries no time is refused. Identity is random
   unless the app gives one, so only events that carry an ``event_id`` can be told to be the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from client_sdk.signals.fields import (
    LAST_TIME_S,
    MAX_ID_CHARS,
    MAX_PRICE,
    MAX_PROPERTIES,
    MAX_PROPERTY_NAME_CHARS,
    MAX_QUANTITY,
    MAX_TEXT_CHARS,
    EventError,
    PropertyValue,
    RejectReason,
    checked_properties,
    iso_time_s,
    number,
    text,
)

__all__ = [
    "CUSTOM_KIND",
    "ITEM_KINDS",
    "JSON_FIELDS",
    "LAST_TIME_S",
    "MAX_ID_CHARS",
    "MAX_PRICE",
    "MAX_PROPERTIES",
    "MAX_PROPERTY_NAME_CHARS",
    "MAX_QUANTITY",
    "MAX_TEXT_CHARS",
    "Event",
    "EventError",
    "EventKind",
    "PropertyValue",
    "RejectReason",
    "new_event_id",
]

CUSTOM_KIND: Final = "[a-z][a-z0-9_]{0,63}"
"""The name of a custom kind: this pattern, from the first to the last character."""


class EventKind(StrEnum):
    """The standard taxonomy."""

    PRODUCT_VIEW = "product_view"
    SEARCH = "search"
    CART = "cart"
    CHECKOUT_STEP = "checkout_step"
    FORM_ERROR = "form_error"
    PURCHASE = "purchase"
    RETURN = "return"
    CONTENT_VIEW = "content_view"
    SUPPORT = "support"
    MESSAGE_SHOWN = "message_shown"
    MESSAGE_OPENED = "message_opened"
    MESSAGE_DISMISSED = "message_dismissed"
    SCREEN = "screen"


ITEM_KINDS: Final = frozenset(
    {EventKind.PRODUCT_VIEW, EventKind.CART, EventKind.PURCHASE, EventKind.RETURN}
)
"""Kinds that say nothing without an item."""


def new_event_id() -> str:
    """Make a random id: 32 hexadecimal digits."""
    return os.urandom(16).hex()


@dataclass(frozen=True, kw_only=True, slots=True, init=False)
class Event:
    """One thing that a person did.

    Attributes:
        kind: An `EventKind`, or the name of a custom kind. The text of a standard kind becomes its
            `EventKind`.
        time_s: When, seconds since 1970 (UTC), from 0 to the year 9999.
        event_id: 1 to 128 characters; two events with one id are one event. Random by default.
        item_id: 1 to 128 characters; needed by the kinds in `ITEM_KINDS`.
        quantity: Above 0, or None.
        price: Of one piece, 0 or more, in the app's currency, or None.
        user_id: The app's name for the person, or empty.
        device: The app's name for the kind of device, or empty.
        properties: At most 32 further facts: text up to 256 characters, numbers, truth values. A
            copy is kept.

    Raises:
        EventError: a field is not as promised; the message names it.

    >>> Event(kind="product_view", item_id="SKU-987", time_s=0.0).kind
    <EventKind.PRODUCT_VIEW: 'product_view'>
    >>> Event(kind="tasting_booked", time_s=0.0).kind
    'tasting_booked'
    >>> Event(kind="cart", time_s=0.0)
    Traceback (most recent call last):
    client_sdk.signals.fields.EventError: item_id: expected an item for the kind 'cart'; got none
    """

    kind: EventKind | str
    time_s: float
    event_id: str
    item_id: str | None
    quantity: float | None
    price: float | None
    user_id: str
    device: str
    properties: Mapping[str, PropertyValue]

    # Written by hand: one pass checks and sets, which halves the time of the generated one.
    def __init__(
        self,
        *,
        kind: EventKind | str,
        time_s: float,
        event_id: str | None = None,
        item_id: str | None = None,
        quantity: float | None = None,
        price: float | None = None,
        user_id: str = "",
        device: str = "",
        properties: Mapping[str, PropertyValue] | None = None,
    ) -> None:
        known = _KINDS.get(kind) if isinstance(kind, str) else None
        _set_kind(self, _custom_kind(kind) if known is None else known)
        _set_time_s(self, number("time_s", time_s, 0.0, LAST_TIME_S))
        _set_event_id(
            self, new_event_id() if event_id is None else text("event_id", event_id, MAX_ID_CHARS)
        )
        if item_id is not None:
            text("item_id", item_id, MAX_ID_CHARS)
        elif known in ITEM_KINDS:
            raise EventError(
                "item_id",
                RejectReason.MISSING,
                f"expected an item for the kind '{known}'; got none",
            )
        _set_item_id(self, item_id)
        if quantity is not None:
            quantity = number("quantity", quantity, 0.0, MAX_QUANTITY)
            if quantity == 0:
                raise EventError(
                    "quantity", RejectReason.OUT_OF_RANGE, "expected a number above 0; got 0"
                )
        _set_quantity(self, quantity)
        _set_price(self, None if price is None else number("price", price, 0.0, MAX_PRICE))
        _set_user_id(self, "" if user_id == "" else text("user_id", user_id, MAX_TEXT_CHARS))
        _set_device(self, "" if device == "" else text("device", device, MAX_TEXT_CHARS))
        _set_properties(self, {} if properties is None else checked_properties(properties))

    def to_json(self) -> dict[str, Any]:
        """Give the event as plain JSON; what is empty is left out."""
        value: dict[str, Any] = {
            "event": str(self.kind),
            "event_id": self.event_id,
            "timestamp": self.time_s,
        }
        if self.item_id is not None:
            value["product_id"] = self.item_id
        if self.quantity is not None:
            value["quantity"] = self.quantity
        if self.price is not None:
            value["price"] = self.price
        if self.user_id:
            value["user_id"] = self.user_id
        if self.device:
            value["device"] = self.device
        if self.properties:
            value["properties"] = dict(self.properties)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read an event from the common tracking form.

        Args:
            value: ``event`` and ``timestamp`` are needed; ``product_id``, ``user_id``, ``device``,
                ``event_id``, ``quantity``, ``price`` and ``properties`` may be there; null is as
                if it was not. The timestamp is seconds since 1970, or text (see `fields.ISO_TIME`).

        Raises:
            EventError: a field is missing, unknown or not as promised; nothing is stored.

        >>> Event.from_json({"user_id": "u1", "event": "product_view", "product_id": "SKU-987",
        ...                  "timestamp": "2026-01-01T00:00:00Z", "device": "mobile"}).time_s
        1767225600.0
        """
        if not isinstance(value, Mapping):
            raise EventError(
                "event",
                RejectReason.NOT_AN_OBJECT,
                f"expected a JSON object; got {type(value).__name__}",
            )
        if not value.keys() <= JSON_FIELDS:
            raise EventError(
                "event",
                RejectReason.UNKNOWN_FIELD,
                f"expected the fields {sorted(JSON_FIELDS)}; "
                f"got {len(value.keys() - JSON_FIELDS)} other field(s); "
                "put further facts into 'properties'",
            )
        get = value.get
        kind, timestamp = get("event"), get("timestamp")
        if kind is None or timestamp is None:
            raise EventError(
                "event" if kind is None else "timestamp",
                RejectReason.MISSING,
                "expected a value; got none",
            )
        user_id, device = get("user_id"), get("device")
        return cls(
            kind=kind,
            time_s=iso_time_s(timestamp) if isinstance(timestamp, str) else timestamp,
            event_id=get("event_id"),
            item_id=get("product_id"),
            quantity=get("quantity"),
            price=get("price"),
            user_id="" if user_id is None else user_id,
            device="" if device is None else device,
            properties=get("properties"),
        )

    def to_row(self) -> list[Any]:
        """Give the event as a list, which is the shortest JSON of it.

        Returns:
            ``[kind, time_s, event_id, item_id, quantity, price, user_id, device, properties]``;
            what is empty is None, and what is empty at the end is left out.

        >>> Event(kind="search", time_s=1.5, event_id="e1").to_row()
        [<EventKind.SEARCH: 'search'>, 1.5, 'e1']
        """
        row: list[Any] = [
            self.kind,
            self.time_s,
            self.event_id,
            self.item_id,
            self.quantity,
            self.price,
            self.user_id or None,
            self.device or None,
            self.properties or None,
        ]
        while row[-1] is None:
            row.pop()
        return row

    @classmethod
    def from_row(cls, row: list[Any]) -> Self:
        """Read an event from a row whose origin is proven: only its shape is checked.

        Args:
            row: What `to_row` gave, through JSON.

        Raises:
            EventError: the list is of another shape. No list that JSON can hold raises another
                error.

        >>> Event.from_row(["search", 1.5, "e1"]).kind
        <EventKind.SEARCH: 'search'>
        """
        try:
            kind, time_s, event_id, item_id, quantity, price, user_id, device, properties = (
                row if len(row) == _ROW_CELLS else row + _EMPTY_ROW[len(row) :]
            )
        except (TypeError, ValueError):
            raise _bad_row() from None
        # One test after another, and no loop: this runs once for every event of a store.
        if not (
            type(kind) is str
            and type(time_s) is float
            and type(event_id) is str
            and (item_id is None or type(item_id) is str)
            and (quantity is None or type(quantity) is float)
            and (price is None or type(price) is float)
            and (user_id is None or type(user_id) is str)
            and (device is None or type(device) is str)
            and (properties is None or type(properties) is dict)
        ):
            raise _bad_row()
        event = _make(cls)
        _set_kind(event, _KINDS.get(kind, kind))
        _set_time_s(event, time_s)
        _set_event_id(event, event_id)
        _set_item_id(event, item_id)
        _set_quantity(event, quantity)
        _set_price(event, price)
        _set_user_id(event, user_id or "")
        _set_device(event, device or "")
        _set_properties(event, properties or {})
        return event


JSON_FIELDS: Final = frozenset(
    {
        "event",
        "timestamp",
        "event_id",
        "product_id",
        "quantity",
        "price",
        "user_id",
        "device",
        "properties",
    }
)
"""The fields of the JSON form."""

_KINDS: Final[Mapping[str, EventKind]] = {kind.value: kind for kind in EventKind}
_IS_CUSTOM_KIND: Final = re.compile(CUSTOM_KIND).fullmatch
_ROW_CELLS: Final = 9
_EMPTY_ROW: Final[list[Any]] = [None] * _ROW_CELLS
# A frozen class refuses `self.kind = ...`; its slots are set here, and nowhere else.
_make: Final = object.__new__
(
    _set_kind,
    _set_time_s,
    _set_event_id,
    _set_item_id,
    _set_quantity,
    _set_price,
    _set_user_id,
    _set_device,
    _set_properties,
) = (vars(Event)[name].__set__ for name in Event.__slots__)


def _bad_row() -> EventError:
    return EventError(
        "event", RejectReason.SCHEMA, "expected a row that an event wrote; got another list"
    )


def _custom_kind(kind: object) -> str:
    if isinstance(kind, str) and _IS_CUSTOM_KIND(kind):
        return str(kind)
    raise EventError(
        "kind",
        RejectReason.UNKNOWN_KIND,
        f"expected one of {sorted(_KINDS)}, or a custom kind: a small letter, then at most 63 "
        f"small letters, digits and _; got {_other(kind)}",
    )


def _other(value: object) -> str:
    return "other text" if isinstance(value, str) else type(value).__name__
