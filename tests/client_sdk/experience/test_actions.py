"""Actions and their table: checked when made, the same after JSON, the same table for the same."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.experience.action_table import MAX_ACTIONS, ActionTable, TableCache
from client_sdk.experience.actions import Action, Moment
from client_sdk.signals.features.context import Context

words = st.text("abcXÄß -", max_size=6)
actions = st.builds(
    Action,
    action_id=st.text("abc", min_size=1, max_size=5),
    kind=st.sampled_from(["message", "offer"]),
    topic=words,
    item_id=st.none() | st.text("xy", min_size=1, max_size=3),
    tags=st.lists(words.filter(bool), max_size=3).map(tuple),
    value=st.floats(0, 1e9),
    features=st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=2).map(tuple),
    high_impact=st.booleans(),
    rule=words,
)


@pytest.mark.parametrize(
    "field",
    [
        {"action_id": ""},
        {"action_id": "x" * 129},
        {"item_id": ""},
        {"kind": "Offer"},
        {"kind": "offer\n"},
        {"channel": "e mail"},
        {"topic": 5},
        {"topic": "x" * 129},
        {"tags": ("",)},
        {"tags": tuple(map(str, range(33)))},
        {"value": -1.0},
        {"value": float("nan")},
        {"value": True},
        {"value": "dear"},
        {"features": (float("inf"),)},
        {"features": (0.0,) * 65},
        {"features": (1.0, 2.0), "feature_names": ("one",)},
    ],
)
def test_action_bad_field_is_refused_by_name(field: dict[str, Any]) -> None:
    """Each field is checked, and the error names it."""
    with pytest.raises(ValueError, match=f"^{next(reversed(field))}"):
        Action(**{"action_id": "a", **field})


@given(actions)
def test_action_json_round_trip_is_equal(action: Action) -> None:
    """What was written is read back."""
    assert Action.from_json(action.to_json()) == action


@pytest.mark.parametrize("value", [{}, {"action_id": "a", "colour": "red"}])
def test_action_json_other_fields_are_refused(value: dict[str, Any]) -> None:
    """An unknown field, or no id."""
    with pytest.raises(ValueError, match="action"):
        Action.from_json(value)


def test_moment_json_round_trip_is_equal() -> None:
    """The context comes along."""
    moment = Moment(name="cart", session="s1", context=Context(utc_offset_s=-3_600))
    assert Moment.from_json(moment.to_json()) == moment


@given(st.lists(actions, max_size=6, unique_by=lambda action: action.action_id))
def test_table_columns_say_what_the_actions_say(given_: list[Action]) -> None:
    """Masks agree with a look at each action; the encoded form gives the same table."""
    table = ActionTable(given_)
    again = ActionTable.from_encoded(table.encoded)
    assert again.actions == table.actions
    assert again.sha256 == table.sha256
    assert again.features.tolist() == table.features.tolist()
    for word in table.words:
        expected = [word == a.topic or word in a.tags for a in given_]
        assert table.about({word, "nowhere"}).tolist() == expected
    assert table.of_kinds({"offer"}).tolist() == [a.kind == "offer" for a in given_]
    assert table.of_items({"x"}).tolist() == [a.item_id == "x" for a in given_]


def test_table_features_of_some_are_zeros_for_others() -> None:
    """No feature is a row of zeros; other lengths are refused."""
    table = ActionTable([Action(action_id="a"), Action(action_id="b", features=(1.0, 2.0))])
    assert table.features.tolist() == [[0.0, 0.0], [1.0, 2.0]]
    with pytest.raises(ValueError, match="equally many"):
        ActionTable([*table.actions, Action(action_id="c", features=(1.0,))])


def test_table_too_many_or_twice_is_refused() -> None:
    """Ids differ, and there is a limit."""
    with pytest.raises(ValueError, match="twice"):
        ActionTable([Action(action_id="a"), Action(action_id="a")])
    with pytest.raises(ValueError, match="at most"):
        ActionTable(Action(action_id=str(row)) for row in range(MAX_ACTIONS + 1))


def test_cache_changed_list_gets_another_table() -> None:
    """The same list with another content is another question."""
    cache = TableCache()
    given_ = [Action(action_id="a"), Action(action_id="b")]
    first = cache.table(given_)
    assert cache.table(list(given_)) is first
    given_[0] = Action(action_id="c")
    assert cache.table(given_).actions == tuple(given_)
    assert cache.table(first.actions) is first


def test_cache_many_tables_lets_the_oldest_go() -> None:
    """Only a few are kept."""
    cache = TableCache()
    first = cache.table([Action(action_id="first")])
    for name in "abcdefgh":
        cache.table([Action(action_id=name)])
    assert cache.table(first.actions) is not first


def test_table_once_is_made_once_and_read_only() -> None:
    """A mask of a rule is remembered, and nobody changes it."""
    table = ActionTable([Action(action_id="a")])
    mask = table.once("rule", lambda: np.array([True]))
    assert table.once("rule", lambda: np.array([False])) is mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False
    for number in range(100):
        table.once(number, lambda: np.array([False]))
    assert len(table._masks) <= 64
