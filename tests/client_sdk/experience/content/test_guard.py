"""The guard: what a copywriter may not say, in the open and in disguise; the template instead."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.experience.content import (
    BANNED,
    Brief,
    CopyGuard,
    SlotRule,
    Tone,
    Usable,
    Variant,
    brief_for,
    compose,
)
from client_sdk.experience.content.variants import ContentLibrary
from client_sdk.wire import Item

TEMPLATE = "Your Riva linen shirt is in the cart."
BRIEF = Brief(
    message="cart",
    template=TEMPLATE,
    facts={"item name": "Riva linen shirt", "item price": 39.0, "seats": 12.0, "left": "20 %"},
    tone="plain",
    currency="GBP",
)
GUARD = CopyGuard(tones=[Tone(name="plain", avoid=("gorgeous",))], allowed_hosts=["shop.example"])

HARMLESS = [
    TEMPLATE,
    "The Riva linen shirt is still £39.",
    "Still £39.00: your linen shirt.",
    "Have a look at your shirt, it is still here.",
    "For 12 seats.",
    "For twelve seats.",
    "Read more at https://shop.example/cart or help.shop.example.",
    "You've 20 % left.",
]
REFUSED = {
    "promise": ("Your approval is guaranteed.", "claim"),
    "promise, spaced": ("Your approval is g u a r a n t e e d.", "claim"),
    "promise, dotted": ("Your approval is g.u.a.r.a.n.t.e.e.d.", "claim"),
    "promise, digits for letters": ("Your approval is gu4r4nt33d.", "claim"),
    "promise, accents": ("Your approval is guàrantéed.", "claim"),
    "promise, capitals": ("Your approval is GUARANTEED.", "claim"),
    "promise, broken line": ("Your money is risk\nfree.", "claim"),
    "promise, cyrillic letter": ("Your approval is guar\u0430nteed.", "disguise"),
    "promise, zero-width space": ("Your approval is guar\u200banteed.", "disguise"),
    "promise, soft hyphen": ("Your approval is guaran\u00adteed.", "disguise"),
    "promise, mathematical letters": ("Your approval is \U0001d420uaranteed.", "disguise"),
    "promise, circled letters": ("Your approval is \u24d6uaranteed.", "disguise"),
    "right-to-left override": ("Your shirt \u202e.deetnaraug", "disguise"),
    "returns": ("You will earn high returns with it.", "claim"),
    "no risk": ("You can't lose.", "claim"),
    "no risk, curly quote": ("You can\u2019t lose.", "claim"),
    "medical": ("Your linen shirt cures eczema.", "claim"),
    "medical proof": ("Your shirt is clinically tested.", "claim"),
    "pressure": ("Hurry, your shirt is going.", "claim"),
    "made-up price": ("Your linen shirt is £29.", "facts"),
    "made-up currency": ("Your linen shirt is $39.", "facts"),
    "price as discount": ("Your linen shirt, 39 % less.", "facts"),
    "share as price": ("Your linen shirt is £20.", "facts"),
    "number in words": ("Your shirt is here for thirty days.", "facts"),
    "half": ("Your shirt is now half of it.", "facts"),
    "thousands": ("For 12k seats.", "facts"),
    "arabic digits": ("Your shirt is £\u0663\u0669.", "disguise"),
    "fraction": ("Your shirt is \u00bd of it.", "disguise"),
    "made-up name": ("Your shirt, as Beyonce wears it.", "facts"),
    "made-up name first": ("Gucci made your linen shirt.", "facts"),
    "offer": ("Your shirt comes with free shipping.", "offer"),
    "address": ("Your shirt: https://evil.example/cart", "address"),
    "address, host as user": ("Your shirt: https://shop.example@evil.example/", "address"),
    "address, host as prefix": ("Your shirt: https://shop.example.evil.example/", "address"),
    "address, bare": ("Your shirt is at evil.example now.", "address"),
    "address, mail": ("Your shirt: write to me@evil.example now.", "address"),
    "address, hidden": ("Your shirt is at evil dot com now.", "address"),
    "address, brackets": ("Your shirt is at evil[.]example now.", "address"),
    "slot": ("Your {item} is in the cart.", "slots"),
    "slot, other braces": ("Your [NAME] is in the cart.", "slots"),
    "slot, percent": ("Your %s is in the cart.", "slots"),
    "tone": ("Your gorgeous shirt is in the cart.", "tone"),
    "tone, spaced": ("Your g o r g e o u s shirt is in the cart.", "tone"),
    "shouting": ("Your shirt is HERE NOW.", "tone"),
    "exclamation": ("Your shirt is here!", "tone"),
    "length": ("Your shirt is here. " * 40, "length"),
    "empty": ("   ", "text"),
}


@pytest.mark.parametrize("text", HARMLESS)
def test_guard_what_the_brief_has_passes(text: str) -> None:
    """A text that says what the brief says is taken."""
    assert GUARD.objections(text, BRIEF) == ()


@pytest.mark.parametrize("name", REFUSED)
def test_guard_what_may_not_be_said_is_refused(name: str) -> None:
    """The rule that has to find it does, however it is written; the template speaks."""
    text, rule = REFUSED[name]
    assert rule in {found.rule for found in GUARD.objections(text, BRIEF)}
    assert compose(BRIEF, guard=GUARD, copywriter=lambda _: text).text == TEMPLATE


@pytest.mark.parametrize("answer", [None, 7, b"Your shirt.", ["Your shirt."]])
def test_guard_an_answer_that_is_no_text_is_refused(answer: object) -> None:
    """A copywriter that breaks its promise cannot get anything out."""
    copy = compose(BRIEF, guard=GUARD, copywriter=lambda _: answer)  # type: ignore[arg-type,return-value]
    assert (copy.text, copy.source) == (TEMPLATE, "template")


def test_guard_without_the_tone_approved_refuses_everything() -> None:
    """An empty list of tones approves nothing."""
    found = CopyGuard(tones=[]).objections(TEMPLATE, BRIEF)
    assert [one.detail for one in found] == ["a tone that is not approved"]


def test_tone_that_needs_a_word_refuses_a_text_without_it() -> None:
    """An approved tone may ask for one of its words."""
    guard = CopyGuard(tones=[Tone(name="plain", needs_one_of=("please", "thank you"))])
    assert [one.rule for one in guard.objections(TEMPLATE, BRIEF)] == ["tone"]
    assert guard.objections(f"Thank you. {TEMPLATE}", BRIEF) == ()


def test_compose_copywriter_that_raises_gives_the_template_and_logs_no_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a model does, something approved is said; the log has the rule and no words."""

    def broken(brief: Brief) -> str:
        raise RuntimeError(brief.template)

    with caplog.at_level(logging.INFO, logger="homebody.content"):
        copy = compose(BRIEF, guard=GUARD, copywriter=broken)
    assert copy.text == TEMPLATE
    assert copy.objections[0].detail == "it raised RuntimeError"
    assert "RuntimeError" in caplog.text
    assert "Riva" not in caplog.text


def test_objections_never_hold_the_text() -> None:
    """A text may hold what is known of the person; what is logged may not."""
    said = "Your Zyxwv approval is guaranteed at evil.example for 77 {slot}!"
    found = GUARD.objections(said, BRIEF)
    assert len(found) >= 5
    for word in ("Zyxwv", "77", "evil", "slot}"):
        assert not any(word in f"{one.rule} {one.detail}" for one in found)


def test_brief_tells_the_item_and_the_filled_slots_only() -> None:
    """The copywriter sees what consent filled, and the catalogue; nothing else of the person."""
    library = ContentLibrary(
        {"m": (Variant(variant_id="s", text="Hi."), Variant(variant_id="a", text="In {area}."))},
        {"m": "s"},
    )
    rule = SlotRule(
        name="area", kind="favourite", source="category_affinity", consent="personalise"
    )
    usable = Usable(
        favourites={"category_affinity": "linen", "brand_affinity": "Acme"},
        consents=frozenset({"personalise"}),
    )
    written = library.choose("m", usable=usable, slots={"area": rule}, key="k")
    brief = brief_for(written, tone="plain", item=Item(item_id="i", name="Riva", price=3.0))
    assert brief.facts == {
        "area": "linen",
        "item name": "Riva",
        "item brand": "",
        "item category": "",
        "item price": 3.0,
    }


@given(st.text(max_size=400))
def test_compose_any_text_is_taken_whole_or_not_at_all(text: str) -> None:
    """What is said is the template, or a text to which the guard has no objection."""
    copy = compose(BRIEF, guard=GUARD, copywriter=lambda _: text)
    assert copy.text == TEMPLATE or (
        copy.text == text.strip() and not GUARD.objections(text, BRIEF)
    )


@given(
    st.sampled_from(["guaranteed", "risk free", "clinically proven", "last chance"]),
    st.data(),
)
def test_guard_banned_words_in_any_case_and_spacing_are_found(
    word: str, data: st.DataObject
) -> None:
    """Capitals and extra spaces hide nothing."""
    spaces = data.draw(st.sampled_from([" ", "  ", "\n", "\t "]))
    upper = data.draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
    said = "".join(c.upper() if up else c for c, up in zip(word, upper, strict=True))
    text = f"Your shirt is {said.replace(' ', spaces)} now"
    assert GUARD.objections(text, BRIEF)


def test_banned_claims_have_names_and_patterns() -> None:
    """Every list is there, and each claim has a name for the log."""
    assert len({claim.name for claim in BANNED}) == len(BANNED) >= 7
