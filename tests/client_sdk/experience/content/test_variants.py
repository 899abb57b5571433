"""Variants and slots: chosen by what is wanted, filled with consent only, never half filled."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import client_sdk.experience.content as room
from client_sdk.experience.content import (
    ContentLibrary,
    FileMistakeError,
    SlotRule,
    Usable,
    Variant,
    content_schema,
)
from client_sdk.experience.content.slots import filled, slots_of

YES = frozenset({"personalise"})
AREA = SlotRule(name="area", kind="favourite", source="category_affinity", consent="personalise")
PLACE = SlotRule(name="place", kind="fact", source="town", consent="personalise", opt_in="location")
SLOTS = {"area": AREA, "place": PLACE}
LIBRARY = ContentLibrary(
    {
        "hello": (
            Variant(variant_id="plain", text="Hello."),
            Variant(variant_id="area", text="New in {area}."),
            Variant(variant_id="both", text="New in {area}, near {place}."),
            Variant(variant_id="warm", text="Lovely to see you.", tone="warm"),
        )
    },
    {"hello": "plain"},
)


def say(usable: Usable, **wanted: str) -> str:
    """Choose and fill for one person."""
    return LIBRARY.choose("hello", usable=usable, slots=SLOTS, key="ada", wanted=wanted).text


LINEN = {"category_affinity": "linen"}


@pytest.mark.parametrize(
    ("usable", "said"),
    [
        (Usable(), "Hello."),
        (Usable(favourites=LINEN), "Hello."),
        (Usable(favourites=LINEN, consents=YES), "New in linen."),
        (Usable(favourites=LINEN, consents=YES, paused=True), "Hello."),
        (Usable(favourites=LINEN, consents=frozenset({"train"})), "Hello."),
        (Usable(favourites=LINEN, facts={"town": "Ulm"}, consents=YES), "New in linen."),
        (
            Usable(
                favourites=LINEN,
                facts={"town": "Ulm"},
                consents=YES,
                opt_ins=frozenset({"location"}),
            ),
            "New in linen, near Ulm.",
        ),
        (Usable(favourites={"category_affinity": "{place}"}, consents=YES), "Hello."),
        (Usable(favourites={"category_affinity": "evil.example"}, consents=YES), "Hello."),
        (Usable(favourites={"category_affinity": "x" * 65}, consents=YES), "Hello."),
        (Usable(favourites={"category_affinity": "a\u202eb"}, consents=YES), "Hello."),
        (Usable(favourites={"category_affinity": "  "}, consents=YES), "Hello."),
    ],
)
def test_choose_fills_what_consent_allows_and_falls_back(usable: Usable, said: str) -> None:
    """No consent, no opt-in, no value, or a hostile value: the variant without it."""
    assert say(usable) == said


def test_choose_wanted_metadata_comes_first() -> None:
    """A variant for the wanted tone beats one with more slots; for another tone it is out."""
    usable = Usable(favourites=LINEN, consents=YES)
    assert say(usable, tone="warm") == "Lovely to see you."
    assert say(usable, tone="formal") == "New in linen."


def test_choose_same_key_same_choice_and_keys_spread() -> None:
    """One person hears one voice; people are spread over equals."""
    variants = tuple(Variant(variant_id=f"v{n}", text=f"Text {n}.") for n in range(4))
    library = ContentLibrary({"m": variants}, {"m": "v0"})
    drawn = [library.choose("m", usable=Usable(), slots={}, key=f"k{n}") for n in range(800)]
    again = [library.choose("m", usable=Usable(), slots={}, key=f"k{n}") for n in range(800)]
    assert drawn == again
    assert min(Counter(one.variant_id for one in drawn).values()) > 150


def test_choose_new_variant_moves_only_those_who_get_it() -> None:
    """Rendezvous hashing: nobody changes between two old variants."""
    old = tuple(Variant(variant_id=f"v{n}", text=f"Text {n}.") for n in range(4))
    new = (*old, Variant(variant_id="v4", text="Text 4."))
    before, after = (ContentLibrary({"m": one}, {"m": "v0"}) for one in (old, new))
    for n in range(300):
        was = before.choose("m", usable=Usable(), slots={}, key=f"k{n}").variant_id
        now = after.choose("m", usable=Usable(), slots={}, key=f"k{n}").variant_id
        assert now in (was, "v4")


def test_choose_other_compliance_is_a_mistake() -> None:
    """What was approved under other rules is not said by accident."""
    with pytest.raises(ValueError, match="approved under 'no rules'"):
        say(Usable(), compliance="financial")


texts = st.text(max_size=12)


@given(
    favourite=st.none() | texts,
    town=st.none() | texts,
    consents=st.sets(st.sampled_from(["personalise", "train"])),
    opt_ins=st.sets(st.sampled_from(["location", "sms"])),
    paused=st.booleans(),
)
def test_choose_never_half_filled_never_without_consent(
    favourite: str | None,
    town: str | None,
    consents: set[str],
    opt_ins: set[str],
    paused: bool,
) -> None:
    """For any situation: no brace is left, and a value is in the text only with its yes."""
    said = say(
        Usable(
            favourites={} if favourite is None else {"category_affinity": favourite},
            facts={} if town is None else {"town": town},
            consents=frozenset(consents),
            opt_ins=frozenset(opt_ins),
            paused=paused,
        )
    )
    assert "{" not in said
    assert "}" not in said
    if "personalise" not in consents or paused:
        assert said == "Hello."
    if "location" not in opt_ins:
        assert "near" not in said


def test_filled_value_is_never_read_as_a_slot() -> None:
    """A value that looks like a slot stays a value."""
    assert filled("{a}{b}", {"a": "{b}", "b": "x"}) == "{b}x"
    with pytest.raises(ValueError, match="a value for every slot"):
        filled("{a}", {})
    with pytest.raises(ValueError, match="a brace"):
        slots_of("{A}")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[messages.m]\nsafe = 'a'\n[[messages.m.variants]]\nid = 'a'\ntext = '{x'", 5, "brace"),
        ("[messages.m]\nsafe = 'a'\n[[messages.m.variants]]\nid = 'a'\ntext = '{x}'", 1, "without"),
        ("[messages.m]\nsafe = 'a'\nvariants = []", 1, "add it"),
        ("[messages.m]\nsafe = 'a'\n[[messages.m.variants]]\nid = 'a'\ntxt = 'x'", 5, "'text'"),
        ("[messages.m]\nsafe = \n", 2, "TOML"),
        ("[messages.m]\n[[messages.m.variants]]\nid = 'a'\ntext = 'x'", 1, "safe"),
        ("[messages.m]\nsafe = 3\nvariants = []", 2, "a name"),
    ],
)
def test_library_malformed_file_names_file_line_and_remedy(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    """One clear error."""
    path = tmp_path / "shop.content.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileMistakeError, match=f"shop.content.toml, line {line}: ") as caught:
        ContentLibrary.from_toml(path)
    assert said in str(caught.value)


def test_schema_file_is_what_the_code_gives() -> None:
    """The published schema never lags behind; it is a valid one."""
    kept = Path(room.__path__[0], "content.schema.json").read_text(encoding="utf-8")
    assert json.loads(kept) == content_schema()
    Draft202012Validator.check_schema(content_schema())
