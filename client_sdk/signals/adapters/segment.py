"""Segment: calls of its HTTP API, alone or in a batch, as our events.

Source: Segment, *Spec: Common Fields*, *Spec: V2 Ecommerce Events*, *Spec: Page*, *Spec: Screen*,
*Spec: Email Events*, *Spec: Live Chat* and *Native Mobile Spec*, as of 2024.

Rules a reader can check line by line:

1. ``track`` calls map by their name, exactly as the specification writes it, or as its first
   version did: see `_TRACKED`. ``page`` is ``content_view``, ``screen`` is ``screen``. The calls
   that say who somebody is (``identify``, ``group``, ``alias``) are left out, and so are the names
   in `_WITHOUT_KIND`: a product in a list is not yet looked at, a delivered e-mail not yet shown.
2. The item is ``product_id``, else ``sku``. An order, a refund and a view of several products give
   one event for each product, with ``#`` and its place behind the ``messageId``.
3. The time is ``timestamp``, else ``originalTimestamp``, else ``receivedAt``, else ``received_s``.
4. The person is ``userId``, else ``anonymousId``; the device is ``context.device.type``.
5. A product's ``discount`` is its own. Segment has it for the order as a whole: then each product
   of the order carries an equal share of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from client_sdk.signals.adapters.converted import (
    Converted,
    EventIds,
    Line,
    SkippedError,
    SkipReason,
    cut,
    event_json,
    expect_list,
    expect_payload,
    finite,
    first_text,
    id_text,
    mapping,
    plain_number,
    rows,
    slug,
)
from client_sdk.signals.events import ITEM_KINDS, EventKind

_TRACKED: Final[Mapping[str, EventKind]] = {
    "Products Searched": EventKind.SEARCH,
    "Product Viewed": EventKind.PRODUCT_VIEW,
    "Viewed Product": EventKind.PRODUCT_VIEW,
    "Product Added": EventKind.CART,
    "Added Product": EventKind.CART,
    "Wishlist Product Added to Cart": EventKind.CART,
    "Checkout Started": EventKind.CHECKOUT_STEP,
    "Started Order": EventKind.CHECKOUT_STEP,
    "Checkout Step Viewed": EventKind.CHECKOUT_STEP,
    "Viewed Checkout Step": EventKind.CHECKOUT_STEP,
    "Checkout Step Completed": EventKind.CHECKOUT_STEP,
    "Completed Checkout Step": EventKind.CHECKOUT_STEP,
    "Payment Info Entered": EventKind.CHECKOUT_STEP,
    "Order Completed": EventKind.PURCHASE,
    "Completed Order": EventKind.PURCHASE,
    "Order Refunded": EventKind.RETURN,
    "Promotion Viewed": EventKind.MESSAGE_SHOWN,
    "Viewed Promotion": EventKind.MESSAGE_SHOWN,
    "Promotion Clicked": EventKind.MESSAGE_OPENED,
    "Clicked Promotion": EventKind.MESSAGE_OPENED,
    "Push Notification Received": EventKind.MESSAGE_SHOWN,
    "Push Notification Tapped": EventKind.MESSAGE_OPENED,
    "Email Opened": EventKind.MESSAGE_OPENED,
    "Live Chat Conversation Started": EventKind.SUPPORT,
}
# The step, where the name of the call says it.
_STEP: Final = {
    "Checkout Started": "start",
    "Started Order": "start",
    "Payment Info Entered": "payment",
}
_COMPLETED: Final = frozenset(
    {"Checkout Step Completed", "Completed Checkout Step", "Payment Info Entered"}
)
_CHANNEL: Final = {"Promotion": "in-app", "Push": "push", "Email": "email"}
_WITHOUT_KIND: Final = frozenset(
    {
        "Product List Viewed",
        "Viewed Product Category",
        "Product List Filtered",
        "Product Clicked",
        "Clicked Product",
        "Product Removed",
        "Removed Product",
        "Cart Viewed",
        "Order Updated",
        "Updated Order",
        "Order Cancelled",
        "Coupon Entered",
        "Coupon Applied",
        "Coupon Denied",
        "Coupon Removed",
        "Product Added to Wishlist",
        "Product Removed from Wishlist",
        "Product Shared",
        "Cart Shared",
        "Product Reviewed",
        "Email Bounced",
        "Email Delivered",
        "Email Link Clicked",
        "Email Marked as Spam",
        "Unsubscribed",
        "Push Notification Bounced",
        "Application Installed",
        "Application Opened",
        "Application Backgrounded",
        "Application Foregrounded",
        "Application Updated",
        "Application Uninstalled",
        "Application Crashed",
        "Install Attributed",
        "Deep Link Opened",
        "Deep Link Clicked",
        "Live Chat Conversation Ended",
        "Live Chat Message Sent",
        "Live Chat Message Received",
    }
)
_ABOUT_WHO: Final = frozenset({"identify", "group", "alias"})


def events_from(payload: Mapping[str, Any], *, received_s: float | None = None) -> Converted:
    """Read one call, or a batch of them.

    Args:
        payload: A call, or ``{"batch": [call, ...]}``.
        received_s: When the payload came, seconds since 1970: the time of calls that carry none.

    Returns:
        One event or more for each call that has a kind of ours, and why the others have none.

    Raises:
        EventError: the payload is no object, or its batch is no list.

    >>> events_from({"type": "page", "messageId": "m", "timestamp": "2026-01-01T00:00:00Z",
    ...              "name": "Return Policy"}).events[0]["properties"]
    {'topic': 'return-policy'}
    """
    payload = expect_payload(payload)
    if "batch" in payload:
        calls, shared = expect_list("batch", payload["batch"]), mapping(payload.get("context"))
    else:
        calls, shared = [payload], {}
    converted, ids = Converted(), EventIds()
    for position, call in enumerate(calls):
        try:
            if not isinstance(call, Mapping):
                raise SkippedError(SkipReason.MALFORMED, f"a call: {type(call).__name__}")  # noqa: TRY301 - told like every other reason
            _convert(converted, ids, call, shared=shared, received_s=received_s, position=position)
        except SkippedError as skipped:
            converted.skip(skipped.reason, skipped.what, position)
    return converted


def _convert(
    converted: Converted,
    ids: EventIds,
    call: Mapping[str, Any],
    *,
    shared: Mapping[str, Any],
    received_s: float | None,
    position: int,
) -> None:
    kind, name = _kind(call)
    times = (call.get(key) for key in ("timestamp", "originalTimestamp", "receivedAt"))
    timestamp = next((time for time in times if time is not None), received_s)
    if timestamp is None:
        raise SkippedError(SkipReason.NO_TIME, name)
    context = mapping(call.get("context")) or shared
    common: dict[str, Any] = {
        "kind": str(kind),
        "timestamp": timestamp,
        "user_id": id_text(call.get("userId"), call.get("anonymousId")),
        "device": first_text(mapping(context.get("device")).get("type")),
    }
    facts = mapping(call.get("properties"))
    event_id = ids.give(call.get("messageId"), [timestamp, call])
    if kind not in ITEM_KINDS:
        properties = _properties(kind, name, call, facts)
        converted.events.append(event_json(event_id=event_id, **common, **properties))
        return
    several = "products" in facts
    lines = _lines(facts) if several else [_line(facts, None)]
    if not lines:
        raise SkippedError(SkipReason.NO_ITEM, name)
    for place, line in enumerate(lines):
        if line is None:
            converted.skip(SkipReason.NO_ITEM, name, position)
            continue
        line_id = f"{event_id}#{place}" if several else event_id
        converted.events.append(event_json(event_id=line_id, line=line, **common))


def _kind(call: Mapping[str, Any]) -> tuple[EventKind, str]:
    call_type = call.get("type")
    if call_type == "page":
        return EventKind.CONTENT_VIEW, "page"
    if call_type == "screen":
        return EventKind.SCREEN, "screen"
    if isinstance(call_type, str) and call_type in _ABOUT_WHO:
        raise SkippedError(SkipReason.NO_KIND, call_type)
    if call_type != "track":
        raise SkippedError(SkipReason.UNKNOWN_NAME, "a type of call")
    name = call.get("event")
    if not isinstance(name, str):
        raise SkippedError(SkipReason.MALFORMED, f"event: {type(name).__name__}")
    kind = _TRACKED.get(name)
    if kind is not None:
        return kind, name
    if name in _WITHOUT_KIND:
        raise SkippedError(SkipReason.NO_KIND, name)
    raise SkippedError(SkipReason.UNKNOWN_NAME, "the name of a track call")


def _properties(
    kind: EventKind, name: str, call: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    if kind is EventKind.SEARCH:
        return {"query": cut(first_text(facts.get("query")))}
    if kind is EventKind.CHECKOUT_STEP:
        step = facts.get("step")
        known = step if isinstance(step, str | int | float) else None
        return {
            "step": _STEP.get(name) if known is None else known,
            "completed": True if name in _COMPLETED else None,
        }
    if kind in (EventKind.CONTENT_VIEW, EventKind.SCREEN):
        title = first_text(call.get("name"), facts.get("name"))
        path = first_text(facts.get("path")).rstrip("/").rpartition("/")[2]
        return {"topic": slug(title or path or first_text(facts.get("title")))}
    channel = next((word for key, word in _CHANNEL.items() if key in name), None)
    offer = True if channel == "in-app" and kind is EventKind.MESSAGE_SHOWN else None
    return {"channel": channel, "offer": offer}


def _lines(facts: Mapping[str, Any]) -> list[Line | None]:
    products = list(rows(facts["products"]))
    whole = finite(facts.get("discount"))
    share = None if whole is None else whole / max(len(products), 1)
    return [_line(product, share) for product in products]


def _line(product: Mapping[str, Any], share: float | None) -> Line | None:
    item_id = id_text(product.get("product_id"), product.get("sku"))
    if item_id is None:
        return None
    own = product.get("discount")
    return Line(
        item_id=item_id,
        price=plain_number(product.get("price")),
        quantity=plain_number(product.get("quantity")),
        discount=share if own is None else plain_number(own),
    )
