"""What an adapter gives: events in our JSON form, and what it left out, with the reason.

Rules a reader can check line by line:

1. An adapter maps names; it judges no values. What it gives goes through the intake like any other
   event, and may be refused there. Only text that is a title or a search is cut to its limit.
2. A name that the foreign specification does not have, or that has no kind of ours, is left out.
   Nothing is guessed.
3. One payload read twice gives the same event ids, so that its events are told to be the same.
4. No payload that JSON can hold raises anything but `EventError`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from client_sdk.signals.events import MAX_ID_CHARS, MAX_TEXT_CHARS, EventError, RejectReason

_ID_CHARS: Final = 32
# Beyond it a number is no id, no price and no time, and may not fit a float.
_HUGE: Final = 1e30
_IS_DECIMAL: Final = re.compile("-?[0-9]+([.][0-9]+)?").fullmatch
# Room for what tells the items of one order from each other.
_LONGEST_GIVEN_ID: Final = MAX_ID_CHARS - 16


class SkipReason(StrEnum):
    """Why something of a payload became no event."""

    NO_KIND = "no-kind"
    UNKNOWN_NAME = "unknown-name"
    NO_ITEM = "no-item"
    NO_TIME = "no-time"
    MALFORMED = "malformed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """One thing that became no event.

    Attributes:
        reason: One of `SkipReason`.
        what: A word of the foreign specification, or which type came; never a person's data.
        position: Its place among the calls or events of the payload, from 0.
    """

    reason: SkipReason
    what: str
    position: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What became of a payload.

    Attributes:
        events: In the form of `Event.from_json`, in the payload's order.
        skipped: What became no event.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, reason: SkipReason, what: str, position: int) -> None:
        """Note that something became no event."""
        self.skipped.append(Skipped(reason=reason, what=what, position=position))


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One item of a foreign event, in our words; None where it was not said."""

    item_id: str
    price: Any = None
    quantity: Any = None
    discount: Any = None


class SkippedError(Exception):
    """Inside the adapters: this call or event becomes nothing."""

    def __init__(self, reason: SkipReason, what: str) -> None:
        super().__init__(reason, what)
        self.reason = reason
        self.what = what


class EventIds:
    """Gives the calls of one payload their ids: their own, or a hash of what they hold."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def give(self, own: object, content: object) -> str:
        """Give the id of one call.

        Args:
            own: What it says its id is.
            content: What is hashed where it has none. What is twice in a payload happened twice.

        Raises:
            SkippedError: the content is no JSON.
        """
        if isinstance(own, str) and 0 < len(own) <= _LONGEST_GIVEN_ID:
            return own
        try:
            text = json.dumps([own, content], sort_keys=True, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError):
            raise SkippedError(SkipReason.MALFORMED, "not JSON") from None
        digest = hashlib.sha256(text.encode()).hexdigest()[:_ID_CHARS]
        count = self._seen.get(digest, 0)
        self._seen[digest] = count + 1
        return digest if count == 0 else f"{digest}+{count}"


def expect_payload(payload: object) -> Mapping[str, Any]:
    """Give the payload back.

    Raises:
        EventError: it is no object.
    """
    if not isinstance(payload, Mapping):
        raise EventError(
            "payload",
            RejectReason.NOT_AN_OBJECT,
            f"expected a JSON object; got {type(payload).__name__}",
        )
    return payload


def expect_list(name: str, value: object) -> list[Any]:
    """Give a list of the payload back.

    Raises:
        EventError: it is no list.
    """
    if not isinstance(value, list):
        raise EventError(
            name, RejectReason.WRONG_TYPE, f"expected a list; got {type(value).__name__}"
        )
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """Give an object back; anything else is an empty one."""
    return value if isinstance(value, Mapping) else {}


def rows(value: object) -> Iterator[Mapping[str, Any]]:
    """Give the objects of a list; an empty one stands for anything else in it."""
    return map(mapping, value if isinstance(value, list) else ())


def first_text(*values: object) -> str:
    """Give the first text that is not empty, without the space around it; or none."""
    texts = (value.strip() for value in values if isinstance(value, str))
    return next(filter(None, texts), "")


def cut(text: str) -> str:
    """Cut a text to what a property may hold."""
    return text[:MAX_TEXT_CHARS]


def id_text(*values: object) -> str | None:
    """Give the first id: text, or a whole number as text.

    >>> id_text("", None, 507)
    '507'
    """
    for value in values:
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _HUGE:
            return str(value)
    return None


def plain_number(value: object) -> object:
    """Give a number that came as text as a number; anything else as it came.

    >>> plain_number("18.99"), plain_number("free"), plain_number(3)
    (18.99, 'free', 3)
    """
    return float(value) if isinstance(value, str) and _IS_DECIMAL(value) else value


def finite(value: object) -> float | None:
    """Give a finite number, or one that came as text, to count with; None for anything else.

    >>> finite("2.5"), finite(10**400), finite(True)
    (2.5, None, None)
    """
    value = plain_number(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _HUGE:
        return None
    return float(value)


def slug(text: str) -> str:
    """Give a title or a path as a topic: small letters and digits, the rest are hyphens.

    >>> slug("Return Policy "), slug("Über uns")
    ('return-policy', 'über-uns')
    """
    words = "".join(char if char.isalnum() else " " for char in text.lower()).split()
    return cut("-".join(words))


def event_json(
    *,
    kind: str,
    event_id: str,
    timestamp: object,
    user_id: str | None,
    device: str,
    line: Line | None = None,
    **properties: object,
) -> dict[str, Any]:
    """Give one event in our JSON form; what is empty is left out."""
    value: dict[str, Any] = {"event": kind, "event_id": event_id, "timestamp": timestamp}
    if user_id is not None:
        value["user_id"] = user_id
    if device:
        value["device"] = device
    if line is not None:
        value["product_id"] = line.item_id
        if line.price is not None:
            value["price"] = line.price
        if line.quantity is not None:
            value["quantity"] = line.quantity
        if line.discount is not None:
            properties["discount"] = line.discount
    kept = {name: fact for name, fact in properties.items() if fact is not None and fact != ""}
    if kept:
        value["properties"] = kept
    return value
