"""Segment's calls: every name of the table, ids, times, and nonsense."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.adapters import Converted, SkipReason, segment
from client_sdk.signals.events import MAX_ID_CHARS, Event, EventError, EventKind

TIME = "2026-01-01T00:00:00.000Z"
PRODUCT = {"product_id": "507f", "sku": "G-32", "price": 18.99, "quantity": 2}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def track(name: str, **facts: Any) -> dict[str, Any]:
    """One track call."""
    return {
        "type": "track",
        "event": name,
        "messageId": "m-1",
        "userId": "u-1",
        "timestamp": TIME,
        "context": {"device": {"type": "ios"}},
        "properties": facts,
    }


def one(converted: Converted) -> Event:
    """The only event, which our reader takes."""
    assert not converted.skipped
    (value,) = converted.events
    return Event.from_json(value)


@pytest.mark.parametrize(
    ("name", "kind", "facts", "properties"),
    [
        ("Product Viewed", EventKind.PRODUCT_VIEW, PRODUCT, {}),
        ("Viewed Product", EventKind.PRODUCT_VIEW, PRODUCT, {}),
        ("Product Added", EventKind.CART, PRODUCT, {}),
        ("Wishlist Product Added to Cart", EventKind.CART, PRODUCT, {}),
        ("Products Searched", EventKind.SEARCH, {"query": " blue roses "}, {"query": "blue roses"}),
        ("Products Searched", EventKind.SEARCH, {"query": {"an": "object"}}, {}),
        ("Products Searched", EventKind.SEARCH, {"query": "x" * 300}, {"query": "x" * 256}),
        ("Checkout Started", EventKind.CHECKOUT_STEP, {}, {"step": "start"}),
        ("Checkout Step Viewed", EventKind.CHECKOUT_STEP, {"step": 2}, {"step": 2}),
        (
            "Checkout Step Completed",
            EventKind.CHECKOUT_STEP,
            {"step": 2},
            {"step": 2, "completed": True},
        ),
        (
            "Payment Info Entered",
            EventKind.CHECKOUT_STEP,
            {},
            {"step": "payment", "completed": True},
        ),
        ("Promotion Viewed", EventKind.MESSAGE_SHOWN, {}, {"channel": "in-app", "offer": True}),
        ("Promotion Clicked", EventKind.MESSAGE_OPENED, {}, {"channel": "in-app"}),
        ("Push Notification Received", EventKind.MESSAGE_SHOWN, {}, {"channel": "push"}),
        ("Push Notification Tapped", EventKind.MESSAGE_OPENED, {}, {"channel": "push"}),
        ("Email Opened", EventKind.MESSAGE_OPENED, {}, {"channel": "email"}),
        ("Live Chat Conversation Started", EventKind.SUPPORT, {}, {}),
    ],
)
def test_segment_track_call_becomes_its_kind(
    name: str, kind: EventKind, facts: dict[str, Any], properties: dict[str, Any]
) -> None:
    """Every field that we have is read: the person, the device, the time, the item, the facts."""
    event = one(segment.events_from(track(name, **facts)))
    assert (event.kind, dict(event.properties)) == (kind, properties)
    assert (event.event_id, event.user_id, event.device) == ("m-1", "u-1", "ios")
    assert event.time_s == 1767225600.0
    if facts is PRODUCT:
        assert (event.item_id, event.price, event.quantity) == ("507f", 18.99, 2.0)


@pytest.mark.parametrize(
    ("name", "kind"), [("Order Completed", "purchase"), ("Order Refunded", "return")]
)
def test_segment_order_becomes_one_event_a_product(name: str, kind: str) -> None:
    """The order's discount is shared; a product's own stands; one without an id is left out."""
    products = [PRODUCT, {"sku": "B", "discount": 1}, {"name": "no id"}, {"product_id": 7}]
    done = segment.events_from(track(name, order_id="o", discount=8, products=products))
    events = [Event.from_json(value) for value in done.events]
    assert [(event.kind, event.item_id, event.event_id) for event in events] == [
        (kind, "507f", "m-1#0"),
        (kind, "B", "m-1#1"),
        (kind, "7", "m-1#3"),
    ]
    assert [event.properties["discount"] for event in events] == [2.0, 1, 2.0]
    assert [(skip.reason, skip.position) for skip in done.skipped] == [(SkipReason.NO_ITEM, 0)]


@pytest.mark.parametrize(
    ("call", "kind", "topic"),
    [
        ({"type": "page", "name": "Return Policy"}, "content_view", "return-policy"),
        (
            {"type": "page", "properties": {"path": "/help/return-policy/", "title": "Help"}},
            "content_view",
            "return-policy",
        ),
        (
            {"type": "page", "properties": {"title": "Welcome | Shop"}},
            "content_view",
            "welcome-shop",
        ),
        ({"type": "screen", "name": "Home"}, "screen", "home"),
    ],
)
def test_segment_page_and_screen_name_their_topic(
    call: dict[str, Any], kind: str, topic: str
) -> None:
    """The name counts, else the end of the path, else the title."""
    event = one(segment.events_from({**call, "messageId": "m", "timestamp": TIME}))
    assert (event.kind, event.properties["topic"]) == (kind, topic)


@pytest.mark.parametrize(
    ("call", "reason", "what"),
    [
        ({"type": "identify"}, SkipReason.NO_KIND, "identify"),
        ({"type": "delete-secret"}, SkipReason.UNKNOWN_NAME, "a type of call"),
        ({}, SkipReason.UNKNOWN_NAME, "a type of call"),
        (
            track("Product List Viewed", products=[PRODUCT]),
            SkipReason.NO_KIND,
            "Product List Viewed",
        ),
        (track("secret"), SkipReason.UNKNOWN_NAME, "the name of a track call"),
        ({"type": "track", "event": 5}, SkipReason.MALFORMED, "event: int"),
        (track("Product Viewed"), SkipReason.NO_ITEM, "Product Viewed"),
        (track("Order Completed", products=[]), SkipReason.NO_ITEM, "Order Completed"),
        (
            {**track("Products Searched"), "timestamp": None},
            SkipReason.NO_TIME,
            "Products Searched",
        ),
    ],
)
def test_segment_call_without_a_kind_is_skipped_with_the_reason(
    call: dict[str, Any], reason: SkipReason, what: str
) -> None:
    """Nothing is guessed, and what is told repeats nothing that is not in the specification."""
    done = segment.events_from({"batch": [call]})
    assert not done.events
    assert [(skip.reason, skip.what) for skip in done.skipped] == [(reason, what)]


def test_segment_time_falls_back_in_the_stated_order() -> None:
    """The corrected time, the device's, the server's, and last when the payload came."""
    call = track("Products Searched")
    call |= {"originalTimestamp": "2026-01-02T00:00:00Z", "receivedAt": "2026-01-03T00:00:00Z"}
    found = []
    for name in ("timestamp", "originalTimestamp", "receivedAt"):
        found.append(segment.events_from(call, received_s=5.0).events[0]["timestamp"])
        del call[name]
    assert found == [TIME, "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]
    assert segment.events_from(call, received_s=5.0).events[0]["timestamp"] == 5.0


def test_segment_batch_read_twice_gives_the_same_different_ids() -> None:
    """Calls without an id get one of what they hold; two equal calls stay two."""
    call = {key: value for key, value in track("Products Searched").items() if key != "messageId"}
    other = {**call, "timestamp": "2026-01-01T00:00:01Z"}
    long_id = {**call, "messageId": "x" * 128}
    batch = {"batch": [call, call, other, long_id], "context": {"device": {"type": "web"}}}
    first, second = (segment.events_from(batch) for _ in range(2))
    assert first == second
    assert len({event["event_id"] for event in first.events}) == 4
    assert segment.events_from(call).events[0]["event_id"] == first.events[0]["event_id"]


def test_segment_call_without_id_and_time_is_another_one_when_it_comes_later() -> None:
    """The time is part of what happened, wherever it comes from."""
    call = {"type": "track", "event": "Products Searched"}
    early, late = (segment.events_from(call, received_s=time) for time in (1.0, 2.0))
    assert early.events[0]["event_id"] != late.events[0]["event_id"]


def test_segment_ids_of_an_order_stay_within_our_limit() -> None:
    """A long id leaves no room for the place of a product, so it is hashed."""
    call = {**track("Order Completed", products=[PRODUCT] * 2), "messageId": "x" * MAX_ID_CHARS}
    assert [len(value["event_id"]) for value in segment.events_from(call).events] == [34, 34]


def test_segment_call_that_is_no_json_is_skipped() -> None:
    """Without an id of its own it has to be hashed, and it can't be."""
    call = {"type": "page", "timestamp": TIME, "properties": {"title": object()}}
    (skipped,) = segment.events_from(call).skipped
    assert (skipped.reason, skipped.what) == (SkipReason.MALFORMED, "not JSON")


def test_segment_batch_shares_its_context() -> None:
    """The device may be said once for the whole batch."""
    call = {**track("Products Searched"), "context": None}
    batch = {"batch": [call], "context": {"device": {"type": "web"}}}
    assert one(segment.events_from(batch)).device == "web"


@pytest.mark.parametrize("payload", [None, [], "text", {"batch": {}}, {"batch": None}])
def test_segment_payload_of_another_shape_is_refused(payload: Any) -> None:
    """What is no call and no batch is the caller's mistake."""
    with pytest.raises(EventError, match="expected a"):
        segment.events_from(payload)


@given(
    call=st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["track", "page", "screen", "identify"]) | JSON,
            "event": st.sampled_from(["Order Completed", "Checkout Step Viewed"]) | JSON,
            "messageId": st.text(max_size=140) | JSON,
            "timestamp": st.just(TIME) | JSON,
            "userId": JSON,
            "context": st.fixed_dictionaries({"device": JSON}) | JSON,
            "name": JSON,
            "properties": st.fixed_dictionaries(
                {},
                optional={
                    "products": st.lists(
                        st.fixed_dictionaries({"product_id": JSON, "price": JSON}) | JSON
                    ),
                    "discount": JSON | st.just(10**400) | st.just("9" * 5000),
                    "step": JSON,
                    "path": JSON,
                },
            )
            | JSON,
        },
    )
    | JSON
)
def test_segment_arbitrary_json_never_raises_anything_else(call: Any) -> None:
    """Whatever comes is taken or refused by our reader, or told; twice the same."""
    first = segment.events_from({"batch": [call]}, received_s=1.0)
    second = segment.events_from({"batch": [call]}, received_s=1.0)
    assert repr(first) == repr(second)
    ids = [value["event_id"] for value in first.events]
    assert len(set(ids)) == len(ids)
    for value in first.events:
        try:
            event = Event.from_json(value)
        except EventError:
            continue
        assert Event.from_json(json.loads(json.dumps(event.to_json()))) == event
