"""The pieces that features are made of: context, columns, catalogue, words, vector, snapshot."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features import (
    MAPS,
    STANDARD,
    CatalogueColumns,
    Context,
    EventColumns,
    FeatureDefinition,
    FeatureVector,
)
from client_sdk.signals.features.counts import Counts
from client_sdk.signals.features.items import ItemTable
from client_sdk.signals.features.reading import Reading
from client_sdk.signals.features.snapshot import VERSION, Unpacked, pack
from client_sdk.signals.features.vector import maps_of
from client_sdk.signals.features.words import SAID, in_words
from client_sdk.wire import Catalogue, Item
from tests.client_sdk.signals.features import oracle


@pytest.mark.parametrize(
    "wrong",
    [
        {"utc_offset_s": 60_000},
        {"utc_offset_s": 1.5},
        {"utc_offset_s": True},
        {"device": "toaster"},
        {"region": "Berlin"},
    ],
)
def test_context_outside_the_closed_lists_is_refused(wrong: dict[str, Any]) -> None:
    """A place that could point at a person is no coarse region."""
    with pytest.raises(ValueError, match="expected"):
        Context(**wrong)


def test_context_gives_the_local_hour_and_weekday() -> None:
    """1 January 1970 was a Thursday; an hour and a half before it, a Wednesday."""
    for offset, hour, weekday in ((0, 0.0, 3.0), (-5400, 22.0, 2.0), (19_800, 5.0, 3.0)):
        vector = Digest().features(
            oracle.CATALOGUE, now_s=0.0, context=Context(utc_offset_s=offset)
        )
        assert (vector.get("hour_of_day"), vector.get("weekday")) == (hour, weekday)


def _columns(**changes: Any) -> EventColumns:
    given_: dict[str, Any] = {
        "people": np.zeros(1, np.int64),
        "subkinds": np.zeros(1, np.int64),
        "times_s": np.zeros(1),
        "rows": np.zeros(1, np.int64),
        "prices": np.zeros(1),
        "keys": np.zeros(1, np.int64),
        **changes,
    }
    return EventColumns(**given_)


@pytest.mark.parametrize(
    "wrong",
    [
        {"people": np.array([-1])},
        {"people": np.zeros(2, np.int64)},
        {"people": np.zeros(1)},
        {"rows": np.array([-2])},
        {"subkinds": np.array([-1])},
        {"subkinds": np.array([17])},
        {"times_s": np.array([-1.0])},
        {"times_s": np.array([np.nan])},
        {"times_s": np.array([np.inf])},
        {"prices": np.zeros((1, 1))},
    ],
)
def test_columns_that_are_not_as_promised_are_refused(wrong: dict[str, Any]) -> None:
    """Checked once, so that nobody downstream has to."""
    assert len(_columns()) == 1
    with pytest.raises(ValueError, match="expected"):
        _columns(**wrong)


@given(
    items=st.lists(
        st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from([None, 0.0, 1.0, 2.5, 1e12])),
        max_size=12,
    ),
    category=st.integers(-1, 1),
    price=st.sampled_from([0.0, 0.5, 1.0, 2.5, 1e12, np.nan]),
)
def test_price_positions_are_those_of_counting(
    items: list[tuple[str, float | None]], category: int, price: float
) -> None:
    """The share of a category's prices that are lower, equal ones by half."""
    catalogue = CatalogueColumns.of(
        Catalogue(
            items=tuple(
                Item(item_id=str(row), category=name, price=cost)
                for row, (name, cost) in enumerate(items)
            )
        )
    )
    category = min(category, len(catalogue.categories) - 1)
    (found,) = catalogue.price_positions(np.array([category]), np.array([price * 10_000.0]))
    name = catalogue.categories[category] if category >= 0 else None
    rivals = [cost for other, cost in items if other == name and cost is not None]
    if len(rivals) < 2 or np.isnan(price):
        assert np.isnan(found)
    else:
        lower = sum(cost < price for cost in rivals) + sum(cost == price for cost in rivals) / 2
        assert found == pytest.approx(lower / len(rivals))


def test_words_say_what_is_known_and_nothing_of_zeros() -> None:
    """A few lives in words, as the person reads them."""
    assert in_words(dict.fromkeys(SAID - {"weekday"}, 0.0), {}) == [
        "You were last here less than a day ago.",
        "You bought something less than a day ago.",
        "You looked at an item less than an hour ago.",
        "You mostly buy the dearer things of their kind.",
        "Something that you buy again and again lasts you about 0 days.",
        "We showed you an offer less than a day ago.",
        "It is between 0:00 and 0:59 where you are.",
        "The kind of this device: mobile.",
        "The part of the world where you are: africa.",
    ]
    known = {
        "days_since_last_event": 1.9,
        "days_since_last_purchase": 365.0,
        "events_7_days": 1.0,
        "purchases_ever": 12.0,
        "hours_since_last_view": 720.0,
        "repeated_searches_7_days": 2.0,
        "n_categories": 1.0,
        "n_brands": 3.0,
        "top_category_share": 0.254,
        "discount_sensitivity": 0.5,
        "price_sensitivity": 0.5,
        "weekday": 6.0,
    }
    assert in_words(known, {"top_category_share": "tea"}) == [
        "You were last here 1 day ago.",
        "You bought something a year ago or longer.",
        "You did 1 thing here in the last 7 days.",
        "You made 12 purchases in all.",
        "You looked at an item a month ago or longer.",
        "25 % of your interest is in tea.",
        "You are interested in 1 category.",
        "You are interested in 3 brands.",
        "You mostly buy things that are neither cheap nor dear for their kind.",
        "50 % of your purchases had a discount.",
        "You searched for the same thing again twice in the last 7 days.",
        "It is Sunday where you are.",
    ]


def test_vector_gives_names_rows_and_maps_and_refuses_other_names() -> None:
    """A vector answers by name; a name that is not declared is a caller's mistake."""
    digest = Digest()
    digest.add([Event(kind="cart", item_id="mint", time_s=9.0)])
    vector = digest.features(oracle.CATALOGUE, now_s=9.0)
    assert vector.names == tuple(definition.name for definition in STANDARD)
    assert vector.map("brand_affinity") == {"herb": 1.0}
    assert vector.map("replenishment_due") == {}
    assert set(vector.maps) == set(MAPS)
    row = next(row for row in vector.rows() if row["name"] == "n_brands")
    assert row["value"] == 1.0
    assert row["known"] is True
    assert row["meaning"] == "How many brands you are interested in."
    for ask in (vector.get, vector.map):
        with pytest.raises(ValueError, match="name: expected"):
            ask("shoe_size")
    with pytest.raises(ValueError, match="read-only"):
        vector.values[0] = 1.0
    with pytest.raises(ValueError, match="one for each definition"):
        FeatureVector(
            definitions=STANDARD, values=np.zeros(1), known=np.zeros(1, np.bool_), maps={}
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"owners": np.zeros(2, np.int64)},
        {"item_rows": np.zeros(0, np.int64)},
        {"now_s": np.array([np.nan])},
        {"now_s": np.zeros(2)},
        {"contexts": ()},
    ],
)
def test_reading_of_parts_that_do_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    """Its parts are checked against each other."""
    digest = Digest()
    digest.add([Event(kind="cart", item_id="mint", time_s=9.0)])
    given_: dict[str, Any] = {
        "counts": digest._counts,
        "items": digest.activity.items,
        "owners": np.zeros(1, np.int64),
        "item_rows": np.zeros(1, np.int64),
        "catalogue": CatalogueColumns.of(oracle.CATALOGUE),
        "now_s": np.zeros(1),
        "contexts": (Context(),),
    }
    assert maps_of(Reading(**given_))
    with pytest.raises(ValueError, match="expected"):
        Reading(**{**given_, **wrong})


def test_definition_with_a_wrong_mode_or_value_is_refused() -> None:
    """The rest of a definition's checks; those of a name and of bins are with the app's own."""
    given_: dict[str, Any] = {
        "name": "visits",
        "meaning": "How often.",
        "sources": (),
        "window": "ever",
        "mode": "batch",
        "unit": "events",
        "bins": (0.0, 1.0),
    }
    for wrong in ({"mode": "daily"}, {"unknown": float("nan")}, {"window": "weekly"}):
        with pytest.raises(ValueError, match="expected"):
            FeatureDefinition(**{**given_, **wrong})


def test_snapshot_is_read_part_by_part_and_to_the_end() -> None:
    """A byte too few or too many is refused where it is found."""
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    data = pack({"a": 1}, [array], b"text")
    unpacked = Unpacked(data)
    assert unpacked.head == {"a": 1}
    assert unpacked.array(array.dtype, (2, 3)).tolist() == array.tolist()
    with pytest.raises(ValueError, match="fewer bytes"):
        unpacked.done()
    with pytest.raises(ValueError, match="more bytes"):
        unpacked.take(5)
    with pytest.raises(ValueError, match="more bytes"):
        unpacked.take(-1)
    assert unpacked.rest() == b"text"
    unpacked.done()
    with pytest.raises(ValueError, match="expected a head"):
        Unpacked(pack([1], []))  # type: ignore[arg-type]


_COLUMN = {
    "counts": 0,
    "last_s": 1,
    "first_purchase_s": 2,
    "paid": 4,
    "n_priced": 5,
    "view_day": 6,
    "view_mask": 7,
    "n_days": 8,
    "days": 9,
}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("counts", np.array([[2, 0, 0, -1]], "<i4")),
        ("counts", np.array([[0, 0, 0, 1]], "<i4")),
        ("last_s", np.array([np.nan])),
        ("last_s", np.array([-2.0])),
        ("first_purchase_s", np.array([np.inf])),
        ("paid", np.array([-1.0])),
        ("n_priced", np.array([3], "<i4")),
        ("view_day", np.array([-2], "<i4")),
        ("view_mask", np.array([2], "<u4")),
        ("n_days", np.array([33], "<i4")),
        ("n_days", np.array([0], "<i4")),
        ("days", np.array([7], "<i4")),
        ("days", np.array([7, -1], "<i4")),
        ("days", np.array([8, 7], "<i4")),
        ("days", np.array([7, 7], "<i4")),
    ],
)
def test_items_whose_columns_contradict_each_other_are_refused(
    column: str, value: np.ndarray[Any, Any]
) -> None:
    """A snapshot that was forged, or written by a bug, is folded again instead."""
    digest = Digest()
    digest.add(
        [
            Event(kind="purchase", item_id="mug", time_s=7 * 86_400.0, price=2.0),
            Event(kind="purchase", item_id="mug", time_s=8 * 86_400.0),
            Event(kind="product_view", item_id="mug", time_s=8 * 86_400.0),
        ]
    )
    arrays = digest.activity.items.to_arrays(np.zeros(1, np.int64))
    assert ItemTable.from_arrays(1, arrays).days[0, :3].tolist() == [7, 8, -1]
    arrays[_COLUMN[column]] = value
    with pytest.raises(ValueError, match="items: expected"):
        ItemTable.from_arrays(1, arrays)


def test_snapshot_that_does_not_unpack_is_refused() -> None:
    """A right checksum over bytes that are not compressed, not whole, or go on."""
    body = pack({}, [])[9:]
    for wrong in (b"plain", body[:-1], body + b"more"):
        front = struct.pack("<4sBI", b"HBDG", VERSION, zlib.crc32(wrong))
        with pytest.raises(ValueError, match="snapshot: expected"):
            Unpacked(front + wrong)


def test_maps_of_several_people_are_refused() -> None:
    """A map is one person's."""
    reading = Reading(
        counts=Counts(2),
        items=ItemTable(),
        owners=np.zeros(0, np.int64),
        item_rows=np.zeros(0, np.int64),
        catalogue=CatalogueColumns.of(oracle.CATALOGUE),
        now_s=np.zeros(2),
        contexts=(Context(),),
    )
    with pytest.raises(ValueError, match="one person; got several"):
        maps_of(reading)
