"""The columns keep their promises, and one person's rows are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulations.data.interactions import EVENT_KINDS, Interactions


def columns(**changes: Any) -> dict[str, Any]:
    """Three rows of two persons, with changes."""
    straight: dict[str, Any] = {
        "n_people": 2,
        "n_items": 3,
        "users": np.array([0, 0, 1], np.int32),
        "items": np.array([2, 0, 1], np.int32),
        "times_s": np.array([1.0, 2.0, 0.0]),
        "quantities": np.ones(3),
        "prices": np.full(3, np.nan),
        "kinds": np.array([0, 3, 4], np.int8),
        "occasions": np.array([0, 1, 2], np.int32),
    }
    return straight | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"users": np.array([0, 0, 2], np.int32)},
        {"users": np.array([1, 0, 0], np.int32)},
        {"items": np.array([2, 0, 3], np.int32)},
        {"items": np.array([-1, 0, 1], np.int32)},
        {"items": np.array([2, 0], np.int32)},
        {"items": np.array([2, 0, 1], np.int64)},
        {"times_s": np.array([2.0, 1.0, 0.0])},
        {"times_s": np.array([1.0, np.nan, 0.0])},
        {"quantities": np.array([1.0, np.inf, 0.0])},
        {"kinds": np.array([0, 3, len(EVENT_KINDS)], np.int8)},
    ],
)
def test_interactions_broken_promise_is_refused(changes: dict[str, Any]) -> None:
    """Ranges, types, lengths and order are checked when the value is made."""
    with pytest.raises(ValueError, match="must be"):
        Interactions(**columns(**changes))


def test_interactions_of_person_gives_only_their_rows() -> None:
    """What one device would hold; empty for a person without rows."""
    events = Interactions(**columns(n_people=3))
    assert events.of_person(0).items.tolist() == [2, 0]
    assert events.of_person(1).items.tolist() == [1]
    assert len(events.of_person(2)) == 0


def test_interactions_taste_leaves_out_steps_that_take_nothing() -> None:
    """A view and a purchase say something about taste, a checkout step does not."""
    assert Interactions(**columns()).taste.tolist() == [True, False, True]


def test_interactions_columns_are_read_only() -> None:
    """A value stays what it was checked to be."""
    with pytest.raises(ValueError, match="read-only"):
        Interactions(**columns()).items[0] = 1
