"""Features of the app's own: each reducer against plain Python, in any order, through bytes."""

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features import FeatureSet, PropertyFeature
from client_sdk.signals.features.custom import PropertyState, Reducer
from client_sdk.wire import Catalogue

DAY_S = 86_400.0
NOTHING = Catalogue(items=())


def _feature(**changes: Any) -> PropertyFeature:
    given_: dict[str, Any] = {
        "name": "stars",
        "meaning": "What you gave.",
        "kinds": ("support", "review"),
        "property": "stars",
        "reducer": "sum",
        "window": "ever",
        "bins": (0.0, 5.0),
        **changes,
    }
    return PropertyFeature(**given_)


values = st.one_of(
    st.integers(-5, 5), st.floats(-9, 9), st.booleans(), st.sampled_from(["many", None])
)
reviews = st.builds(
    lambda kind, day, value: Event(
        kind=kind,
        time_s=day * DAY_S + 7,
        event_id="same for all",
        properties={} if value == "absent" else {"stars": value},
    ),
    st.sampled_from(["support", "review", "screen"]),
    st.integers(100, 140),
    values | st.just("absent"),
)


def _expected(life: list[Event], reducer: str, window: int | None, today: int) -> float | None:
    found = []
    newest = -1
    for event in life:
        value = event.properties.get("stars")
        is_number = isinstance(value, int | float)
        if event.kind == "screen" or value is None or not (is_number or reducer == "count"):
            continue
        number = float(value) if is_number else 1.0  # type: ignore[arg-type]
        found.append((event.time_s, number))
        newest = max(newest, int(event.time_s // DAY_S))
    if window is not None:
        found = [
            (time_s, number)
            for time_s, number in found
            if today - window < time_s // DAY_S <= today and time_s // DAY_S > newest - 32
        ]
    numbers = [number for _, number in found]
    if reducer == "count":
        return len(numbers)
    if reducer == "sum":
        return math.fsum(numbers)
    if not found:
        return None
    return math.fsum(numbers) / len(numbers) if reducer == "mean" else max(found)[1]


@pytest.mark.parametrize("window", ["ever", "7 days", "31 days"])
@pytest.mark.parametrize("reducer", get_args(Reducer))
@given(life=st.lists(reviews, max_size=60), today=st.integers(100, 150), size=st.integers(1, 70))
def test_custom_feature_of_any_life_is_that_of_the_oracle(
    reducer: str, window: str, life: list[Event], today: int, size: int
) -> None:
    """Also after a restart between the batches."""
    feature = _feature(reducer=reducer, window=window)
    digest = Digest(FeatureSet(custom=(feature,)))
    for start in range(0, len(life), size):
        digest.add(life[start : start + size])
        digest = Digest.from_bytes(digest.to_bytes(), digest.feature_set)
    days = feature.definition.window_days
    expected = _expected(life, reducer, days, today)
    found = digest.features(NOTHING, now_s=today * DAY_S + 9).get("stars")
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_custom_feature_of_nothing_is_zero_and_says_whether_it_is_known() -> None:
    """Sums and counts of nothing are known, a last value or mean of nothing is not."""
    for reducer, known in (("sum", True), ("count", True), ("last", False), ("mean", False)):
        digest = Digest(FeatureSet(custom=(_feature(reducer=reducer),)))
        vector = digest.features(NOTHING, now_s=0.0)
        assert (vector.get("stars") is not None) is known
        assert vector.values[-1] == 0.0


@pytest.mark.parametrize("huge", [10**400, 1e200, -1e200])
def test_custom_feature_leaves_out_a_number_that_no_sum_can_hold(huge: float) -> None:
    """Every value stays finite."""
    state = PropertyState(_feature())
    event = Event(kind="support", time_s=0.0, properties={"stars": 2})
    state.add(event)
    object.__setattr__(event, "properties", {"stars": huge})
    state.add(event)
    assert state.read(today=0) == 2.0


@pytest.mark.parametrize(
    "changes",
    [
        {"reducer": "max"},
        {"kinds": ()},
        {"property": ""},
        {"window": "now"},
        {"window": "32 days"},
        {"window": "0 days"},
        {"window": "a week"},
        {"name": "Stars"},
        {"name": "s" * 65},
        {"meaning": "no full stop"},
        {"bins": (1.0,)},
        {"bins": (1.0, 1.0)},
        {"bins": (0.0, math.inf)},
        {"bins": (math.nan, 1.0)},
        {"bins": tuple(float(edge) for edge in range(65))},
        {"sensitivity": "secret"},
    ],
)
def test_custom_feature_that_is_not_as_promised_is_refused(changes: dict[str, Any]) -> None:
    """A declaration is checked when it is made."""
    with pytest.raises(ValueError, match="expected"):
        _feature(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"ever": [0, 2.0, 5.0, 2.0]},
        {"ever": [1.0, 2.0, 5.0, 2.0]},
        {"ever": [1, 2, 5.0, 2.0]},
        {"ever": [1, math.inf, 5.0, 2.0]},
        {"ever": [1, 2.0, 5.0]},
        {"ever": None},
        {"newest": -1},
        {"newest": 1.5},
        {"days": [[200, [1, 2.0, 5.0, 2.0]]]},
        {"days": [[0, [0, 2.0, 5.0, 2.0]]]},
        {"days": [[0, [1, 2.0]]]},
        {"days": [["0", [1, 2.0, 5.0, 2.0]]]},
        {"feature": ["other"]},
        {"more": 1},
    ],
)
def test_custom_state_that_is_malformed_is_refused(changes: dict[str, Any]) -> None:
    """A snapshot of it is read strictly."""
    feature = _feature()
    state = PropertyState(feature)
    state.add(Event(kind="support", time_s=5.0, properties={"stars": 2}))
    value = {**state.to_json(), **changes}
    with pytest.raises(ValueError, match="expected"):
        PropertyState.from_json(feature, value)
