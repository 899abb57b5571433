"""Google Analytics 4: every name of the table in both forms, ids, times, and nonsense."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.adapters import SkipReason, ga4
from client_sdk.signals.events import Event, EventError, EventKind

MICROS = 1_767_225_600_250_000
ITEM = {"item_id": "SKU_1", "price": 10.5, "quantity": 3, "discount": 2.22}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def payload(name: str, **params: Any) -> dict[str, Any]:
    """One event of the Measurement Protocol."""
    return {
        "client_id": "c-1",
        "timestamp_micros": MICROS,
        "device": {"category": "mobile"},
        "events": [{"name": name, "params": params}],
    }


def row(name: str, **params: Any) -> dict[str, Any]:
    """One row of the export, as JSON of BigQuery has it: whole numbers are text."""
    cells = [
        {
            "key": key,
            "value": {
                "string_value": value if isinstance(value, str) else None,
                "int_value": str(value) if isinstance(value, int) else None,
            },
        }
        for key, value in params.items()
        if key != "items"
    ]
    return {
        "event_name": name,
        "event_timestamp": str(MICROS),
        "user_pseudo_id": "c-1",
        "device": {"category": "mobile", "language": "de"},
        "event_params": cells,
        "items": params.get("items", []),
    }


@pytest.mark.parametrize("form", [payload, row])
@pytest.mark.parametrize(
    ("name", "kind", "params", "properties"),
    [
        ("begin_checkout", EventKind.CHECKOUT_STEP, {}, {"step": "start"}),
        (
            "add_shipping_info",
            EventKind.CHECKOUT_STEP,
            {"items": [ITEM]},
            {"step": "shipping", "completed": True},
        ),
        ("add_payment_info", EventKind.CHECKOUT_STEP, {}, {"step": "payment", "completed": True}),
        ("search", EventKind.SEARCH, {"search_term": "tea"}, {"query": "tea"}),
        ("view_search_results", EventKind.SEARCH, {"search_term": "tea"}, {"query": "tea"}),
        (
            "page_view",
            EventKind.CONTENT_VIEW,
            {"page_location": f"https://shop.example/{'a' * 300}/return-policy?x=1"},
            {"topic": "return-policy"},
        ),
        ("page_view", EventKind.CONTENT_VIEW, {"page_title": "About us"}, {"topic": "about-us"}),
        ("page_view", EventKind.CONTENT_VIEW, {"page_location": "http://[x/y"}, {}),
        ("screen_view", EventKind.SCREEN, {"firebase_screen": "Home"}, {"topic": "home"}),
        (
            "view_promotion",
            EventKind.MESSAGE_SHOWN,
            {"promotion_id": "p", "ga_session_id": 17},
            {"channel": "in-app", "offer": True, "session": "17"},
        ),
        ("select_promotion", EventKind.MESSAGE_OPENED, {}, {"channel": "in-app"}),
        ("notification_receive", EventKind.MESSAGE_SHOWN, {}, {"channel": "push"}),
        ("notification_open", EventKind.MESSAGE_OPENED, {}, {"channel": "push"}),
        ("notification_dismiss", EventKind.MESSAGE_DISMISSED, {}, {"channel": "push"}),
    ],
)
def test_ga4_event_becomes_its_kind(
    form: Any, name: str, kind: EventKind, params: dict[str, Any], properties: dict[str, Any]
) -> None:
    """The protocol's payload and the export's row say the same."""
    done = ga4.events_from(form(name, **params))
    assert not done.skipped
    (value,) = done.events
    event = Event.from_json(value)
    assert (event.kind, dict(event.properties)) == (kind, properties)
    assert (event.user_id, event.device, event.time_s) == ("c-1", "mobile", 1767225600.25)


@pytest.mark.parametrize("form", [payload, row])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("view_item", "product_view"),
        ("add_to_cart", "cart"),
        ("purchase", "purchase"),
        ("refund", "return"),
    ],
)
def test_ga4_event_about_items_becomes_one_each(form: Any, name: str, kind: str) -> None:
    """An item without an id is left out; the export's numbers may be text."""
    discounted = {"key": "discount", "value": {"double_value": 1.5}}
    items = [
        ITEM,
        {"item_id": "(not set)"},
        {"item_id": "B", "quantity": "2", "price": "4.5", "item_params": [discounted]},
    ]
    done = ga4.events_from(form(name, items=items, ga_session_id=17))
    events = [Event.from_json(value) for value in done.events]
    assert [(event.kind, event.item_id, event.price, event.quantity) for event in events] == [
        (kind, "SKU_1", 10.5, 3.0),
        (kind, "B", 4.5, 2.0),
    ]
    assert [dict(event.properties) for event in events] == [
        {"discount": 2.22, "session": "17"},
        {"discount": 1.5, "session": "17"},
    ]
    assert [event.event_id[-2:] for event in events] == ["#0", "#2"]
    assert [skip.reason for skip in done.skipped] == [SkipReason.NO_ITEM]


@pytest.mark.parametrize(
    ("event", "reason", "what"),
    [
        ({"name": "scroll"}, SkipReason.NO_KIND, "scroll"),
        ({"name": "secret"}, SkipReason.UNKNOWN_NAME, "the name of an event"),
        ({"name": None}, SkipReason.MALFORMED, "name: NoneType"),
        ("secret", SkipReason.MALFORMED, "an event: str"),
        ({"name": "purchase", "params": {"value": 3}}, SkipReason.NO_ITEM, "purchase"),
        ({"name": "search"}, SkipReason.NO_TIME, "search"),
        ({"name": "search", "timestamp_micros": "soon"}, SkipReason.MALFORMED, "timestamp_micros"),
    ],
)
def test_ga4_event_without_a_kind_is_skipped_with_the_reason(
    event: Any, reason: SkipReason, what: str
) -> None:
    """Nothing is guessed, and what is told repeats nothing that is not in the specification."""
    timed = {} if what == "search" else {"timestamp_micros": MICROS}
    done = ga4.events_from({"client_id": "c", **timed, "events": [event]})
    assert not done.events
    assert [(skip.reason, skip.what) for skip in done.skipped] == [(reason, what)]


def test_ga4_time_is_the_events_own_then_the_payloads_then_the_callers() -> None:
    """The nearest time counts."""
    event = {"name": "search", "timestamp_micros": 2_000_000}
    given = {"client_id": "c", "timestamp_micros": 3_000_000, "events": [event]}
    assert ga4.events_from(given, received_s=9.0).events[0]["timestamp"] == 2.0
    del event["timestamp_micros"]
    assert ga4.events_from(given, received_s=9.0).events[0]["timestamp"] == 3.0
    del given["timestamp_micros"]
    assert ga4.events_from(given, received_s=9.0).events[0]["timestamp"] == 9.0


def test_ga4_payload_read_twice_gives_the_same_ids() -> None:
    """What happened twice in one payload stays two; another time or person is another event."""
    twice = payload("search", search_term="tea")
    twice["events"] *= 2
    assert ga4.events_from(twice) == ga4.events_from(twice)
    changed = [twice, {**twice, "timestamp_micros": MICROS + 1}, {**twice, "client_id": "c-2"}]
    ids = [event["event_id"] for given in changed for event in ga4.events_from(given).events]
    assert len(set(ids)) == 6


@pytest.mark.parametrize("given", [None, [], {}, {"events": {}}, {"client_id": "c"}])
def test_ga4_payload_of_another_shape_is_refused(given: Any) -> None:
    """What is neither of the two forms is the caller's mistake."""
    with pytest.raises(EventError, match="expected"):
        ga4.events_from(given)


NAMES = st.sampled_from(["purchase", "search", "page_view", "screen_view", "scroll"]) | JSON
ITEMS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"item_id": JSON, "price": JSON, "item_params": JSON, "discount": JSON}
    )
    | JSON
)
PARAMS = st.fixed_dictionaries(
    {},
    optional={"items": ITEMS, "search_term": JSON, "page_location": st.text(), "session_id": JSON},
)
TIMES = st.integers() | st.just(10**400) | st.just("9" * 5000) | JSON


@given(
    given_=st.fixed_dictionaries(
        {
            "events": st.lists(
                st.fixed_dictionaries(
                    {"name": NAMES}, optional={"params": PARAMS | JSON, "timestamp_micros": TIMES}
                )
                | JSON
            )
        },
        optional={"client_id": JSON, "user_id": JSON, "device": JSON, "timestamp_micros": TIMES},
    )
    | st.fixed_dictionaries(
        {"event_name": NAMES},
        optional={"event_timestamp": TIMES, "event_params": JSON, "items": ITEMS | JSON},
    )
)
def test_ga4_arbitrary_json_never_raises_anything_else(given_: Any) -> None:
    """Whatever comes is taken or refused by our reader, or told; twice the same."""
    first = ga4.events_from(given_, received_s=1.0)
    assert repr(first) == repr(ga4.events_from(given_, received_s=1.0))
    ids = [value["event_id"] for value in first.events]
    assert len(set(ids)) == len(ids)
    for value in first.events:
        with suppress(EventError):
            assert Event.from_json(value).event_id == value["event_id"]
