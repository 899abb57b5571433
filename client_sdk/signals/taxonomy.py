"""Which kinds of events an app has: the standard ones, and its own, each with a schema.

Rules a reader can check line by line:

1. A standard kind needs no more than `Event` checks. A custom kind must be registered, and its
   events must fit its `CustomKind`; anything else is refused with `EventError`.
2. A refusal names the property, what was expected and what *type* came, never what came.
3. A property that is null is as if it was not there.
4. `Taxonomy.json_schema` says the same as `Event.from_json` and `Taxonomy.check` together.
   ``event.schema.json`` beside this file is the one of `STANDARD`; it is printed by
   ``python -m client_sdk.signals.taxonomy``. What a JSON Schema cannot say: text that holds half
   of a surrogate pair, a line break after a timestamp (where ``$`` matches before it), a day or a
   time of day that does not exist, and, on the first and the last day, a UTC offset that leads
   before 1970 or after 9999. All are refused here.
5. Nothing here looks into a standard kind's properties: the standard properties below are what
   features read. A value of another type is, to them, as if it was not there.

=============  =========================  ============  ============================================
property       of                         type          meaning
=============  =========================  ============  ============================================
``query``      search                     text          what was searched for
``step``       checkout_step              text, number  which step of the checkout
``completed``  checkout_step              truth value   true: done; false or none: reached
``field``      form_error                 text          which field of the form was refused
``discount``   purchase                   number        money off, or a share; above 0: discounted
``offer``      message_shown              truth value   true: the message is an offer
``channel``    message_shown, _opened,    text          where: push, email, in-app
               _dismissed
``topic``      content_view, screen       text          what about, such as ``return-policy``
``session``    any                        text, number  one visit; what has it belongs together
=============  =========================  ============  ============================================
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from client_sdk.signals.events import (
    ITEM_KINDS,
    LAST_TIME_S,
    MAX_ID_CHARS,
    MAX_PRICE,
    MAX_PROPERTIES,
    MAX_PROPERTY_NAME_CHARS,
    MAX_QUANTITY,
    MAX_TEXT_CHARS,
    Event,
    EventError,
    EventKind,
    RejectReason,
)
from client_sdk.signals.fields import ISO_TIME, MAX_PROPERTY_NUMBER
from client_sdk.signals.kinds import CustomKind, PropertyRule, expect_table

__all__ = ["STANDARD", "STANDARD_PROPERTIES", "CustomKind", "PropertyRule", "Taxonomy"]

STANDARD_PROPERTIES: Final[Mapping[str, str]] = {
    "query": "search: text; what was searched for",
    "step": "checkout_step: text or number; which step of the checkout",
    "completed": "checkout_step: true when the step is done, not only reached",
    "field": "form_error: text; which field of the form was refused",
    "discount": "purchase: number; money off, or a share; above 0 means discounted",
    "offer": "message_shown: true when the message is an offer",
    "channel": "message_shown, message_opened, message_dismissed: text; push, email, in-app",
    "topic": "content_view, screen: text; what about, such as return-policy",
    "session": "any: text or number; one visit",
}
"""What features read of standard kinds, by name."""


class Taxonomy:
    """The kinds that an app has; never changes once it is made.

    Args:
        custom: The app's own kinds.

    Raises:
        ValueError: two kinds have one name.

    >>> taxonomy = Taxonomy([CustomKind(name="tasting_booked", meaning="You booked a tasting.")])
    >>> taxonomy.check(Event(kind="tasting_booked", time_s=0.0))
    >>> taxonomy.check(Event(kind="tasting_boked", time_s=0.0))
    Traceback (most recent call last):
    client_sdk.signals.fields.EventError: kind: expected a standard kind or a registered one, \
such as 'tasting_booked'; got another name
    """

    def __init__(self, custom: Iterable[CustomKind] = ()) -> None:
        kinds: dict[str, CustomKind] = {}
        for kind in custom:
            if kind.name in kinds:
                raise ValueError(f"custom: expected each kind once; got {kind.name!r} twice")
            kinds[kind.name] = kind
        self._custom = kinds

    @property
    def custom(self) -> Mapping[str, CustomKind]:
        """The app's own kinds, by name."""
        return MappingProxyType(self._custom)

    @classmethod
    def from_toml(cls, source: Path | str) -> Self:
        """Read the app's own kinds from TOML.

        Args:
            source: A file, or the text itself: one table ``[kinds.<name>]`` for each kind, with the
                fields of `CustomKind`, and ``[kinds.<name>.properties.<property>]`` with those of
                `PropertyRule`.

        Raises:
            ValueError: it is no TOML, or a key is unknown, missing or not as promised; the message
                names the file, the line where there is one, the key, and what was expected.
            OSError: the file cannot be read.

        >>> taxonomy = Taxonomy.from_toml('''
        ... [kinds.tasting_booked]
        ... meaning = "You booked a tasting."
        ... item = "required"
        ... [kinds.tasting_booked.properties.seats]
        ... type = "integer"
        ... minimum = 1
        ... ''')
        >>> list(taxonomy.custom)
        ['tasting_booked']
        """
        name = str(source) if isinstance(source, Path) else "taxonomy"
        try:
            # Bytes that are no UTF-8 are a ValueError, as is text that is no TOML.
            tables = tomllib.loads(
                source.read_text(encoding="utf-8") if isinstance(source, Path) else source
            )
            return cls(_kinds(tables))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def kinds(self) -> tuple[str, ...]:
        """The names of all kinds: the standard ones, then the app's own."""
        return (*EventKind, *self._custom)

    def check(self, event: Event) -> None:
        """Check that an event's kind is known and that the event fits it.

        Raises:
            EventError: the kind is not registered, or the event does not fit its schema.
        """
        kind = event.kind
        if kind.__class__ is EventKind:
            return
        custom = self._custom.get(kind)
        if custom is None:
            raise _unknown_kind(kind, self.kinds())
        custom.check(event)

    def json_schema(self) -> dict[str, Any]:
        """Give the JSON form as a JSON Schema (draft 2020-12).

        Returns:
            What `Event.from_json` and `check` take together, with the exceptions of rule 4.
        """
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "urn:homebody:event",
            "title": "Homebody event",
            "description": "One thing that a person did. Null is as if the field was not there.",
            "type": "object",
            "required": ["event", "timestamp"],
            "additionalProperties": False,
            "properties": {"event": {"enum": [str(kind) for kind in self.kinds()]}, **_FIELDS},
            "allOf": [
                _when(
                    {"enum": sorted(ITEM_KINDS)},
                    {"required": ["product_id"], "properties": {"product_id": {"type": "string"}}},
                ),
                *(
                    _when({"const": name}, {"description": kind.meaning, **kind.json_schema()})
                    for name, kind in self._custom.items()
                ),
            ],
        }


def _text(description: str, limit: int, shortest: int = 1) -> dict[str, Any]:
    return {
        "description": description,
        "type": ["string", "null"],
        "minLength": shortest,
        "maxLength": limit,
    }


_FIELDS: Final[Mapping[str, Any]] = {
    "timestamp": {
        "description": "Seconds since 1970 (UTC), or ISO 8601 with a UTC offset.",
        "type": ["number", "string"],
        "minimum": 0,
        "maximum": LAST_TIME_S,
        "pattern": f"^{ISO_TIME}$",
    },
    "event_id": _text("Two events with one id are one event. Random by default.", MAX_ID_CHARS),
    "product_id": _text("The item.", MAX_ID_CHARS),
    "quantity": {
        "description": "How many pieces.",
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "maximum": MAX_QUANTITY,
    },
    "price": {
        "description": "Of one piece, in the app's currency.",
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": MAX_PRICE,
    },
    "user_id": _text("The app's name for the person.", MAX_TEXT_CHARS, 0),
    "device": _text("The app's name for the kind of device.", MAX_TEXT_CHARS, 0),
    "properties": {
        "description": "Further facts.",
        "type": ["object", "null"],
        "maxProperties": MAX_PROPERTIES,
        "propertyNames": {"minLength": 1, "maxLength": MAX_PROPERTY_NAME_CHARS},
        "properties": {
            name: {"description": meaning} for name, meaning in STANDARD_PROPERTIES.items()
        },
        # In full for each of them: `additionalProperties` would pass over the ones named above.
        "patternProperties": {
            "": {
                "type": ["string", "number", "boolean", "null"],
                "maxLength": MAX_TEXT_CHARS,
                "minimum": -MAX_PROPERTY_NUMBER,
                "maximum": MAX_PROPERTY_NUMBER,
            }
        },
    },
}


def _when(kind: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {"event": kind}, "required": ["event"]}, "then": then}


def _unknown_kind(kind: str, known: Iterable[str]) -> EventError:
    near = [str(name) for name in difflib.get_close_matches(kind, known, n=3)]
    hint = f", such as {' or '.join(map(repr, near))}" if near else ""
    return EventError(
        "kind",
        RejectReason.UNKNOWN_KIND,
        f"expected a standard kind or a registered one{hint}; got another name",
    )


def _kinds(tables: Mapping[str, Any]) -> list[CustomKind]:
    for key in tables:
        if key != "kinds":
            raise ValueError(f"{key}: expected 'kinds' only; got another key")
    kinds = expect_table("kinds", tables.get("kinds", {}))
    read = []
    for name in kinds:
        table = expect_table(f"kinds.{name}", kinds[name])
        try:
            read.append(CustomKind.from_table(name, table))
        except ValueError as error:
            raise ValueError(f"kinds.{name}.{error}") from None
    return read


STANDARD: Final = Taxonomy()
"""The standard kinds alone."""


if __name__ == "__main__":
    print(json.dumps(STANDARD.json_schema(), indent=2))
