"""Variants: several ways to say one thing, and which of them is said to this person now.

Rules a reader can check line by line:

1. A message has a safe variant without slots. It is said where no other one may be.
2. A variant whose stage, tone or category is not the one that is wanted is out; one that says
   nothing of it fits any. What cannot be filled from consented sources is out: no text is half
   filled.
3. Of those left: most of what is wanted, then most slots, then a keyed hash (rendezvous hashing,
   Thaler and Ravishankar 1998), so that one person hears one voice, and a new variant moves few.
4. All variants of a message carry the message's compliance. A caller that wants another one has
   made a mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from client_sdk.experience.content.shape import Key, Table, check, json_schema
from client_sdk.experience.content.slots import SlotRule, filled, slots_of
from client_sdk.experience.content.usable import Usable
from client_sdk.experience.toml_file import TomlFile

METADATA: Final = ("stage", "tone", "category")
MAX_COPY_CHARS: Final = 500

_VARIANT: Final = Table(
    keys={
        "id": Key(type="name", meaning="Unique within the message.", required=True),
        "text": Key(
            type="text",
            meaning="The text, with slots such as {area}.",
            required=True,
            max_chars=MAX_COPY_CHARS,
        ),
        "stage": Key(type="name", meaning="For which stage only; any by default."),
        "tone": Key(type="name", meaning="In which tone; any by default."),
        "category": Key(type="text", meaning="For which category only; any by default."),
    }
)
_FILE: Final = Table(
    keys={
        "messages": Key(
            type="named",
            meaning="What can be said, by name.",
            required=True,
            of=Table(
                keys={
                    "safe": Key(
                        type="name",
                        meaning="The variant without slots that is said where no other may be.",
                        required=True,
                    ),
                    "compliance": Key(
                        type="name", meaning="The rules it was approved under, such as financial."
                    ),
                    "variants": Key(
                        type="list", meaning="The ways to say it.", required=True, of=_VARIANT
                    ),
                }
            ),
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to say something.

    Attributes:
        variant_id: Unique within its message.
        text: With slots such as ``{area}``.
        stage: For which stage only; empty for any. So are ``tone`` and ``category``.
        tone: See there.
        category: See there; case folded.
        compliance: The rules that it was approved under; empty for none in particular.

    Raises:
        ValueError: a brace that belongs to no slot.
    """

    variant_id: str
    text: str
    stage: str = ""
    tone: str = ""
    category: str = ""
    compliance: str = ""

    def __post_init__(self) -> None:
        slots_of(self.text)
        object.__setattr__(self, "category", self.category.casefold())

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots of the text."""
        return slots_of(self.text)

    def fit(self, wanted: Mapping[str, str]) -> int | None:
        """Say how much of what is wanted it names; None where it contradicts."""
        named = 0
        for name in METADATA:
            own, asked = getattr(self, name), wanted.get(name, "").casefold()
            if own and own != asked:
                return None
            named += bool(own)
        return named


@dataclass(frozen=True, kw_only=True)
class Written:
    """A text for one person, whole.

    Attributes:
        message: What is said.
        variant_id: In which way.
        text: The text, no slot left.
        template: The text before its slots were filled.
        values: What was put in, by slot.
        reason: Why this variant, without anything of the person.
    """

    message: str
    variant_id: str
    text: str
    template: str
    values: Mapping[str, str]
    reason: str


class ContentLibrary:
    """What can be said; never changes once it is made.

    Args:
        messages: The variants of each message, by its name.
        safe: The safe variant of each message, by its name.

    Raises:
        ValueError: a message without its safe variant, a safe variant with slots, two variants of
            one id, or two compliances in one message.

    >>> library = ContentLibrary({"hello": (Variant(variant_id="plain", text="Hello."),
    ...     Variant(variant_id="warm", text="Good to see you in {area}."))}, {"hello": "plain"})
    >>> library.choose("hello", usable=Usable(), slots={}, key="ada").text
    'Hello.'
    """

    def __init__(
        self, messages: Mapping[str, tuple[Variant, ...]], safe: Mapping[str, str]
    ) -> None:
        self._messages = dict(messages)
        self._safe = {}
        for name, variants in self._messages.items():
            try:
                self._safe[name] = _safe_of(variants, safe.get(name))
            except ValueError as error:
                raise ValueError(f"message {name!r}: {error}") from None

    @property
    def messages(self) -> Mapping[str, tuple[Variant, ...]]:
        """The variants of each message, by its name."""
        return MappingProxyType(self._messages)

    @classmethod
    def from_toml(cls, source: Path | str, *, name: str = "content") -> Self:
        """Read a library from a file, or from the text itself; see ``content.schema.json``.

        Args:
            source: A `Path`, or text.
            name: What to call it in an error, where it is text.

        Raises:
            FileMistakeError: it is not as promised; the message names file, line and remedy.
            OSError: the file cannot be read.

        >>> ContentLibrary.from_toml("messages.hello = {safe = 'plain', variants = []}")
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        client_sdk.experience.toml_file.FileMistakeError: content, line 1: messages.hello: ...
        """
        file = TomlFile.read(source, name=name)
        check(file, _FILE)
        messages: dict[str, tuple[Variant, ...]] = {}
        safe: dict[str, str] = {}
        for message, table in file.tables["messages"].items():
            place = ("messages", message)
            variants = []
            for number, given in enumerate(table["variants"]):
                fields = {key: value for key, value in given.items() if key != "id"}
                fields["compliance"] = table.get("compliance", "")
                try:
                    variants.append(Variant(variant_id=given["id"], **fields))
                except ValueError as error:
                    raise file.mistake((*place, "variants", number, "text"), str(error)) from None
            messages[message], safe[message] = tuple(variants), table["safe"]
            try:
                _safe_of(messages[message], safe[message])
            except ValueError as error:
                raise file.mistake(place, str(error)) from None
        return cls(messages, safe)

    def slots_of(self, message: str) -> frozenset[str]:
        """Every slot that a variant of a message has.

        Raises:
            ValueError: there is no such message.
        """
        return frozenset(slot for variant in self._variants(message) for slot in variant.slots)

    def choose(
        self,
        message: str,
        *,
        usable: Usable,
        slots: Mapping[str, SlotRule],
        key: str,
        wanted: Mapping[str, str] | None = None,
    ) -> Written:
        """Choose a variant and fill it.

        Args:
            message: What to say.
            usable: What may be used now.
            slots: What each slot is filled from; a slot without a rule is never filled.
            key: Whose choice it is, such as the device's pseudonym: the same key, the same choice.
            wanted: ``stage``, ``tone``, ``category`` and ``compliance``, as far as they matter.

        Raises:
            ValueError: there is no such message, or it was approved under other rules.
        """
        variants, safe = self._variants(message), self._safe[message]
        asked = dict(wanted or {})
        unknown = sorted(set(asked) - {*METADATA, "compliance"})
        if unknown:
            raise ValueError(f"wanted: expected some of {[*METADATA, 'compliance']}; got another")
        if asked.get("compliance", safe.compliance) != safe.compliance:
            raise ValueError(
                f"message {message!r} was approved under {safe.compliance or 'no rules'!r}: "
                "expected a message with the wanted compliance"
            )
        known = {name: rule.value(usable) for name, rule in slots.items()}
        values = {name: value for name, value in known.items() if value is not None}
        able = []
        for variant in variants:
            fit = variant.fit(asked)
            if fit is not None and set(variant.slots) <= set(values):
                able.append((fit, len(variant.slots), _draw(key, message, variant), variant))
        if not able:
            return _written(message, safe, {}, "no other variant may be said now: the safe one")
        fit, n_slots, _, best = max(able, key=lambda entry: entry[:3])
        others = sum(entry[:2] == (fit, n_slots) for entry in able)
        slots_said = f"{n_slots} slot(s) filled with consent" if n_slots else "nothing to fill in"
        reason = f"fits {fit} of what is wanted, {slots_said}" if asked else slots_said
        if others > 1:
            reason += f", drawn from {others} by a keyed hash"
        return _written(message, best, values, reason)

    def _variants(self, message: str) -> tuple[Variant, ...]:
        if message not in self._messages:
            raise ValueError(f"message: expected one of {sorted(self._messages)}; got another")
        return self._messages[message]


def content_schema() -> dict[str, Any]:
    """Give what `ContentLibrary.from_toml` reads as a JSON Schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:homebody:content",
        "title": "Homebody content",
        "description": "What can be said, in variants; each message has a safe one without slots.",
        **json_schema(_FILE),
    }


def _safe_of(variants: tuple[Variant, ...], safe: str | None) -> Variant:
    by_id = {variant.variant_id: variant for variant in variants}
    if len(by_id) != len(variants):
        raise ValueError("expected each variant id once; got one twice: rename one")
    if safe is None or safe not in by_id:
        raise ValueError("expected the safe variant among the variants; got none of its id: add it")
    found = by_id[safe]
    if found.slots:
        raise ValueError("expected a safe variant without slots; got some: take them out")
    if any(variant.compliance != found.compliance for variant in variants):
        raise ValueError("expected one compliance for all variants; got several")
    return found


def _draw(key: str, message: str, variant: Variant) -> bytes:
    said = "\x1f".join((key, message, variant.variant_id))
    return hashlib.sha256(said.encode()).digest()


def _written(message: str, variant: Variant, known: Mapping[str, str], reason: str) -> Written:
    values = {name: known[name] for name in variant.slots}
    return Written(
        message=message,
        variant_id=variant.variant_id,
        text=filled(variant.text, values),
        template=variant.text,
        values=values,
        reason=reason,
    )
