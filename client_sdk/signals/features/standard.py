"""The standard features of intent and friction: one row of a table each, with how it is read.

Rules a reader can check line by line:

1. The table is the list: name, meaning, sources, window, mode, unit, bins and the value of
   "unknown" stand beside the function that reads it. The README's table is checked against it.
2. A function gives float64[P] for P people, with NaN for "not known". `read_standard` replaces NaN
   by the definition's value and marks it; no NaN leaves this file.
3. Recency stops at a cap (365 days, 720 hours), which is also the value of "never".
"""

from __future__ import annotations

from typing import Final

import numpy as np

from client_sdk.signals.features.columns import DAY_S, BoolArray, FloatArray
from client_sdk.signals.features.context import DEVICES, REGIONS
from client_sdk.signals.features.definitions import EVER, NOW, FeatureDefinition, Mode
from client_sdk.signals.features.finish import (
    BOUGHT,
    HOUR_S,
    SHOWN,
    Finish,
    count_in,
    device,
    discount_share,
    dismissed_share,
    hour,
    purchases,
    region,
    since,
    top,
    weekday,
)
from client_sdk.signals.features.reading import Reading
from client_sdk.signals.features.subkinds import (
    N_SUBKINDS,
    REPEATED_FORM_ERROR,
    REPEATED_SEARCH,
    SUBKIND_OF_KIND,
    Subkind,
)

MAX_DAYS: Final = 365.0
MAX_HOURS: Final = 720.0
UNKNOWN_CODE: Final = -1.0

_ALL: Final = tuple(range(N_SUBKINDS))

_ANY_KIND: Final = tuple(SUBKIND_OF_KIND)
_PURCHASE: Final = ("purchase",)
_INTEREST: Final = ("product_view", "content_view", "cart", "purchase", "return")

_COUNT_BINS: Final = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)
_DAY_BINS: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 31.0, 61.0, 91.0, 181.0, MAX_DAYS)
_HOUR_BINS: Final = (0.0, 1.0, 3.0, 6.0, 12.0, 24.0, 72.0, 168.0, 336.0, MAX_HOURS)
_SHARE_BINS: Final = tuple(tenth / 10 for tenth in range(11))
_DUE_BINS: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)


def read_standard(reading: Reading) -> tuple[FloatArray, BoolArray]:
    """Read all standard features.

    Args:
        reading: The state of P people.

    Returns:
        float64[P, F], finite, in the order of `STANDARD`, and bool[P, F]: what is known.
    """
    values = np.empty((reading.n_people, len(_TABLE)))
    for place, (_, finish) in enumerate(_TABLE):
        values[:, place] = finish(reading)
    known = ~np.isnan(values)
    return np.where(known, values, _UNKNOWN), known


def _row(
    name: str,
    meaning: str,
    sources: tuple[str, ...],
    window: str,
    finish: Finish,
    *,
    unit: str,
    bins: tuple[float, ...],
    mode: Mode = "real-time",
    unknown: float = 0.0,
    codes: tuple[str, ...] = (),
) -> tuple[FeatureDefinition, Finish]:
    definition = FeatureDefinition(
        name=name,
        meaning=meaning,
        sources=sources,
        window=window,
        mode=mode,
        unit=unit,
        bins=bins,
        unknown=unknown,
        codes=codes,
    )
    return definition, finish


def _code_bins(n: int) -> tuple[float, ...]:
    return tuple(place - 0.5 for place in range(n + 1))


_TABLE: Final[tuple[tuple[FeatureDefinition, Finish], ...]] = (
    _row(
        "days_since_last_event",
        "How many days ago you last did anything here.",
        _ANY_KIND,
        EVER,
        since(_ALL, DAY_S, MAX_DAYS),
        unit="days",
        bins=_DAY_BINS,
        unknown=MAX_DAYS,
    ),
    _row(
        "days_since_last_purchase",
        "How many days ago you last bought something.",
        _PURCHASE,
        EVER,
        since(BOUGHT, DAY_S, MAX_DAYS),
        unit="days",
        bins=_DAY_BINS,
        unknown=MAX_DAYS,
    ),
    _row(
        "events_1_day",
        "How many things you did here today.",
        _ANY_KIND,
        "1 day",
        count_in(_ALL, 1),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "events_7_days",
        "How many things you did here in the last 7 days.",
        _ANY_KIND,
        "7 days",
        count_in(_ALL, 7),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "events_30_days",
        "How many things you did here in the last 30 days.",
        _ANY_KIND,
        "30 days",
        count_in(_ALL, 30),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "purchases_30_days",
        "How many purchases you made in the last 30 days.",
        _PURCHASE,
        "30 days",
        count_in(BOUGHT, 30),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "purchases_ever",
        "How many purchases you made.",
        _PURCHASE,
        EVER,
        purchases,
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "hours_since_last_view",
        "How many hours ago you last looked at an item.",
        ("product_view",),
        EVER,
        since((Subkind.PRODUCT_VIEW,), HOUR_S, MAX_HOURS),
        unit="hours",
        bins=_HOUR_BINS,
        unknown=MAX_HOURS,
    ),
    _row(
        "comparison_views_7_days",
        "How many alternatives of one category you looked at on one day, in the last 7 days.",
        ("product_view", "content_view"),
        "7 days",
        lambda reading: reading.comparisons(7),
        unit="views",
        bins=_COUNT_BINS,
    ),
    _row(
        "return_policy_views_30_days",
        "How often you read how to return things in the last 30 days.",
        ("content_view", "screen"),
        "30 days",
        count_in((Subkind.RETURN_POLICY_VIEW,), 30),
        unit="views",
        bins=_COUNT_BINS,
    ),
    _row(
        "top_category_share",
        "How much of your interest is in the category you like most.",
        _INTEREST,
        EVER,
        lambda reading: top(reading.category_shares),
        mode="batch",
        unit="share",
        bins=_SHARE_BINS,
    ),
    _row(
        "n_categories",
        "How many categories you are interested in.",
        _INTEREST,
        EVER,
        lambda reading: (reading.category_shares > 0).sum(axis=1),
        mode="batch",
        unit="categories",
        bins=_COUNT_BINS,
    ),
    _row(
        "top_brand_share",
        "How much of your interest is in the brand you like most.",
        _INTEREST,
        EVER,
        lambda reading: top(reading.brand_shares),
        mode="batch",
        unit="share",
        bins=_SHARE_BINS,
    ),
    _row(
        "n_brands",
        "How many brands you are interested in.",
        _INTEREST,
        EVER,
        lambda reading: (reading.brand_shares > 0).sum(axis=1),
        mode="batch",
        unit="brands",
        bins=_COUNT_BINS,
    ),
    _row(
        "price_sensitivity",
        "How cheap the things you buy are among their kind: 1 the cheapest, 0 the dearest.",
        ("purchase", "return"),
        EVER,
        lambda reading: 1.0 - reading.price_position,
        mode="batch",
        unit="share",
        bins=_SHARE_BINS,
        unknown=0.5,
    ),
    _row(
        "discount_sensitivity",
        "How much of what you bought had a discount.",
        _PURCHASE,
        EVER,
        discount_share,
        unit="share",
        bins=_SHARE_BINS,
    ),
    _row(
        "replenishment_cycle_days",
        "After how many days you usually buy again the thing that is most due.",
        ("purchase", "return"),
        EVER,
        lambda reading: np.minimum(reading.most_due[1], MAX_DAYS),
        mode="batch",
        unit="days",
        bins=_DAY_BINS,
        unknown=MAX_DAYS,
    ),
    _row(
        "replenishment_due",
        "How far along the thing is that you will soon buy again: 1 is about now.",
        ("purchase", "return"),
        EVER,
        lambda reading: reading.most_due[0],
        mode="batch",
        unit="cycles",
        bins=_DUE_BINS,
    ),
    _row(
        "repeated_form_errors_7_days",
        "How often a form refused the same field again on one day, in the last 7 days.",
        ("form_error",),
        "7 days",
        count_in((REPEATED_FORM_ERROR,), 7),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "stalled_steps_7_days",
        "How many steps to the checkout you took on days without a purchase, in the last 7 days.",
        ("checkout_step", "purchase"),
        "7 days",
        lambda reading: reading.on_days_without(Subkind.CHECKOUT_STEP, BOUGHT, 7),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "repeated_searches_7_days",
        "How often you searched for the same thing again on one day, in the last 7 days.",
        ("search",),
        "7 days",
        count_in((REPEATED_SEARCH,), 7),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "messages_7_days",
        "How many messages we showed you in the last 7 days.",
        ("message_shown",),
        "7 days",
        count_in(SHOWN, 7),
        unit="events",
        bins=_COUNT_BINS,
    ),
    _row(
        "days_since_last_offer",
        "How many days ago we last showed you an offer.",
        ("message_shown",),
        EVER,
        since((Subkind.OFFER_SHOWN,), DAY_S, MAX_DAYS),
        unit="days",
        bins=_DAY_BINS,
        unknown=MAX_DAYS,
    ),
    _row(
        "dismissed_share_30_days",
        "How many of our messages you closed, in the last 30 days.",
        ("message_shown", "message_dismissed"),
        "30 days",
        dismissed_share,
        unit="share",
        bins=_SHARE_BINS,
    ),
    _row(
        "hour_of_day",
        "What hour it is where you are, from 0 to 23.",
        (),
        NOW,
        hour,
        unit="hour",
        bins=_code_bins(24),
        unknown=UNKNOWN_CODE,
    ),
    _row(
        "weekday",
        "What day of the week it is where you are, 0 for Monday.",
        (),
        NOW,
        weekday,
        unit="day",
        bins=_code_bins(7),
        unknown=UNKNOWN_CODE,
    ),
    _row(
        "device_class",
        "What kind of device this is.",
        (),
        NOW,
        device,
        unit="code",
        bins=_code_bins(len(DEVICES)),
        unknown=UNKNOWN_CODE,
        codes=DEVICES,
    ),
    _row(
        "region",
        "In which part of the world you are.",
        (),
        NOW,
        region,
        unit="code",
        bins=_code_bins(len(REGIONS)),
        unknown=UNKNOWN_CODE,
        codes=REGIONS,
    ),
)

STANDARD: Final[tuple[FeatureDefinition, ...]] = tuple(definition for definition, _ in _TABLE)
_UNKNOWN: Final = np.array([definition.unknown for definition in STANDARD])
