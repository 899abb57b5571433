"""What one field of an event may hold, and how a refusal is said.

Rules a reader can check line by line:

1. Every check gives the value back, or raises `EventError` with the field, one `RejectReason`, what
   was expected, and the type or the length of what came. What came is never in the message.
2. Everything has an upper bound.
3. A truth value is no number, text is no number, and neither NaN nor infinity is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

MAX_ID_CHARS: Final = 128
MAX_TEXT_CHARS: Final = 256
MAX_PROPERTIES: Final = 32
MAX_PROPERTY_NAME_CHARS: Final = 64
# 9999-12-31; a number above it is milliseconds by mistake.
LAST_TIME_S: Final = 253_402_300_799.0
MAX_QUANTITY: Final = 1e9
MAX_PRICE: Final = 1e12
MAX_PROPERTY_NUMBER: Final = 1e15
ISO_TIME: Final = (
    "(19[7-9][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}"
    "[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?"
    "(Z|[+-][0-9]{2}:?[0-9]{2})"
)
"""A moment as text: as RFC 3339 has it; the seconds, and the colon of the offset, may be left out.

Narrower than ISO 8601, so that every reader, and a JSON Schema, takes the same."""

PropertyValue = str | int | float | bool | None


class RejectReason(StrEnum):
    """Why an event is refused, in one word that can be counted."""

    NOT_AN_OBJECT = "not-an-object"
    MISSING = "missing"
    WRONG_TYPE = "wrong-type"
    OUT_OF_RANGE = "out-of-range"
    EMPTY = "empty"
    TOO_LONG = "too-long"
    TOO_LARGE = "too-large"
    BAD_TEXT = "bad-text"
    BAD_TIME = "bad-time"
    UNKNOWN_FIELD = "unknown-field"
    UNKNOWN_KIND = "unknown-kind"
    SCHEMA = "schema"
    TOO_FAR_AHEAD = "too-far-ahead"
    TOO_OLD = "too-old"


class EventError(ValueError):
    """An event was refused; nothing of it was kept.

    Attributes:
        field: Which field is wrong.
        reason: One of `RejectReason`.

    >>> error = EventError("price", RejectReason.WRONG_TYPE, "expected a number; got str")
    >>> print(error, "/", error.reason)
    price: expected a number; got str / wrong-type
    """

    def __init__(self, field: str, reason: RejectReason, detail: str) -> None:
        super().__init__(field, reason, detail)
        self.field = field
        self.reason = reason
        self._detail = detail

    def __str__(self) -> str:
        return f"{self.field}: {self._detail}"


_IS_ISO_TIME: Final = re.compile(ISO_TIME).fullmatch


def iso_time_s(text: str) -> float:
    """Read a moment from text.

    Args:
        text: As `ISO_TIME` has it, with a UTC offset.

    Returns:
        Seconds since 1970 (UTC).

    Raises:
        EventError: other text, or a day or a time of day that does not exist.

    >>> iso_time_s("1970-01-02T00:00+01:00")
    82800.0
    """
    if not _IS_ISO_TIME(text):
        raise EventError(
            "timestamp",
            RejectReason.BAD_TIME,
            "expected seconds since 1970, or ISO 8601 with a UTC offset such as "
            "2026-01-31T09:30:00Z; got other text",
        )
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise EventError(
            "timestamp",
            RejectReason.BAD_TIME,
            "expected a day and a time of day that exist; got one that does not",
        ) from None


def number(name: str, value: object, low: float, high: float) -> float:
    """Check a number from ``low`` to ``high``, both included.

    Raises:
        EventError: another type, or out of range.

    >>> number("price", 3, 0.0, 10.0)
    3.0
    """
    if type(value) is float and low <= value <= high:
        return value
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise EventError(
            name, RejectReason.WRONG_TYPE, f"expected a number; got {type(value).__name__}"
        )
    if not low <= value <= high:
        raise EventError(
            name,
            RejectReason.OUT_OF_RANGE,
            f"expected a number from {low:g} to {high:g}; got another one",
        )
    return float(value)


def text(name: str, value: object, limit: int, *, empty: bool = False) -> str:
    """Check text of 1 to ``limit`` characters; ``empty`` allows none.

    Raises:
        EventError: another type, too long, empty, or not Unicode.
    """
    if not isinstance(value, str):
        raise EventError(
            name, RejectReason.WRONG_TYPE, f"expected text; got {type(value).__name__}"
        )
    if len(value) > limit or not (value or empty):
        raise EventError(
            name,
            RejectReason.TOO_LONG if value else RejectReason.EMPTY,
            f"expected 1 to {limit} characters; got {len(value)}",
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise EventError(
                name, RejectReason.BAD_TEXT, "expected Unicode text; got half of a surrogate pair"
            ) from None
    return value


def checked_properties(properties: object) -> dict[str, PropertyValue]:
    """Check the further facts of an event, and give a copy of them.

    Raises:
        EventError: no object, too many, or a name or a value that is not allowed.
    """
    if not isinstance(properties, Mapping):
        raise EventError(
            "properties",
            RejectReason.WRONG_TYPE,
            f"expected an object; got {type(properties).__name__}",
        )
    if len(properties) > MAX_PROPERTIES:
        raise EventError(
            "properties",
            RejectReason.TOO_LARGE,
            f"expected at most {MAX_PROPERTIES}; got {len(properties)}",
        )
    for name, value in properties.items():
        text("properties: name", name, MAX_PROPERTY_NAME_CHARS)
        if isinstance(value, str):
            text("properties: value", value, MAX_TEXT_CHARS, empty=True)
        elif isinstance(value, int | float):
            if not isinstance(value, bool):
                number("properties: value", value, -MAX_PROPERTY_NUMBER, MAX_PROPERTY_NUMBER)
        elif value is not None:
            raise EventError(
                "properties",
                RejectReason.WRONG_TYPE,
                f"expected text, number or truth value; got {type(value).__name__}",
            )
    return dict(properties)
