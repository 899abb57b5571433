"""Folding events: order does not matter, returns count, unknown items are left out."""

from itertools import permutations

import pytest

from client_sdk import Event
from client_sdk.signals import Activity

EVENTS = [
    Event(kind="product_view", item_id="a", time_s=1.0),
    Event(kind="purchase", item_id="a", time_s=5.0),
    Event(kind="purchase", item_id="b", time_s=2.0),
    Event(kind="return", item_id="b", time_s=9.0),
    Event(kind="cart", item_id="c", time_s=3.0),
    Event(kind="search", time_s=4.0),
]
POSITION = {"c": 0, "b": 1, "a": 2}


def test_activity_any_order_of_events_gives_the_same_history() -> None:
    """Events may come late: the history is the same in every order."""
    for order in permutations(EVENTS, len(EVENTS)):
        history = Activity(order).history(POSITION, now_s=10.0)
        assert history.items.tolist() == [0, 2]
        assert history.counts.tolist() == pytest.approx([0.6, 1.3])
        assert history.last_time_s.tolist() == [3.0, 5.0]


def test_activity_item_returned_is_not_owned() -> None:
    """What was given back is neither owned nor liked."""
    activity = Activity(EVENTS)
    assert activity.owned() == {"a"}
    assert activity.of("b").purchases == 0


def test_activity_item_outside_the_catalogue_is_kept_and_not_ranked() -> None:
    """A catalogue that comes later may know the item."""
    activity = Activity(EVENTS)
    assert activity.history({}, now_s=10.0).items.size == 0
    assert activity.history({"a": 7}, now_s=10.0).items.tolist() == [7]


def test_activity_unknown_item_has_done_nothing() -> None:
    """Asking about an item never seen is no error."""
    assert Activity().of("a").views == 0


def test_activity_history_follows_events_and_catalogues() -> None:
    """What is remembered between two rankings is forgotten with an event or another catalogue."""
    activity = Activity([Event(kind="purchase", item_id="tea", time_s=1.0)])
    first, other = {"tea": 0, "cup": 1}, {"cup": 0, "tea": 1}
    assert activity.history(first, now_s=9.0).items.tolist() == [0]
    assert activity.history(first, now_s=10.0).now_s == 10.0
    assert activity.history(other, now_s=9.0).items.tolist() == [1]
    activity.add(Event(kind="purchase", item_id="cup", time_s=2.0))
    assert activity.history(other, now_s=9.0).items.tolist() == [0, 1]
    activity.add(Event(kind="return", item_id="tea", time_s=3.0))
    assert activity.history(other, now_s=9.0).items.tolist() == [0]


def test_activity_return_is_no_reason_to_be_recent() -> None:
    """To give one of two back says nothing lately about the liking of the other."""
    life = [
        Event(kind="purchase", item_id="a", time_s=1.0),
        Event(kind="purchase", item_id="a", time_s=5.0),
        Event(kind="return", item_id="a", time_s=9.0),
    ]
    for times in (1, 20):
        activity, columns = Activity(life), Activity()
        columns.fold(columns.columns(life * times))
        assert activity.history(POSITION, now_s=10.0).last_time_s.tolist() == [5.0]
        assert columns.history(POSITION, now_s=10.0).last_time_s.tolist() == [5.0]


def test_activity_of_an_item_says_when_it_was_bought() -> None:
    """First and last purchase and the days between; an item never bought has none."""
    day_s = 86_400.0
    activity = Activity(
        Event(kind="purchase", item_id="a", time_s=time_s) for time_s in (3 * day_s, 5.0, 7.0)
    )
    activity.add(Event(kind="cart", item_id="b", time_s=1.0))
    assert activity.of("a").first_purchase_s == 5.0
    assert activity.of("a").last_purchase_s == 3 * day_s
    assert activity.purchase_days("a") == (0, 3)
    assert activity.of("b").first_purchase_s is None
    assert activity.purchase_days("b") == ()


def test_activity_page_about_returns_is_no_look_at_the_item() -> None:
    """To read how something is returned is no wish for it."""
    activity = Activity(
        [
            Event(kind="content_view", item_id="a", time_s=1.0),
            Event(
                kind="content_view", item_id="a", time_s=2.0, properties={"topic": "return-policy"}
            ),
        ]
    )
    assert activity.of("a").views == 1


def test_activity_of_a_table_with_other_rows_is_refused() -> None:
    """Names and rows belong together, each name once."""
    activity = Activity(EVENTS)
    for names in (["a"], ["a", "a", "b"]):
        with pytest.raises(ValueError, match="one row for each"):
            Activity.of_table(names, activity.items)
