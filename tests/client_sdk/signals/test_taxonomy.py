"""The taxonomy: what a custom kind asks, and that its JSON Schema says the same as the code."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from client_sdk.signals import taxonomy as taxonomy_module
from client_sdk.signals.events import ITEM_KINDS, Event, EventError, EventKind, RejectReason
from client_sdk.signals.fields import ISO_TIME, LAST_TIME_S
from client_sdk.signals.taxonomy import (
    STANDARD,
    STANDARD_PROPERTIES,
    CustomKind,
    PropertyRule,
    Taxonomy,
)

TASTING = CustomKind(
    name="tasting_booked",
    meaning="You booked a tasting.",
    item="required",
    properties={
        "seats": PropertyRule(type="integer", required=True, minimum=1, maximum=12),
        "colour": PropertyRule(type="text", one_of=("red", "white")),
        "note": PropertyRule(type="text", max_chars=5),
        "paid": PropertyRule(type="number", minimum=0.5),
        "member": PropertyRule(type="boolean"),
    },
)
STROLL = CustomKind(name="stroll", meaning="You took a stroll.", item="none", other_properties=True)
BARE = CustomKind(name="bare", meaning="Nothing else.")
OWN = Taxonomy([TASTING, STROLL, BARE])
GOOD = {
    "event": "tasting_booked",
    "timestamp": 1.0,
    "product_id": "wine",
    "properties": {"seats": 2},
}

# --- the JSON Schema, with the jsonschema library as the judge ----------------------------------

PROPERTY_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 20)
    | st.floats(-2, 20)
    | st.sampled_from([1e15, 1.1e15, -(10**15), 10**400, 2.0, "red", "white", "x" * 257, ""])
    | st.text(max_size=7)
    | st.lists(st.none(), max_size=1)
)
PROPERTIES = st.dictionaries(
    st.sampled_from(["seats", "colour", "note", "paid", "member", "topic", "", "n" * 65])
    | st.text(max_size=3),
    PROPERTY_VALUES,
    max_size=6,
)
TIMES = (
    st.sampled_from([0, 1, LAST_TIME_S, 10**12, -1, "", "yesterday", "2026-01-01T00:00:00"])
    | st.floats(0, 4e9)
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    | st.from_regex(ISO_TIME, fullmatch=True)
)
ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.lists(st.none(), max_size=1)
    | st.dictionaries(st.text(max_size=2), st.none(), max_size=1)
)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from([*OWN.kinds(), "tasting", "Screen"]) | ANY,
        "timestamp": TIMES | ANY,
        "product_id": st.sampled_from(["wine", "", "x" * 128, "x" * 129]) | ANY,
        "event_id": st.sampled_from(["e", "", "x" * 129]) | ANY,
        "quantity": st.sampled_from([0, 1, 1e9, 1.1e9, 5e-324]) | ANY,
        "price": st.sampled_from([0, 1e12, 1.1e12, -0.5]) | ANY,
        "user_id": st.sampled_from(["", "x" * 256, "x" * 257]) | ANY,
        "device": st.sampled_from(["", "x" * 256, "x" * 257]) | ANY,
        "properties": PROPERTIES | st.just({str(n): n for n in range(33)}) | ANY,
        "other": ANY,
    },
)
# Mostly right, so that the deep rules are reached.
NEAR = st.builds(
    lambda base, changes: {**base, **changes},
    st.sampled_from([GOOD, {"event": "stroll", "timestamp": 1}, {"event": "bare", "timestamp": 1}]),
    st.fixed_dictionaries({}, optional={"properties": PROPERTIES, "product_id": st.none()}),
)
JUDGE = jsonschema.Draft202012Validator(OWN.json_schema())


def takes(taxonomy: Taxonomy, payload: Any) -> bool:
    """What our reader and the taxonomy say."""
    try:
        taxonomy.check(Event.from_json(payload))
    except EventError:
        return False
    return True


def beyond_a_schema(payload: Any) -> bool:
    """The exceptions of rule 4, each one exactly."""
    if not isinstance(payload, dict):
        return False
    time = payload.get("timestamp")
    if isinstance(time, str):
        first_or_last = time.startswith(("1970-01-01", "9999-12-31", "1969-12-31"))
        try:
            Event.from_json({"event": "screen", "timestamp": time})
        except EventError as error:
            exists = error.reason is not RejectReason.BAD_TIME or "that exist" not in str(error)
            if not exists or (error.reason is RejectReason.OUT_OF_RANGE and first_or_last):
                return True
        if time.endswith("\n"):
            return True
    texts = json.dumps(payload, ensure_ascii=False)
    return any("\ud800" <= char <= "\udfff" for char in texts)


@given(payload=PAYLOADS | NEAR | ANY)
@example(payload=GOOD)
@example(payload={**GOOD, "properties": {"seats": 2.0, "colour": None}})
@example(payload={**GOOD, "properties": {"seats": 2, "extra": None}})
@example(payload={**GOOD, "properties": {"seats": 2.5}})
@example(payload={**GOOD, "properties": {"seats": True}})
@example(payload={**GOOD, "event": "stroll"})
@example(payload={**GOOD, "event": "purchase", "product_id": None})
@example(payload={**GOOD, "timestamp": "2026-02-30T00:00:00Z"})
def test_taxonomy_schema_and_code_say_the_same(payload: Any) -> None:
    """What one takes the other takes, with the exceptions that the docstring states."""
    if not beyond_a_schema(payload):
        assert takes(OWN, payload) == JUDGE.is_valid(payload)


def test_taxonomy_schema_is_a_schema_and_the_published_one_is_current() -> None:
    """The file in the package is what the command prints; run it again after a change."""
    jsonschema.Draft202012Validator.check_schema(OWN.json_schema())
    file = Path(taxonomy_module.__file__).with_name("event.schema.json")
    assert json.loads(file.read_text(encoding="utf-8")) == STANDARD.json_schema()
    assert file.read_text(encoding="utf-8") == json.dumps(STANDARD.json_schema(), indent=2) + "\n"


def test_taxonomy_schema_is_its_own_copy() -> None:
    """Who changes what they got changes nobody else's."""
    before = copy.deepcopy(STANDARD.json_schema())
    STANDARD.json_schema()["properties"]["event"]["enum"].clear()
    assert STANDARD.json_schema() == before


# --- what is refused, and how it is said ---------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"product_id": None}, "item_id: expected an item for the kind 'tasting_booked'; got none"),
        ({"event": "stroll"}, "item_id: expected no item for the kind 'stroll'; got one"),
        (
            {"properties": {}},
            "properties.seats: expected an integer, at least 1, at most 12; got none",
        ),
        (
            {"properties": {"seats": "secret"}},
            "properties.seats: expected an integer, at least 1, at most 12; got str",
        ),
        (
            {"properties": {"seats": 13}},
            "properties.seats: expected an integer, at least 1, at most 12; got another one",
        ),
        (
            {"properties": {"seats": 2.5}},
            "properties.seats: expected an integer, at least 1, at most 12; got another one",
        ),
        (
            {"properties": {"seats": True}},
            "properties.seats: expected an integer, at least 1, at most 12; got bool",
        ),
        (
            {"properties": {"seats": 2, "colour": "secret"}},
            (
                "properties.colour: expected text of at most 256 characters, "
                "one of ['red', 'white']; got other text (6)"
            ),
        ),
        (
            {"properties": {"seats": 2, "member": "secret"}},
            "properties.member: expected a boolean; got str",
        ),
        (
            {"properties": {"seats": 2, "secret": 1}},
            (
                "properties: expected no others than ['colour', 'member', 'note', 'paid', 'seats'] "
                "for the kind 'tasting_booked'; got 1 other(s)"
            ),
        ),
    ],
)
def test_taxonomy_event_that_does_not_fit_is_refused_by_property(
    changes: dict[str, Any], message: str
) -> None:
    """The property, what was expected, and the type of what came."""
    with pytest.raises(EventError) as caught:
        OWN.check(Event.from_json({**GOOD, **changes}))
    assert str(caught.value) == message
    assert caught.value.reason is RejectReason.SCHEMA


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("produkt_view", ", such as 'product_view'"),
        ("tasting_boked", ", such as 'tasting_booked'"),
        ("zzz", ""),
    ],
)
def test_taxonomy_unknown_kind_is_refused_with_near_names(kind: str, hint: str) -> None:
    """A slip of the pen is told; what came is not repeated."""
    with pytest.raises(EventError) as caught:
        OWN.check(Event(kind=kind, time_s=0.0))
    assert f"a registered one{hint}; got another name" in str(caught.value)
    assert caught.value.reason is RejectReason.UNKNOWN_KIND


def test_taxonomy_standard_takes_every_standard_kind_and_no_other() -> None:
    """Its properties are free: features read what they know."""
    for kind in EventKind:
        item = "a" if kind in ITEM_KINDS else None
        STANDARD.check(Event(kind=kind, time_s=0.0, item_id=item, properties={"query": 5}))
    assert STANDARD.kinds() == tuple(EventKind)
    with pytest.raises(EventError):
        STANDARD.check(Event(kind="tasting_booked", time_s=0.0))


def test_taxonomy_documents_the_standard_properties_once_for_people_and_once_for_machines() -> None:
    """The table of the docstring and the schema name the same properties."""
    document = taxonomy_module.__doc__ or ""
    assert all(f"``{name}``" in document for name in STANDARD_PROPERTIES)
    schema = STANDARD.json_schema()["properties"]["properties"]["properties"]
    assert schema.keys() == STANDARD_PROPERTIES.keys()


# --- registering, from code and from a file ------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"type": "date"}, "type"),
        ({"type": []}, "type"),
        ({"required": 1}, "required"),
        ({"minimum": "1"}, "minimum"),
        ({"minimum": math.nan}, "minimum"),
        ({"maximum": True}, "maximum"),
        ({"minimum": 2, "maximum": 1}, "minimum"),
        ({"max_chars": 5}, "max_chars"),
        ({"type": "text", "max_chars": 257}, "max_chars"),
        ({"type": "text", "minimum": 1}, "minimum"),
        ({"type": "boolean", "one_of": (True,)}, "one_of"),
        ({"one_of": "12"}, "one_of"),
        ({"one_of": ("12",)}, "one_of"),
        ({"maximum": 5, "one_of": (1, 6)}, "one_of"),
        ({"one_of": (math.nan,)}, "one_of"),
    ],
)
def test_property_rule_that_contradicts_itself_is_refused(
    changes: dict[str, Any], name: str
) -> None:
    """A rule that exists can be kept."""
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        PropertyRule(**{"type": "number", **changes})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"name": "Tasting"}, "name"),
        ({"name": "purchase"}, "name"),
        ({"name": "x\n"}, "name"),
        ({"name": None}, "name"),
        ({"meaning": ""}, "meaning"),
        ({"item": "maybe"}, "item"),
        ({"item": []}, "item"),
        ({"properties": []}, "properties"),
        ({"properties": {"": PropertyRule(type="text")}}, "properties"),
        ({"properties": {"a": "text"}}, "properties.a"),
        ({"properties": {str(n): PropertyRule(type="text") for n in range(33)}}, "properties"),
        ({"other_properties": "no"}, "other_properties"),
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": True}, "retention_days"),
    ],
)
def test_custom_kind_with_a_wrong_field_is_refused(changes: dict[str, Any], name: str) -> None:
    """A kind that exists can be registered."""
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        CustomKind(**{"name": "tasting", "meaning": "You tasted.", **changes})


def test_taxonomy_kind_registered_twice_is_refused() -> None:
    """One name, one meaning."""
    with pytest.raises(ValueError, match="'bare' twice"):
        Taxonomy([BARE, BARE])


TOML = """
[kinds.tasting_booked]
meaning = "You booked a tasting."
item = "required"
retention_days = 30
[kinds.tasting_booked.properties.seats]
type = "integer"
required = true
minimum = 1
maximum = 12
[kinds.tasting_booked.properties.colour]
type = "text"
one_of = ["red", "white"]
"""


def test_taxonomy_file_says_the_same_as_code(tmp_path: Path) -> None:
    """A file and its text give the same kinds."""
    file = tmp_path / "kinds.toml"
    file.write_text(TOML, encoding="utf-8")
    expected = CustomKind(
        name="tasting_booked",
        meaning="You booked a tasting.",
        item="required",
        retention_days=30,
        properties={
            "seats": PropertyRule(type="integer", required=True, minimum=1, maximum=12),
            "colour": PropertyRule(type="text", one_of=("red", "white")),
        },
    )
    for source in (file, TOML):
        assert dict(Taxonomy.from_toml(source).custom) == {"tasting_booked": expected}
    assert not Taxonomy.from_toml("").custom


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kinds]\na = = 1", r"at line 2, column 5"),
        ("[kind.a]", r"kind: expected 'kinds' only; got another key"),
        ("kinds = 1", r"kinds: expected a table; got int"),
        ("[kinds]\na = 1", r"kinds\.a: expected a table; got int"),
        ("[kinds.a]", r"kinds\.a\.meaning: expected a value; got none"),
        ("[kinds.A]\nmeaning='m'", r"kinds\.A\.name: expected a small letter"),
        ("[kinds.a]\nmeaning='m'\nname='b'", r"kinds\.a\.name: expected one of \['item'"),
        ("[kinds.a]\nmeaning='m'\nitems='none'", r"kinds\.a\.items: expected one of \['item'"),
        (
            "[kinds.a]\nmeaning='m'\nproperties=1",
            r"kinds\.a\.properties: expected a table; got int",
        ),
        (
            "[kinds.a]\nmeaning='m'\nproperties.b='text'",
            r"kinds\.a\.properties\.b: expected a table; got str",
        ),
        (
            "[kinds.a]\nmeaning='m'\nproperties.b={}",
            r"kinds\.a\.properties\.b\.type: expected a value; got none",
        ),
        (
            "[kinds.a]\nmeaning='m'\nproperties.b={type='text', min=1}",
            r"kinds\.a\.properties\.b\.min: expected one of \['max_chars'",
        ),
    ],
)
def test_taxonomy_file_with_a_mistake_is_refused_by_file_and_key(
    text: str, message: str, tmp_path: Path
) -> None:
    """The file, the line where there is one, the key, and what was expected."""
    file = tmp_path / "kinds.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"kinds\.toml: .*{message}"):
        Taxonomy.from_toml(file)


def test_taxonomy_file_that_is_no_text_is_refused_by_file(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are a mistake in the file."""
    (tmp_path / "kinds.toml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"kinds\.toml: .*decode"):
        Taxonomy.from_toml(tmp_path / "kinds.toml")
