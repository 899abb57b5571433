"""The copywriter: anything that writes a text from a brief, and the desk that reads it first.

Rules a reader can check line by line:

1. The template is whole and approved before a copywriter is asked; it is what is said where the
   copywriter fails, answers no text, or is refused by the guard.
2. A copywriter is told the brief and nothing else: the slots that the person's consent filled, and
   the item of the catalogue.
3. Why a text was refused is in the result, and is logged, by rule; the text itself is in no log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from client_sdk.experience.content.guard import Brief, CopyGuard, Objection
from client_sdk.experience.content.usable import Scalar
from client_sdk.experience.content.variants import Written
from client_sdk.wire import Item

LOGGER: Final = logging.getLogger("homebody.content")
LOGGER.addHandler(logging.NullHandler())


class Copywriter(Protocol):
    """Writes a text; a local language model, for example."""

    def __call__(self, brief: Brief) -> str:
        """Write a text from a brief."""
        ...


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What is said.

    Attributes:
        text: Whole, and checked where it was generated.
        source: ``"template"`` or ``"copywriter"``.
        objections: Why the copywriter's text was not taken; empty where it was, or none was asked.
    """

    text: str
    source: Literal["template", "copywriter"]
    objections: tuple[Objection, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CopyDesk:
    """Who writes, and who reads it before anybody else does.

    Attributes:
        guard: Reads it.
        copywriter: Writes it; None for templates only.
        messages: The messages that the copywriter may write; None for every one.
        tone: One of the guard's tones.
        currency: Of the catalogue's prices.
    """

    guard: CopyGuard
    copywriter: Copywriter | None = None
    messages: frozenset[str] | None = None
    tone: str = "plain"
    currency: str = ""

    def write(self, brief: Brief) -> Copy:
        """Write one text; see `compose`."""
        asked = self.messages is None or brief.message in self.messages
        return compose(brief, guard=self.guard, copywriter=self.copywriter if asked else None)


def brief_for(
    written: Written,
    *,
    tone: str,
    item: Item | None = None,
    stage: str = "",
    category: str = "",
    compliance: str = "",
    channel: str = "",
    currency: str = "",
) -> Brief:
    """Tell a copywriter what it may say: the filled slots, and the item's name, brand and price."""
    facts: dict[str, Scalar] = dict(written.values)
    if item is not None:
        facts |= {"item name": item.name, "item brand": item.brand, "item category": item.category}
        if item.price is not None:
            facts["item price"] = item.price
    return Brief(
        message=written.message,
        template=written.text,
        facts=facts,
        tone=tone,
        stage=stage,
        category=category,
        compliance=compliance,
        channel=channel,
        currency=currency,
    )


def compose(brief: Brief, *, guard: CopyGuard, copywriter: Copywriter | None = None) -> Copy:
    """Ask the copywriter, read what it wrote, and fall back to the template.

    >>> from client_sdk.experience.content.guard import Tone
    >>> guard = CopyGuard(tones=[Tone(name="plain")])
    >>> brief = Brief(message="card", template="Your card is on its way.", facts={}, tone="plain")
    >>> copy = compose(brief, guard=guard, copywriter=lambda brief: "Approval guaranteed!")
    >>> copy.text, copy.source, copy.objections[0].detail
    ('Your card is on its way.', 'template', 'guarantee')
    """
    if copywriter is None:
        return Copy(text=brief.template, source="template")
    try:
        text: object = copywriter(brief)
    except Exception as error:  # noqa: BLE001 - whatever a plugged-in model raises, the template speaks
        failed = Objection(rule="copywriter", detail=f"it raised {type(error).__name__}")
        return _refused(brief, (failed,))
    found = guard.objections(text, brief)
    if found:
        return _refused(brief, found)
    return Copy(text=str(text).strip(), source="copywriter")


def _refused(brief: Brief, found: tuple[Objection, ...]) -> Copy:
    rules = ", ".join(f"{one.rule}: {one.detail}" for one in found)
    LOGGER.info("message %s: the template speaks (%s)", brief.message, rules)
    return Copy(text=brief.template, source="template", objections=found)
