"""Google Analytics 4: Measurement Protocol payloads and rows of the BigQuery export, as our events.

Source: Google, *Measurement Protocol (Google Analytics 4)*, *Recommended events*, *Automatically
collected events* and *BigQuery Export schema*, as of 2025.

Rules a reader can check line by line:

1. A payload with ``events`` is the Measurement Protocol's, one with ``event_name`` is a row of the
   export. Names map exactly: see `_NAMED`. The names in `_WITHOUT_KIND` have no kind of ours.
2. An event about items gives one event for each of them, with ``#`` and its place behind the id.
   The item is ``item_id``; ``(not set)`` is none.
3. GA4 has no ids of events: an id is a hash of what the event holds, and of whose it is. Two events
   that that are equal in everything, time included, are told apart only inside one payload.
4. The time is the event's ``timestamp_micros``, else the payload's, else ``received_s``; in the
   export it is ``event_timestamp``. BigQuery writes whole numbers as text; both forms are read.
5. The person is ``user_id``, else ``client_id``, ``app_instance_id`` or ``user_pseudo_id``; the
   device is ``device.category``; the session is ``ga_session_id`` or ``session_id``.
6. ``discount`` is money off one piece, as GA4 has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

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
from client_sdk.signals.events import ITEM_KINDS, EventError, EventKind, RejectReason

_NAMED: Final[Mapping[str, EventKind]] = {
    "view_item": EventKind.PRODUCT_VIEW,
    "add_to_cart": EventKind.CART,
    "begin_checkout": EventKind.CHECKOUT_STEP,
    "add_shipping_info": EventKind.CHECKOUT_STEP,
    "add_payment_info": EventKind.CHECKOUT_STEP,
    "purchase": EventKind.PURCHASE,
    "refund": EventKind.RETURN,
    "search": EventKind.SEARCH,
    "view_search_results": EventKind.SEARCH,
    "page_view": EventKind.CONTENT_VIEW,
    "screen_view": EventKind.SCREEN,
    "view_promotion": EventKind.MESSAGE_SHOWN,
    "select_promotion": EventKind.MESSAGE_OPENED,
    "notification_receive": EventKind.MESSAGE_SHOWN,
    "notification_open": EventKind.MESSAGE_OPENED,
    "notification_dismiss": EventKind.MESSAGE_DISMISSED,
}
# An event that GA4 sends when a step is done, and what we call the step.
_FACTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "begin_checkout": {"step": "start"},
    "add_shipping_info": {"step": "shipping", "completed": True},
    "add_payment_info": {"step": "payment", "completed": True},
    "view_promotion": {"channel": "in-app", "offer": True},
    "select_promotion": {"channel": "in-app"},
    "notification_receive": {"channel": "push"},
    "notification_open": {"channel": "push"},
    "notification_dismiss": {"channel": "push"},
}
_WITHOUT_KIND: Final = frozenset(
    {
        "add_to_wishlist",
        "click",
        "file_download",
        "first_open",
        "first_visit",
        "form_start",
        "form_submit",
        "generate_lead",
        "in_app_purchase",
        "login",
        "notification_foreground",
        "remove_from_cart",
        "scroll",
        "select_content",
        "select_item",
        "session_start",
        "share",
        "sign_up",
        "user_engagement",
        "view_cart",
        "view_item_list",
    }
)
_NOT_SET: Final = "(not set)"
_VALUE_FIELDS: Final = ("string_value", "int_value", "float_value", "double_value")
_MICROS_PER_S: Final = 1e6


def events_from(payload: Mapping[str, Any], *, received_s: float | None = None) -> Converted:
    """Read one Measurement Protocol payload, or one row of the BigQuery export.

    Args:
        payload: ``{"client_id", "events": [{"name", "params"}, ...]}``, or a row with
            ``event_name``, ``event_timestamp``, ``event_params`` and ``items``.
        received_s: When the payload came, seconds since 1970: the time of events that carry none.

    Returns:
        One event or more for each event that has a kind of ours, and why the others have none.

    Raises:
        EventError: the payload is no object, is neither of the two, or its events are no list.

    >>> done = events_from({"client_id": "c", "timestamp_micros": 1_767_225_600_000_000,
    ...     "events": [{"name": "search", "params": {"search_term": "tea"}}]})
    >>> done.events[0]["timestamp"], done.events[0]["properties"]
    (1767225600.0, {'query': 'tea'})
    """
    payload = expect_payload(payload)
    if "events" in payload:
        found = expect_list("events", payload["events"])
    elif "event_name" in payload:
        found = [_from_row(payload)]
    else:
        raise EventError(
            "payload", RejectReason.MISSING, "expected 'events' or 'event_name'; got neither"
        )
    keys = ("client_id", "app_instance_id", "user_pseudo_id")
    whose = id_text(payload.get("user_id"), *map(payload.get, keys))
    device = first_text(mapping(payload.get("device")).get("category"))
    converted, ids = Converted(), EventIds()
    for position, event in enumerate(found):
        try:
            if not isinstance(event, Mapping):
                raise SkippedError(SkipReason.MALFORMED, f"an event: {type(event).__name__}")  # noqa: TRY301 - told like every other reason
            kind, name = _kind(event.get("name"))
            common = {
                "kind": str(kind),
                "timestamp": _time_s(event, payload, received_s, name),
                "user_id": whose,
                "device": device,
            }
            _convert(converted, ids, event, kind=kind, name=name, common=common, position=position)
        except SkippedError as skipped:
            converted.skip(skipped.reason, skipped.what, position)
    return converted


def _convert(
    converted: Converted,
    ids: EventIds,
    event: Mapping[str, Any],
    *,
    kind: EventKind,
    name: str,
    common: dict[str, Any],
    position: int,
) -> None:
    params = mapping(event.get("params"))
    event_id = ids.give(None, [common["user_id"], common["timestamp"], name, params])
    session = id_text(params.get("ga_session_id"), params.get("session_id"))
    if kind not in ITEM_KINDS:
        facts = {**_FACTS.get(name, {}), **_properties(kind, params), "session": session}
        converted.events.append(event_json(event_id=event_id, **common, **facts))
        return
    items = list(rows(params.get("items")))
    if not items:
        raise SkippedError(SkipReason.NO_ITEM, name)
    for place, item in enumerate(items):
        line = _line(item)
        if line is None:
            converted.skip(SkipReason.NO_ITEM, name, position)
        else:
            converted.events.append(
                event_json(event_id=f"{event_id}#{place}", line=line, **common, session=session)
            )


def _kind(name: object) -> tuple[EventKind, str]:
    if not isinstance(name, str):
        raise SkippedError(SkipReason.MALFORMED, f"name: {type(name).__name__}")
    kind = _NAMED.get(name)
    if kind is not None:
        return kind, name
    if name in _WITHOUT_KIND:
        raise SkippedError(SkipReason.NO_KIND, name)
    raise SkippedError(SkipReason.UNKNOWN_NAME, "the name of an event")


def _time_s(
    event: Mapping[str, Any], payload: Mapping[str, Any], received_s: float | None, name: str
) -> float:
    for source in (event, payload):
        given = source.get("timestamp_micros")
        if given is not None:
            micros = finite(given)
            if micros is None:
                raise SkippedError(SkipReason.MALFORMED, "timestamp_micros")
            return micros / _MICROS_PER_S
    if received_s is None:
        raise SkippedError(SkipReason.NO_TIME, name)
    return received_s


def _properties(kind: EventKind, params: Mapping[str, Any]) -> dict[str, Any]:
    if kind is EventKind.SEARCH:
        return {"query": cut(first_text(params.get("search_term")))}
    if kind is EventKind.SCREEN:
        keys = ("screen_name", "firebase_screen", "firebase_screen_class")
        return {"topic": slug(first_text(*map(params.get, keys)))}
    if kind is EventKind.CONTENT_VIEW:
        path = _path(first_text(params.get("page_path"), params.get("page_location")))
        return {"topic": slug(path or first_text(params.get("page_title")))}
    return {}


def _path(location: str) -> str:
    """The last part of an address's path."""
    try:
        return urlsplit(location).path.rstrip("/").rpartition("/")[2]
    except ValueError:
        return ""


def _line(item: Mapping[str, Any]) -> Line | None:
    item_id = id_text(item.get("item_id"))
    if item_id is None or item_id == _NOT_SET:
        return None
    discount = item.get("discount")
    if discount is None:
        discount = _params(item.get("item_params")).get("discount")
    return Line(
        item_id=item_id,
        price=plain_number(item.get("price")),
        quantity=plain_number(item.get("quantity")),
        discount=plain_number(discount),
    )


def _from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event of the Measurement Protocol that says what a row of the export says."""
    params = {**_params(row.get("event_params")), "items": row.get("items")}
    event = {"name": row["event_name"], "params": params}
    if row.get("event_timestamp") is not None:
        event["timestamp_micros"] = row["event_timestamp"]
    return event


def _params(value: object) -> dict[str, Any]:
    """The parameters of the export: a list of keys, each with a value of one of four types."""
    params: dict[str, Any] = {}
    for param in rows(value):
        key, cell = param.get("key"), mapping(param.get("value"))
        if isinstance(key, str):
            params[key] = next(
                (cell[name] for name in _VALUE_FIELDS if cell.get(name) is not None), None
            )
    return params
