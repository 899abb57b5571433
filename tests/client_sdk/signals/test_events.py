"""Events: what is accepted, what is refused, and that an error never repeats what came."""

import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from client_sdk import Event, EventKind
from client_sdk.signals.events import ITEM_KINDS, EventError, RejectReason

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=32)
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(EventKind) | st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True),
    time_s=st.floats(0, 4e9),
    item_id=TEXT,
    quantity=st.none() | st.floats(0.5, 100),
    price=st.none() | st.floats(0, 1e5),
    user_id=st.just("") | TEXT,
    device=st.just("") | TEXT,
    properties=st.dictionaries(
        TEXT, TEXT | st.integers(-100, 100) | st.booleans() | st.none(), max_size=4
    ),
)


@given(event=EVENTS)
def test_event_written_and_read_is_the_same(event: Event) -> None:
    """The JSON form is the inverse of reading it."""
    assert Event.from_json(event.to_json()) == event


@given(event=EVENTS)
def test_event_row_written_and_read_is_the_same(event: Event) -> None:
    """A row is the shortest form, and loses nothing on its way through JSON."""
    row = event.to_row()
    assert row[-1] is not None
    again = Event.from_row(json.loads(json.dumps(row)))
    assert again == event
    assert type(again.kind) is type(event.kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=11) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=20,
)


@given(row=st.lists(JSON, max_size=11) | JSON)
@example(row=["screen", 1.0, "e", None, None, None, None, None, None, None])
@example(row=[["screen"], 1.0, "e"])
@example(row=["screen", 1, "e"])
@example(row=["screen", True, "e"])
def test_event_row_of_another_shape_is_refused(row: Any) -> None:
    """What a row cannot be is an `EventError`, whatever JSON holds; the rest is an event."""
    try:
        event = Event.from_row(row)
    except EventError as error:
        assert error.reason == RejectReason.SCHEMA  # noqa: PT017 - both outcomes are right
    else:
        assert isinstance(event.kind, str)
        assert isinstance(event.time_s, float)
        assert isinstance(event.properties, dict)


def test_event_row_is_trusted_in_what_it_holds() -> None:
    """Its origin is proven, so it costs a third of a check: an old limit does not lose an event."""
    assert Event.from_row(["purchase", -1.0, "x" * 500]).time_s == -1.0


def test_event_replaced_field_is_checked_again() -> None:
    """`dataclasses.replace` keeps the rest, the id too, and refuses what is not allowed."""
    event = Event(kind="screen", time_s=1.0, user_id="someone", properties={"topic": "home"})
    hashed = dataclasses.replace(event, user_id="account:12")
    assert (hashed.user_id, hashed.event_id) == ("account:12", event.event_id)
    assert hashed.properties == event.properties
    with pytest.raises(EventError):
        dataclasses.replace(event, time_s=-1.0)


def test_event_cannot_be_changed_from_outside() -> None:
    """What was checked stays as it was: fields are frozen, properties are a copy."""
    properties: dict[str, Any] = {"topic": "home"}
    event = Event(kind="screen", time_s=1.0, properties=properties)
    properties["topic"] = []
    assert event.properties == {"topic": "home"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.time_s = 2.0  # type: ignore[misc]


def test_event_and_its_error_survive_pickling() -> None:
    """Both travel between processes."""
    event = Event(kind="screen", time_s=1.0)
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - our own bytes
    error = pickle.loads(pickle.dumps(EventError("price", RejectReason.EMPTY, "why")))  # noqa: S301
    assert (error.field, error.reason, str(error)) == ("price", "empty", "price: why")


def test_event_common_json_form_is_accepted() -> None:
    """The form that tracking plans use is taken as it is."""
    event = Event.from_json(
        {
            "user_id": "u-1",
            "event": "product_view",
            "product_id": "SKU-987",
            "timestamp": "2026-01-01T01:00:00+01:00",
            "device": "mobile",
        }
    )
    assert (event.kind, event.item_id, event.time_s) == (
        EventKind.PRODUCT_VIEW,
        "SKU-987",
        1767225600.0,
    )
    assert (event.user_id, event.device) == ("u-1", "mobile")


GOOD: dict[str, Any] = {"event": "purchase", "product_id": "a", "timestamp": 1.0}


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"event": "secret-kind"}, "kind", RejectReason.UNKNOWN_KIND),
        ({"event": "Secret"}, "kind", RejectReason.UNKNOWN_KIND),
        ({"event": "s" * 65}, "kind", RejectReason.UNKNOWN_KIND),
        ({"event": "secret\n"}, "kind", RejectReason.UNKNOWN_KIND),
        ({"event": None}, "event", RejectReason.MISSING),
        ({"event": ["purchase"]}, "kind", RejectReason.UNKNOWN_KIND),
        ({"product_id": None}, "item_id", RejectReason.MISSING),
        ({"product_id": ""}, "item_id", RejectReason.EMPTY),
        ({"product_id": "secret" * 40}, "item_id", RejectReason.TOO_LONG),
        ({"product_id": 12}, "item_id", RejectReason.WRONG_TYPE),
        ({"product_id": "secret\ud800"}, "item_id", RejectReason.BAD_TEXT),
        ({"timestamp": None}, "timestamp", RejectReason.MISSING),
        ({"timestamp": "secret yesterday"}, "timestamp", RejectReason.BAD_TIME),
        ({"timestamp": "2026-01-01T00:00:00"}, "timestamp", RejectReason.BAD_TIME),
        ({"timestamp": "2026-02-30T00:00:00Z"}, "timestamp", RejectReason.BAD_TIME),
        ({"timestamp": "2026-01-01T00:00:00Z\n"}, "timestamp", RejectReason.BAD_TIME),
        ({"timestamp": "1970-01-01T00:00:00+01:00"}, "time_s", RejectReason.OUT_OF_RANGE),
        ({"timestamp": -1}, "time_s", RejectReason.OUT_OF_RANGE),
        ({"timestamp": 1.7e12}, "time_s", RejectReason.OUT_OF_RANGE),
        ({"timestamp": float("nan")}, "time_s", RejectReason.OUT_OF_RANGE),
        ({"timestamp": 10**400}, "time_s", RejectReason.OUT_OF_RANGE),
        ({"timestamp": True}, "time_s", RejectReason.WRONG_TYPE),
        ({"quantity": 0}, "quantity", RejectReason.OUT_OF_RANGE),
        ({"quantity": "secret"}, "quantity", RejectReason.WRONG_TYPE),
        ({"price": -1}, "price", RejectReason.OUT_OF_RANGE),
        ({"price": float("inf")}, "price", RejectReason.OUT_OF_RANGE),
        ({"event_id": ""}, "event_id", RejectReason.EMPTY),
        ({"user_id": 5}, "user_id", RejectReason.WRONG_TYPE),
        ({"properties": ["secret"]}, "properties", RejectReason.WRONG_TYPE),
        ({"properties": {"secret": []}}, "properties", RejectReason.WRONG_TYPE),
        ({"properties": {"a": "secret" * 50}}, "properties", RejectReason.TOO_LONG),
        ({"properties": {"a": 1e300}}, "properties", RejectReason.OUT_OF_RANGE),
        ({"properties": {str(n): n for n in range(33)}}, "properties", RejectReason.TOO_LARGE),
        ({"secret": 1}, "event", RejectReason.UNKNOWN_FIELD),
    ],
)
def test_event_with_a_wrong_field_is_refused_by_name(
    changes: dict[str, Any], field: str, reason: RejectReason
) -> None:
    """The error names the field and what was expected, and never repeats a person's data."""
    with pytest.raises(EventError, match=rf"^{field}: .*expected .*; got ") as caught:
        Event.from_json({**GOOD, **changes})
    assert "secret" not in str(caught.value).lower()
    assert caught.value.field.startswith(field)
    assert caught.value.reason is reason


@pytest.mark.parametrize("value", [None, [], "text"])
def test_event_not_an_object_is_refused(value: Any) -> None:
    """Anything but an object is refused with the same kind of error."""
    with pytest.raises(ValueError, match="JSON object"):
        Event.from_json(value)


def test_event_kinds_about_an_item_need_one() -> None:
    """A purchase of nothing says nothing; a screen needs no item."""
    for kind in EventKind:
        if kind in ITEM_KINDS:
            with pytest.raises(ValueError, match="item_id"):
                Event(kind=kind, time_s=0.0)
        else:
            assert Event(kind=kind, time_s=0.0).item_id is None


def test_event_without_an_id_gets_its_own() -> None:
    """Only the app can say that two events are one."""
    first, second = (Event(kind="screen", time_s=0.0) for _ in range(2))
    assert first.event_id != second.event_id


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T01:00+01:00",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00.000000000Z",
        "2025-12-31T19:00:00-0500",
    ],
)
def test_event_moment_as_text_is_read_in_each_stated_form(text: str) -> None:
    """The seconds and the offset's colon may be left out; a blank may stand for the T."""
    assert Event.from_json({**GOOD, "timestamp": text}).time_s == 1767225600.0
