"""An app's own kinds of events: what each one is, and what its events must hold.

Rules a reader can check line by line:

1. A kind or a property that exists is sound: both are checked when they are made, and a mistake is
   a `ValueError` that says what was expected and what came. They are the app's own words.
2. `CustomKind.check` says no with `EventError`: it names the property, what was expected and what
   type came, never the value. The reason is always ``schema``.
3. A property that is null is as if it was not there. A whole number may be written as ``2.0``.
4. What `CustomKind.check` refuses, `CustomKind.json_schema` refuses, and the other way round.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from client_sdk.signals.events import CUSTOM_KIND, Event, EventError, EventKind, RejectReason
from client_sdk.signals.fields import (
    MAX_PROPERTIES,
    MAX_PROPERTY_NAME_CHARS,
    MAX_PROPERTY_NUMBER,
    MAX_TEXT_CHARS,
)

PropertyType = Literal["text", "number", "integer", "boolean"]
ItemNeed = Literal["required", "optional", "none"]

_JSON_TYPES: Final[Mapping[str, str]] = {
    "text": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
}
_NUMERIC: Final = ("number", "integer")
_ITEM_NEEDS: Final = ("required", "optional", "none")
_STANDARD: Final = frozenset(kind.value for kind in EventKind)


@dataclass(frozen=True, kw_only=True)
class PropertyRule:
    """What one property of a custom kind may hold.

    Attributes:
        type: ``text``, ``number``, ``integer`` or ``boolean``.
        required: Whether an event without it is refused.
        minimum: The smallest number allowed; for numbers.
        maximum: The largest number allowed; for numbers.
        max_chars: The longest text allowed, 1 to 256; for text.
        one_of: The only values allowed; for text and numbers. Empty: all.

    Raises:
        ValueError: the rule contradicts itself or its type.

    >>> PropertyRule(type="integer", minimum=1, maximum=12).admits(2)
    True
    >>> PropertyRule(type="text", one_of=("red", "white")).admits("blue")
    False
    """

    type: PropertyType
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    max_chars: int | None = None
    one_of: tuple[str | float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.type, str) or self.type not in _JSON_TYPES:
            raise ValueError(f"type: expected one of {list(_JSON_TYPES)}; got another value")
        _expect_bool("required", self.required)
        for name in ("minimum", "maximum"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if self.type not in _NUMERIC:
                raise ValueError(f"{name}: expected none for the type {self.type!r}; got one")
            if not _is_number(bound) or abs(bound) > MAX_PROPERTY_NUMBER:
                raise ValueError(
                    f"{name}: expected a number from {-MAX_PROPERTY_NUMBER:g} to "
                    f"{MAX_PROPERTY_NUMBER:g}; got {bound!r}"
                )
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"minimum: expected at most the maximum {self.maximum!r}; got {self.minimum!r}"
            )
        if self.max_chars is not None:
            if self.type != "text":
                raise ValueError(f"max_chars: expected none for the type {self.type!r}; got one")
            _expect_whole("max_chars", self.max_chars, MAX_TEXT_CHARS)
        self._check_one_of()

    def _check_one_of(self) -> None:
        # A file gives a list; what is frozen holds a tuple.
        if not isinstance(self.one_of, list | tuple):
            raise ValueError(f"one_of: expected a list; got {type(self.one_of).__name__}")  # noqa: TRY004 - a mistake in a rule is a ValueError
        if self.one_of and self.type == "boolean":
            raise ValueError("one_of: expected none for the type 'boolean'; got some")
        for value in self.one_of:
            if not self._admits_plain(value):
                raise ValueError(
                    f"one_of: expected values that the rest of the rule allows; got {value!r}"
                )
        object.__setattr__(self, "one_of", tuple(self.one_of))

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Read a rule from a TOML table or a JSON object.

        Raises:
            ValueError: a key is unknown, missing, or not as promised.
        """
        return cls(**_checked_table(cls, table, required="type"))

    def admits(self, value: object) -> bool:
        """Say whether a property may hold this value, which is not null."""
        return self._admits_plain(value) and (not self.one_of or value in self.one_of)

    def _admits_plain(self, value: object) -> bool:
        if self.type == "text":
            limit = MAX_TEXT_CHARS if self.max_chars is None else self.max_chars
            return isinstance(value, str) and len(value) <= limit
        if self.type == "boolean":
            return isinstance(value, bool)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
        ):
            return False
        if self.type == "integer" and value != int(value):
            return False
        return (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )

    def sentence(self) -> str:
        """Say in words what is expected.

        >>> PropertyRule(type="integer", minimum=1, maximum=12).sentence()
        'an integer, at least 1, at most 12'
        """
        parts = ["an integer" if self.type == "integer" else f"a {self.type}"]
        if self.type == "text":
            limit = MAX_TEXT_CHARS if self.max_chars is None else self.max_chars
            parts = [f"text of at most {limit} characters"]
        if self.minimum is not None:
            parts.append(f"at least {self.minimum:g}")
        if self.maximum is not None:
            parts.append(f"at most {self.maximum:g}")
        if self.one_of:
            parts.append(f"one of {list(self.one_of)}")
        return ", ".join(parts)

    def json_schema(self) -> dict[str, Any]:
        """Give the rule as a JSON Schema; an optional property may be null."""
        name = _JSON_TYPES[self.type]
        schema: dict[str, Any] = {"type": name if self.required else [name, "null"]}
        if self.max_chars is not None:
            schema["maxLength"] = self.max_chars
        if self.minimum is not None:
            schema["minimum"] = self.minimum
        if self.maximum is not None:
            schema["maximum"] = self.maximum
        if self.one_of:
            schema["enum"] = [*self.one_of] if self.required else [*self.one_of, None]
        return schema


@dataclass(frozen=True, kw_only=True)
class CustomKind:
    """A kind of event that the app has beside the standard ones.

    Attributes:
        name: A small letter, then at most 63 small letters, digits and ``_``; no standard kind.
        meaning: In plain words what the person did; the person reads it.
        item: Whether its events name an item: ``required``, ``optional`` or ``none``.
        properties: What each property may hold, by name; at most 32.
        other_properties: Whether further properties are allowed.
        retention_days: How long its events are kept, 1 or more; None: as the store keeps others.

    Raises:
        ValueError: a field is not as promised.

    >>> kind = CustomKind(name="tasting_booked", meaning="You booked a tasting.", item="required",
    ...                   properties={"seats": PropertyRule(type="integer", required=True)})
    >>> kind.check(Event(kind="tasting_booked", time_s=0.0, item_id="wine"))
    Traceback (most recent call last):
    client_sdk.signals.fields.EventError: properties.seats: expected an integer; got none
    """

    name: str
    meaning: str
    item: ItemNeed = "optional"
    properties: Mapping[str, PropertyRule] = field(default_factory=dict)
    other_properties: bool = False
    retention_days: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(CUSTOM_KIND, self.name):
            raise ValueError(
                "name: expected a small letter, then at most 63 small letters, digits and _; "
                f"got {self.name!r}"
            )
        if self.name in _STANDARD:
            raise ValueError(f"name: expected no standard kind; got {self.name!r}")
        if not isinstance(self.meaning, str) or not 0 < len(self.meaning) <= MAX_TEXT_CHARS:
            raise ValueError(f"meaning: expected 1 to {MAX_TEXT_CHARS} characters of plain words")
        if self.item not in _ITEM_NEEDS:
            raise ValueError(f"item: expected one of {list(_ITEM_NEEDS)}; got another value")
        if not isinstance(self.properties, Mapping) or len(self.properties) > MAX_PROPERTIES:
            raise ValueError(f"properties: expected at most {MAX_PROPERTIES} rules by name")
        for name, rule in self.properties.items():
            if not isinstance(name, str) or not 0 < len(name) <= MAX_PROPERTY_NAME_CHARS:
                raise ValueError(
                    f"properties: expected names of 1 to {MAX_PROPERTY_NAME_CHARS} characters"
                )
            if not isinstance(rule, PropertyRule):
                raise ValueError(  # noqa: TRY004 - a mistake in a kind is a ValueError
                    f"properties.{name}: expected a PropertyRule; got {type(rule).__name__}"
                )
        _expect_bool("other_properties", self.other_properties)
        if self.retention_days is not None:
            _expect_whole("retention_days", self.retention_days, 36_500)
        object.__setattr__(self, "properties", MappingProxyType(dict(self.properties)))

    @classmethod
    def from_table(cls, name: str, table: Mapping[str, Any]) -> Self:
        """Read a kind from a TOML table or a JSON object.

        Raises:
            ValueError: a key is unknown, missing, or not as promised.
        """
        given = _checked_table(cls, table, required="meaning", without="name")
        rules = expect_table("properties", given.get("properties", {}))
        read = {}
        for rule_name in rules:
            rule = expect_table(f"properties.{rule_name}", rules[rule_name])
            try:
                read[rule_name] = PropertyRule.from_table(rule)
            except ValueError as error:
                raise ValueError(f"properties.{rule_name}.{error}") from None
        return cls(name=name, **{**given, "properties": read})

    def check(self, event: Event) -> None:
        """Check an event of this kind.

        Raises:
            EventError: it lacks its item or a property, or has what the kind does not allow.
        """
        if self.item == "required" and event.item_id is None:
            raise _refusal("item_id", f"expected an item for the kind {self.name!r}; got none")
        if self.item == "none" and event.item_id is not None:
            raise _refusal("item_id", f"expected no item for the kind {self.name!r}; got one")
        given = event.properties
        for name, rule in self.properties.items():
            value = given.get(name)
            if value is None:
                if rule.required:
                    raise _refusal(f"properties.{name}", f"expected {rule.sentence()}; got none")
            elif not rule.admits(value):
                raise _refusal(
                    f"properties.{name}", f"expected {rule.sentence()}; got {_came(rule, value)}"
                )
        if not self.other_properties:
            others = sum(
                value is not None and name not in self.properties for name, value in given.items()
            )
            if others:
                raise _refusal(
                    "properties",
                    f"expected no others than {sorted(self.properties)} for the kind "
                    f"{self.name!r}; got {others} other(s)",
                )

    def json_schema(self) -> dict[str, Any]:
        """Give what `check` asks of the JSON form, as a JSON Schema."""
        schema: dict[str, Any] = {"properties": {}}
        needed = []
        if self.item == "required":
            needed.append("product_id")
            schema["properties"]["product_id"] = {"type": "string"}
        if self.item == "none":
            schema["properties"]["product_id"] = {"type": "null"}
        inner: dict[str, Any] = {
            "properties": {name: rule.json_schema() for name, rule in self.properties.items()}
        }
        required = [name for name, rule in self.properties.items() if rule.required]
        if required:
            needed.append("properties")
            inner["type"] = "object"
            inner["required"] = required
        if not self.other_properties:
            inner["additionalProperties"] = {"type": "null"}
        schema["properties"]["properties"] = inner
        if needed:
            schema["required"] = needed
        return schema


def _refusal(name: str, detail: str) -> EventError:
    return EventError(name, RejectReason.SCHEMA, detail)


def _came(rule: PropertyRule, value: object) -> str:
    """The type of what came, or, where the type is right, that it is another one."""
    right = {"text": str, "boolean": bool}.get(rule.type, float)
    if type(value) is right or (type(value) is int and right is float):
        return "another one" if not isinstance(value, str) else f"other text ({len(value)})"
    return type(value).__name__


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _expect_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false; got {type(value).__name__}")  # noqa: TRY004 - a mistake in a rule is a ValueError


def _expect_whole(name: str, value: object, limit: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
        raise ValueError(f"{name}: expected a whole number from 1 to {limit}; got {value!r}")


def expect_table(name: str, value: object) -> Mapping[str, Any]:
    """Give a table back.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: expected a table; got {type(value).__name__}")  # noqa: TRY004 - a mistake in a file is a ValueError
    return value


def _checked_table(
    cls: type, table: Mapping[str, Any], *, required: str, without: str = ""
) -> dict[str, Any]:
    known = {item.name for item in fields(cls)} - {without}
    unknown = sorted(str(key) for key in table.keys() - known)
    if unknown:
        raise ValueError(f"{unknown[0]}: expected one of {sorted(known)}; got another key")
    if required not in table:
        raise ValueError(f"{required}: expected a value; got none")
    return dict(table)
