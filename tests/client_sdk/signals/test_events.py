"""Events: what is accepted, what is refused, and that an error never repeats what came."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import Event, EventKind
from client_sdk.signals.events import ITEM_KINDS

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=32)
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(EventKind),
    time_s=st.floats(0, 4e9),
    item_id=TEXT,
    quantity=st.none() | st.floats(0.5, 100),
    price=st.none() | st.floats(0, 1e5),
    user_id=TEXT,
    device=st.just("") | TEXT,
    properties=st.dictionaries(
        TEXT, TEXT | st.integers(-100, 100) | st.booleans() | st.none(), max_size=4
    ),
)


@given(event=EVENTS)
def test_event_written_and_read_is_the_same(event: Event) -> None:
    """The JSON form is the inverse of reading it."""
    assert Event.from_json(event.to_json()) == event


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
    ("changes", "field"),
    [
        ({"event": "secret-kind"}, "kind"),
        ({"event": None}, "event"),
        ({"event": ["purchase"]}, "kind"),
        ({"product_id": None}, "item_id"),
        ({"product_id": ""}, "item_id"),
        ({"product_id": "secret" * 40}, "item_id"),
        ({"product_id": 12}, "item_id"),
        ({"product_id": "secret\ud800"}, "item_id"),
        ({"timestamp": None}, "timestamp"),
        ({"timestamp": "secret yesterday"}, "timestamp"),
        ({"timestamp": "2026-01-01T00:00:00"}, "timestamp"),
        ({"timestamp": -1}, "time_s"),
        ({"timestamp": 1.7e12}, "time_s"),
        ({"timestamp": float("nan")}, "time_s"),
        ({"timestamp": 10**400}, "time_s"),
        ({"timestamp": True}, "time_s"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": "secret"}, "quantity"),
        ({"price": -1}, "price"),
        ({"price": float("inf")}, "price"),
        ({"event_id": ""}, "event_id"),
        ({"user_id": 5}, "user_id"),
        ({"properties": ["secret"]}, "properties"),
        ({"properties": {"secret": []}}, "properties"),
        ({"properties": {"a": "secret" * 50}}, "properties"),
        ({"properties": {"a": 1e300}}, "properties"),
        ({"properties": {str(n): n for n in range(33)}}, "properties"),
        ({"secret": 1}, "event"),
    ],
)
def test_event_with_a_wrong_field_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    """The error names the field and what was expected, and never repeats a person's data."""
    with pytest.raises(ValueError, match=rf"^{field}: .*expected .*; got ") as caught:
        Event.from_json({**GOOD, **changes})
    assert "secret" not in str(caught.value)


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
