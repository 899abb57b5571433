"""Updates between releases: a strict value, where the later word counts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.catalogue_updates import NO_UPDATES, CatalogueUpdates
from client_sdk.wire import Item, WireFormatError

IDS = st.sampled_from(["cup", "mug", "tea", "ü"])
ITEMS = st.builds(
    Item,
    item_id=IDS,
    name=st.text(max_size=5),
    price=st.none() | st.floats(-1e15, 1e15),
    stock=st.none() | st.integers(0, 10**12),
    tags=st.lists(st.text(max_size=3), max_size=2).map(tuple),
)
UPDATES = st.builds(
    CatalogueUpdates,
    prices=st.dictionaries(IDS, st.none() | st.floats(-1e15, 1e15)),
    stock=st.dictionaries(IDS, st.none() | st.integers(0, 10**12)),
    withdrawn=st.frozensets(IDS),
    added=st.lists(ITEMS, max_size=3, unique_by=lambda item: item.item_id).map(tuple),
)


@given(UPDATES)
def test_updates_written_and_read_are_the_same(updates: CatalogueUpdates) -> None:
    """Updates survive their own JSON, through text; equal ones hash alike."""
    again = CatalogueUpdates.from_json(json.loads(json.dumps(updates.to_json())))
    assert again == updates
    assert hash(again) == hash(updates)


@given(UPDATES, UPDATES, UPDATES)
def test_updates_then_is_associative_and_nothing_changes_nothing(
    first: CatalogueUpdates, second: CatalogueUpdates, third: CatalogueUpdates
) -> None:
    """It does not matter when updates are put together."""
    assert first.then(NO_UPDATES) == first == NO_UPDATES.then(first)
    assert first.then(second).then(third) == first.then(second.then(third))


def test_updates_then_the_later_word_counts_item_by_item() -> None:
    """Prices and stock are replaced where said again, and else stay."""
    first = CatalogueUpdates(prices={"cup": 1.0, "mug": 2.0}, stock={"cup": 0})
    both = first.then(CatalogueUpdates(prices={"mug": None}, withdrawn=frozenset({"tea"})))
    assert both.prices == {"cup": 1.0, "mug": None}
    assert both.stock == {"cup": 0}
    assert both.withdrawn == {"tea"}


def test_updates_then_adding_again_brings_back_and_forgets_what_was_said_before() -> None:
    """An item that comes again is what is said now."""
    gone = CatalogueUpdates(
        prices={"cup": 9.0}, stock={"cup": 0}, withdrawn=frozenset({"cup", "mug"})
    )
    back = gone.then(CatalogueUpdates(added=(Item(item_id="cup", price=5.0),)))
    assert back == CatalogueUpdates(
        withdrawn=frozenset({"mug"}), added=(Item(item_id="cup", price=5.0),)
    )


def test_updates_are_true_only_where_something_changed() -> None:
    """An app asks before it writes."""
    assert not NO_UPDATES
    assert CatalogueUpdates(stock={"cup": None})
    assert CatalogueUpdates(withdrawn=frozenset({"cup"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"prices": {"cup": "1"}},
        {"prices": {"cup": float("nan")}},
        {"prices": {"cup": True}},
        {"prices": {"": 1.0}},
        {"stock": {"cup": -1}},
        {"stock": {"cup": 1.5}},
        {"withdrawn": frozenset({""})},
        {"withdrawn": frozenset({1})},
        {"added": (Item(item_id="cup"), Item(item_id="cup"))},
        {"added": (Item(item_id=""),)},
    ],
)
def test_updates_that_can_not_be_are_refused(wrong: dict[str, Any]) -> None:
    """A mistake of the caller, named by its field."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CatalogueUpdates(**wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"prices": []},
        {"prices": {"cup": "1"}},
        {"stock": {"cup": 1.5}},
        {"withdrawn": [1]},
        {"withdrawn": [["cup"]]},
        {"withdrawn": {}},
        {"added": [{"item_id": "cup"}]},
        {"added": ["cup"]},
        {"added": [Item(item_id="cup").to_json()] * 2},
        {"more": 1},
    ],
)
def test_updates_from_other_json_are_refused(changes: dict[str, Any]) -> None:
    """Strict: no unknown field, no wrong type, no repetition."""
    with pytest.raises(WireFormatError):
        CatalogueUpdates.from_json({**NO_UPDATES.to_json(), **changes})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["prices", "stock", "withdrawn", "added", "item_id"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_updates_from_any_json_are_read_or_refused(value: object) -> None:
    """Reading is total."""
    try:
        updates = CatalogueUpdates.from_json(value)
    except WireFormatError:
        return
    assert CatalogueUpdates.from_json(updates.to_json()) == updates
