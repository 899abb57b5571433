"""An oracle of the standard features: plain Python over a list of events, without any state.

It shares no code with the features: where both agree on random lives, both are right or both
misread the definition. Also here: the random lives.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from statistics import median

import numpy as np
from hypothesis import strategies as st

from client_sdk.signals.events import Event
from client_sdk.signals.features import Context
from client_sdk.signals.features.context import DEVICES, REGIONS
from client_sdk.wire import Catalogue, Item

DAY_S = 86_400.0
FIRST_DAY = 20_000
N_DAYS = 45

CATALOGUE = Catalogue(
    items=(
        Item(item_id="green", category="tea", brand="leaf", price=4.0),
        Item(item_id="black", category="tea", brand="leaf", price=4.0),
        Item(item_id="mint", category="tea", brand="herb", price=6.5),
        Item(item_id="mug", category="kitchen", price=9.0),
        Item(item_id="kettle", category="kitchen", brand="steel", price=59.0),
        Item(item_id="card", price=1.0),
        Item(item_id="gift", category="tea"),
        Item(item_id="test kit", category="care", brand="herb", price=3.0, tags=("sensitive:x",)),
    )
)
ITEM_IDS = (*(item.item_id for item in CATALOGUE.items), "not sold here", "ünïcode 🫖")
_ITEM_KINDS = ("product_view", "cart", "purchase", "return", "content_view", "support")
_OTHER_KINDS = ("search", "checkout_step", "form_error", "message_shown", "message_opened",
                "message_dismissed", "screen", "tasting_booked")  # fmt: skip
_PROPERTIES: dict[str, tuple[str, Sequence[object]]] = {
    "purchase": ("discount", [0, 0.0, 0.2, 5, True, "10 %"]),
    "search": ("query", ["green tea", " Green  TEA", "mug", ""]),
    "form_error": ("field", ["email", "zip"]),
    "message_shown": ("offer", [True, True, False, 1, "yes"]),
    "content_view": ("topic", ["return-policy", "recipes"]),
    "screen": ("topic", ["return-policy", "home"]),
    "tasting_booked": ("guests", [0, 1, 2, 5]),
}
_PRICES = (None, 4.0, 1.005, 0.1, 9.0)
# Moments at which one day becomes another, and one within.
_MOMENTS = (0.0, DAY_S - 1e-3, DAY_S - 1e-5, 0.5, 43_210.98)


def _event(choose: Callable[[int], int], *, n_days: int, n_items: int) -> Event:
    """Make one event; ``choose(n)`` gives a number below n."""
    kinds = _ITEM_KINDS * 2 + _OTHER_KINDS
    kind = kinds[choose(len(kinds))]
    properties = {}
    if kind in _PROPERTIES and choose(3):
        name, values = _PROPERTIES[kind]
        properties[name] = values[choose(len(values))]
    return Event(
        kind=kind,
        time_s=(FIRST_DAY + choose(n_days + 1)) * DAY_S + _MOMENTS[choose(len(_MOMENTS))],
        event_id="same for all",
        item_id=ITEM_IDS[choose(n_items)] if kind in _ITEM_KINDS else None,
        price=_PRICES[choose(len(_PRICES))] if kind == "purchase" else None,
        properties=properties,
    )


@st.composite
def events(draw: st.DrawFn) -> Event:
    """One event, most of them of items."""
    return _event(lambda n: draw(st.integers(0, n - 1)), n_days=N_DAYS, n_items=len(ITEM_IDS))


def _long_life(seed: int, n_events: int, n_days: int, n_items: int) -> list[Event]:
    rng = np.random.default_rng(seed)
    return [
        _event(lambda n: int(rng.integers(n)), n_days=n_days, n_items=n_items)
        for _ in range(n_events)
    ]


# Short lives shrink well; long ones, drawn from a seed, are folded as columns.
lives = st.lists(events(), max_size=12) | st.builds(
    _long_life,
    st.integers(0, 2**32),
    st.integers(48, 150),
    st.integers(1, N_DAYS),
    st.integers(1, len(ITEM_IDS)),
)
contexts = st.builds(
    Context,
    utc_offset_s=st.none() | st.integers(-43_200, 50_400),
    device=st.sampled_from(["", *DEVICES]),
    region=st.sampled_from(["", *REGIONS]),
)


def standard(life: Sequence[Event], *, now_s: float, context: Context) -> dict[str, float | None]:
    """Every standard feature by its definition; None for not known."""
    today = _day(now_s)

    def of(*kinds: str) -> list[Event]:
        return [event for event in life if event.kind in kinds]

    def within(found: Iterable[Event], days: int) -> list[Event]:
        # The ring ends with the newest day; what is older than its 32 days is in no window.
        newest = max((_day(event.time_s) for event in life), default=0)
        held = [event for event in found if _day(event.time_s) > newest - 32]
        return [event for event in held if today - days < _day(event.time_s) <= today]

    def since(found: Sequence[Event], unit_s: float, cap: float) -> float | None:
        if not found:
            return None
        return min(max(now_s - max(event.time_s for event in found), 0.0) / unit_s, cap)

    def share(part: Sequence[Event], whole: Sequence[Event]) -> float | None:
        return min(len(part) / len(whole), 1.0) if whole else None

    bought, shown = of("purchase"), of("message_shown")
    policy = [e for e in of("content_view", "screen") if _property(e, "topic") == "return-policy"]
    offers = [event for event in shown if _property(event, "offer") is True]
    discounted = [
        event
        for event in bought
        if isinstance(_property(event, "discount"), int | float)
        and event.properties["discount"] > 0  # type: ignore[operator]
    ]
    purchase_days = {_day(event.time_s) for event in bought}
    categories = _interest(life, "category")
    brands = _interest(life, "brand")
    due = _due(life, today)
    local_s = None if context.utc_offset_s is None else now_s + context.utc_offset_s
    return {
        "days_since_last_event": since(life, DAY_S, 365.0),
        "days_since_last_purchase": since(bought, DAY_S, 365.0),
        "events_1_day": len(within(life, 1)),
        "events_7_days": len(within(life, 7)),
        "events_30_days": len(within(life, 30)),
        "purchases_30_days": len(within(bought, 30)),
        "purchases_ever": len(bought),
        "hours_since_last_view": since(of("product_view"), 3600.0, 720.0),
        "comparison_views_7_days": _comparisons(life, today),
        "return_policy_views_30_days": len(within(policy, 30)),
        "top_category_share": max(categories.values(), default=None),
        "n_categories": len(categories),
        "top_brand_share": max(brands.values(), default=None),
        "n_brands": len(brands),
        "price_sensitivity": _price_sensitivity(life),
        "discount_sensitivity": share(discounted, bought),
        "replenishment_cycle_days": due[1] if due else None,
        "replenishment_due": due[0] if due else None,
        "repeated_form_errors_7_days": _repeats(within(of("form_error"), 7), "field"),
        "stalled_steps_7_days": sum(
            _day(event.time_s) not in purchase_days for event in within(of("checkout_step"), 7)
        ),
        "repeated_searches_7_days": _repeats(
            [e for e in within(of("search"), 7) if "query" in e.properties], "query"
        ),
        "messages_7_days": len(within(shown, 7)),
        "days_since_last_offer": since(offers, DAY_S, 365.0),
        "dismissed_share_30_days": share(within(of("message_dismissed"), 30), within(shown, 30)),
        "hour_of_day": None if local_s is None else local_s % DAY_S // 3600,
        "weekday": None if local_s is None else (local_s // DAY_S + 3) % 7,
        "device_class": DEVICES.index(context.device) if context.device else None,
        "region": REGIONS.index(context.region) if context.region else None,
    }


def _day(time_s: float) -> int:
    return math.floor(time_s / DAY_S) if time_s % DAY_S else int(time_s // DAY_S)


def _property(event: Event, name: str) -> object:
    return event.properties.get(name)


def _visible() -> dict[str, Item]:
    return {item.item_id: item for item in CATALOGUE.items if not item.tags}


def _kept(life: Sequence[Event]) -> dict[str, int]:
    kept: dict[str, int] = defaultdict(int)
    for event in life:
        if event.kind == "purchase":
            kept[event.item_id or ""] += 1
        elif event.kind == "return":
            kept[event.item_id or ""] -= 1
    return {item_id: n for item_id, n in kept.items() if n > 0}


def _is_view(event: Event) -> bool:
    if event.kind == "product_view":
        return True
    return event.kind == "content_view" and _property(event, "topic") != "return-policy"


def _interest(life: Sequence[Event], of: str) -> dict[str, float]:
    weight: dict[str, float] = defaultdict(float)
    visible = _visible()
    for item_id, n in _kept(life).items():
        weight[item_id] += 1.0 * n
    for event in life:
        if event.item_id is not None and event.kind == "cart":
            weight[event.item_id] += 0.6
        elif event.item_id is not None and _is_view(event):
            weight[event.item_id] += 0.3
    groups: dict[str, float] = defaultdict(float)
    for item_id, amount in weight.items():
        group = getattr(visible[item_id], of) if item_id in visible else ""
        if group:
            groups[group] += amount
    return {group: amount / sum(groups.values()) for group, amount in groups.items()}


def _comparisons(life: Sequence[Event], today: int) -> int:
    visible, found = _visible(), 0
    views = {(e.item_id or "", _day(e.time_s)) for e in life if _is_view(e)}
    latest = {item_id: max(day for other, day in views if other == item_id) for item_id, _ in views}
    for today_or_before in range(today - 6, today + 1):
        viewed = {
            item_id
            for item_id, day in views
            if day == today_or_before
            and item_id in visible
            and visible[item_id].category
            # Of each item, the days that are at most 31 before its latest view are kept.
            and day > latest[item_id] - 32
        }
        found += len(viewed) - len({visible[item_id].category for item_id in viewed})
    return found


def _price_sensitivity(life: Sequence[Event]) -> float | None:
    visible = _visible()
    weighted, total = 0.0, 0
    for item_id, n in _kept(life).items():
        item = visible.get(item_id)
        if item is None or not item.category:
            continue
        rivals = [
            other.price
            for other in visible.values()
            if other.category == item.category and other.price is not None
        ]
        paid = [
            event.price
            for event in life
            if event.kind == "purchase" and event.item_id == item_id and event.price is not None
        ]
        price = round(sum(paid) / len(paid), 4) if paid else item.price
        if price is None or len(rivals) < 2:
            continue
        cheaper = sum(rival < price for rival in rivals)
        equal = sum(rival == price for rival in rivals)
        weighted += n * (cheaper + equal / 2) / len(rivals)
        total += n
    return 1.0 - weighted / total if total else None


def _due(life: Sequence[Event], today: int) -> tuple[float, float] | None:
    visible, found = _visible(), []
    for item_id in _kept(life):
        days = sorted(
            {_day(e.time_s) for e in life if e.kind == "purchase" and e.item_id == item_id}
        )[-32:]
        if item_id not in visible or len(days) < 3:
            continue
        cycle = median(late - early for early, late in pairwise(days))
        due = max(today - days[-1], 0) / cycle
        if due <= 3.0:
            found.append((due, -cycle))
    return (max(found)[0], -max(found)[1]) if found else None


def _repeats(found: Sequence[Event], name: str) -> int:
    texts = {
        (_day(event.time_s), " ".join(str(_property(event, name)).casefold().split()))
        for event in found
    }
    return len(found) - len(texts)
