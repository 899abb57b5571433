"""Slots: the gaps in a text, each filled from one source, with a yes to one purpose.

Rules a reader can check line by line:

1. A slot names its source and the purpose that allows it. Without a yes to that purpose, during a
   pause, or without the opt-in that it needs, it has no value.
2. A value is one short line of plain text. One that has a brace, a bracket, a control or invisible
   character, or looks like an address, is no value: it may have come from outside.
3. A number is written with as many decimals as the rule says, and nothing added.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from client_sdk.experience.content.usable import Usable
from client_sdk.wire import Purpose

SourceKind = Literal["feature", "favourite", "fact"]
SOURCE: Final = "(feature|favourite|fact):[a-z][a-z0-9_]{0,63}"
MAX_VALUE_CHARS: Final = 64
_SLOT: Final = re.compile(r"\{([a-z][a-z0-9_]{0,63})\}")
_ADDRESS: Final = re.compile(r"://|www\.|\w\.[a-z]{2,}|@|\[\.\]", re.IGNORECASE)
_UNSAFE: Final = frozenset("{}<>[]\\|`")


@dataclass(frozen=True, kw_only=True)
class SlotRule:
    """Where the value of one slot comes from, and what allows it.

    Attributes:
        name: As it stands in the texts.
        kind: ``feature``, ``favourite`` or ``fact``.
        source: The name of the feature, the map or the fact.
        consent: The purpose that there has to be a yes to.
        opt_in: What the person has to have opened as well; empty for nothing.
        decimals: Of a number, 0 to 6.

    Raises:
        ValueError: the purpose is none, or a field is not as promised.

    >>> rule = SlotRule(name="area", kind="favourite", source="category_affinity",
    ...                 consent="personalise")
    >>> liked = {"category_affinity": "linen"}
    >>> rule.value(Usable(favourites=liked, consents=frozenset({"personalise"})))
    'linen'
    >>> rule.value(Usable(favourites=liked)) is None
    True
    """

    name: str
    kind: SourceKind
    source: str
    consent: str
    opt_in: str = ""
    decimals: int = 0

    def __post_init__(self) -> None:
        if not _SLOT.fullmatch(f"{{{self.name}}}"):
            raise ValueError("name: expected a small letter, then small letters, digits and _")
        if not re.fullmatch(SOURCE, f"{self.kind}:{self.source}"):
            raise ValueError("kind and source: expected a feature, a favourite or a fact by name")
        if self.consent not in set(Purpose):
            raise ValueError(f"consent: expected one of {[str(name) for name in Purpose]}")
        if not 0 <= self.decimals <= 6:
            raise ValueError("decimals: expected 0 to 6; got another number")

    def value(self, usable: Usable) -> str | None:
        """Give the value, or None where there is none that may be used."""
        if usable.paused or self.consent not in usable.consents:
            return None
        if self.opt_in and self.opt_in not in usable.opt_ins:
            return None
        found: object = {
            "feature": usable.features,
            "favourite": usable.favourites,
            "fact": usable.facts,
        }[self.kind].get(self.source)
        if isinstance(found, str):
            return found.strip() if _plain(found) else None
        if found is None or isinstance(found, bool) or not isinstance(found, int | float):
            return None
        return f"{found:.{self.decimals}f}"


def slots_of(text: str) -> tuple[str, ...]:
    """Give the slots of a text, each once, in their order.

    Raises:
        ValueError: a brace that belongs to no slot.

    >>> slots_of("Hello {name}, your {area} and {name}.")
    ('name', 'area')
    """
    rest = _SLOT.sub("", text)
    if "{" in rest or "}" in rest:
        raise ValueError("expected slots as {name}; got a brace that belongs to none")
    return tuple(dict.fromkeys(_SLOT.findall(text)))


def filled(text: str, values: Mapping[str, str]) -> str:
    """Put the values into a text, all in one pass: a value is never read as a slot.

    Raises:
        ValueError: a slot has no value.
    """
    if not set(slots_of(text)) <= set(values):
        raise ValueError("expected a value for every slot; got fewer")
    return _SLOT.sub(lambda match: values[match[1]], text)


def _plain(text: str) -> bool:
    return (
        0 < len(text.strip()) <= MAX_VALUE_CHARS
        and not _UNSAFE & set(text)
        and not any(unicodedata.category(char)[0] == "C" for char in text)
        and not any(unicodedata.category(char) in ("Zl", "Zp") for char in text)
        and _ADDRESS.search(text) is None
    )
