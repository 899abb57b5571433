"""What a person did: one typed, bounded event.

Rules a reader can check line by line:

1. An `Event` that exists is valid: every field is checked when it is made, and the error names the
   field, what was expected and what *type* came. A person's data is never in an error.
2. Sizes are bounded, so that one event can't fill the store: see the constants below.
3. `Event.to_json` and `Event.from_json` are inverse to each other, and `from_json` takes the common
   tracking form ``{"user_id", "event", "product_id", "timestamp", "device"}`` as it is.
4. Nothing here reads a clock: an event that carries no time is refused. Identity is random
   unless the app gives one, so only events that carry an ``event_id`` can be told to be the same.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

MAX_ID_CHARS: Final = 128
MAX_TEXT_CHARS: Final = 256
MAX_PROPERTIES: Final = 32
MAX_PROPERTY_NAME_CHARS: Final = 64
# 9999-12-31; a number above it is milliseconds by mistake.
LAST_TIME_S: Final = 253_402_300_799.0
MAX_QUANTITY: Final = 1e9
MAX_PRICE: Final = 1e12

PropertyValue = str | int | float | bool | None


class EventKind(StrEnum):
    """The standard taxonomy."""

    PRODUCT_VIEW = "product_view"
    SEARCH = "search"
    CART = "cart"
    CHECKOUT_STEP = "checkout_step"
    PURCHASE = "purchase"
    RETURN = "return"
    CONTENT_VIEW = "content_view"
    SUPPORT = "support"
    MESSAGE_SHOWN = "message_shown"
    MESSAGE_OPENED = "message_opened"
    MESSAGE_DISMISSED = "message_dismissed"
    SCREEN = "screen"


_KINDS: Final[Mapping[str, EventKind]] = {kind.value: kind for kind in EventKind}
ITEM_KINDS: Final = frozenset(
    {EventKind.PRODUCT_VIEW, EventKind.CART, EventKind.PURCHASE, EventKind.RETURN}
)
"""Kinds that say nothing without an item."""


def new_event_id() -> str:
    """Make a random id: 32 hexadecimal digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that a person did.

    Attributes:
        kind: One of `EventKind`, or its text.
        time_s: When, seconds since 1970 (UTC), from 0 to the year 9999.
        event_id: 1 to 128 characters; two events with one id are one event. Random by default.
        item_id: 1 to 128 characters; needed by the kinds in `ITEM_KINDS`.
        quantity: Above 0, or None.
        price: Of one piece, 0 or more, in the app's currency, or None.
        user_id: The app's name for the person, or empty.
        device: The app's name for the kind of device, or empty.
        properties: At most 32 further facts: text up to 256 characters, numbers, truth values.

    Raises:
        ValueError: a field is not as promised; the message names it.

    >>> Event(kind="product_view", item_id="SKU-987", time_s=0.0).kind
    <EventKind.PRODUCT_VIEW: 'product_view'>
    >>> Event(kind="purchase", time_s=0.0)
    Traceback (most recent call last):
    ValueError: item_id: expected an item for the kind 'purchase'; got none
    """

    kind: EventKind | str
    time_s: float
    event_id: str = field(default_factory=new_event_id)
    item_id: str | None = None
    quantity: float | None = None
    price: float | None = None
    user_id: str = ""
    device: str = ""
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = _KINDS.get(self.kind) if isinstance(self.kind, str) else None
        if kind is None:
            raise ValueError(f"kind: expected one of {sorted(_KINDS)}; got another value")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "time_s", _number("time_s", self.time_s, 0.0, LAST_TIME_S))
        _text("event_id", self.event_id, MAX_ID_CHARS, empty=False)
        if self.item_id is not None:
            _text("item_id", self.item_id, MAX_ID_CHARS, empty=False)
        elif kind in ITEM_KINDS:
            raise ValueError(f"item_id: expected an item for the kind {kind.value!r}; got none")
        if self.quantity is not None:
            quantity = _number("quantity", self.quantity, 0.0, MAX_QUANTITY)
            if quantity == 0:
                raise ValueError("quantity: expected a number above 0; got 0")
            object.__setattr__(self, "quantity", quantity)
        if self.price is not None:
            object.__setattr__(self, "price", _number("price", self.price, 0.0, MAX_PRICE))
        if self.user_id != "":
            _text("user_id", self.user_id, MAX_TEXT_CHARS, empty=False)
        if self.device != "":
            _text("device", self.device, MAX_TEXT_CHARS, empty=False)
        if self.properties:
            _check_properties(self.properties)

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
    def from_json(cls, value: Mapping[str, Any]) -> Event:
        """Read an event from the common tracking form.

        Args:
            value: ``event`` and ``timestamp`` are needed; ``product_id``, ``user_id``, ``device``,
                ``event_id``, ``quantity``, ``price`` and ``properties`` may be there. The timestamp
                is seconds since 1970, or ISO 8601 with a UTC offset.

        Raises:
            ValueError: a field is missing, unknown or not as promised; nothing is stored.

        >>> Event.from_json({"user_id": "u1", "event": "product_view", "product_id": "SKU-987",
        ...                  "timestamp": "2026-01-01T00:00:00Z", "device": "mobile"}).time_s
        1767225600.0
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"event: expected a JSON object; got {type(value).__name__}")  # noqa: TRY004 - every refusal of an event is a ValueError
        left = dict(value)
        for name in ("event", "timestamp"):
            if left.get(name) is None:
                raise ValueError(f"{name}: expected a value; got none")
        kind, timestamp = left.pop("event"), left.pop("timestamp")
        time_s = _iso_time_s(timestamp) if isinstance(timestamp, str) else timestamp
        fields = {
            name: left.pop(key)
            for name, key in _JSON_FIELDS.items()
            if key in left and left[key] is not None
        }
        unknown = sorted(str(name) for name in left if name not in _JSON_FIELDS.values())
        if unknown:
            raise ValueError(
                f"event: expected the fields {sorted(_JSON_FIELDS.values())}, event and timestamp; "
                f"got {len(unknown)} other field(s); put further facts into 'properties'"
            )
        return cls(kind=kind, time_s=time_s, **fields)


_JSON_FIELDS: Final = {
    "event_id": "event_id",
    "item_id": "product_id",
    "quantity": "quantity",
    "price": "price",
    "user_id": "user_id",
    "device": "device",
    "properties": "properties",
}


def _iso_time_s(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            "timestamp: expected seconds since 1970 or ISO 8601; got other text"
        ) from None
    if moment.tzinfo is None:
        raise ValueError("timestamp: expected ISO 8601 with a UTC offset; got one without")
    return moment.timestamp()


def _number(name: str, value: object, low: float, high: float) -> float:
    if type(value) is not float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{name}: expected a number; got {type(value).__name__}")
        # An int may be too large for a float.
        value = float(value) if low <= value <= high else math.inf
    if not low <= value <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}; got another one")
    return value


def _text(name: str, value: object, limit: int, *, empty: bool = True) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text; got {type(value).__name__}")  # noqa: TRY004 - every refusal of an event is a ValueError
    if len(value) > limit or not (value or empty):
        raise ValueError(f"{name}: expected 1 to {limit} characters; got {len(value)}")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"{name}: expected Unicode text; got half of a surrogate pair")


def _check_properties(properties: object) -> None:
    if not isinstance(properties, Mapping):
        raise ValueError(f"properties: expected an object; got {type(properties).__name__}")  # noqa: TRY004 - every refusal of an event is a ValueError
    if len(properties) > MAX_PROPERTIES:
        raise ValueError(f"properties: expected at most {MAX_PROPERTIES}; got {len(properties)}")
    for name, value in properties.items():
        _text("properties: name", name, MAX_PROPERTY_NAME_CHARS, empty=False)
        if isinstance(value, str):
            _text("properties: value", value, MAX_TEXT_CHARS)
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, int | float):
            _number("properties: value", value, -1e15, 1e15)
        else:
            raise ValueError(
                f"properties: expected text, number or truth value; got {type(value).__name__}"
            )
