"""Histories and their unit-norm vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence import History, own_frequency, recency, statistics_vector
from client_sdk.intelligence.history import (
    DAY_S,
    SESSION_GAP_S,
    SESSION_WEIGHT,
    taste_weights,
)

event_lists = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.floats(0, 1e10, allow_nan=False),
        st.floats(1e-3, 1e6, allow_nan=False),
    ),
    max_size=40,
)


def _history(events: list[tuple[int, float, float]], now_s: float = 1e9) -> History:
    return History.from_events(
        items=[e[0] for e in events],
        times_s=[e[1] for e in events],
        weights=[e[2] for e in events],
        now_s=now_s,
    )


@given(event_lists)
def test_from_events_any_order_gives_the_same_history(
    events: list[tuple[int, float, float]],
) -> None:
    """Events may arrive in any order: sums and latest times don't depend on it."""
    one, other = _history(events), _history(events[::-1])
    assert one.items.tolist() == sorted({e[0] for e in events})
    assert np.array_equal(one.items, other.items)
    assert np.allclose(one.counts, other.counts)
    assert np.array_equal(one.last_time_s, other.last_time_s)


@given(event_lists, st.sampled_from(["binary", "log"]), st.floats(1e-3, 1e9))
def test_statistics_vector_any_history_has_norm_one(
    events: list[tuple[int, float, float]], weighting: str, half_life_days: float
) -> None:
    """The norm that the privacy claim rests on holds for every history."""
    items, values = statistics_vector(
        _history(events),
        weighting=weighting,  # type: ignore[arg-type]
        half_life_days=half_life_days,
    )
    assert len(items) == len(values)
    assert np.isfinite(values).all()
    if events:
        assert abs(float(np.linalg.norm(values.astype(np.float64))) - 1.0) < 1e-6


@given(event_lists, st.sets(st.integers(0, 60)))
def test_statistics_vector_within_a_list_gives_positions_and_norm_one(
    events: list[tuple[int, float, float]], wanted: set[int]
) -> None:
    """Restricted to the top items, the norm is taken over them alone."""
    within = np.array(sorted(wanted), np.int32)
    positions, values = statistics_vector(_history(events), within=within)
    expected = sorted({e[0] for e in events} & wanted)
    assert within[positions].tolist() == expected
    if expected:
        assert abs(float(np.linalg.norm(values.astype(np.float64))) - 1.0) < 1e-6


def test_statistics_vector_weightings_follow_their_formula() -> None:
    """Binary forgets counts, log keeps them in log(1 + count)."""
    history = _history([(1, 0.0, 1.0), (2, 0.0, 3.0)])
    binary = statistics_vector(history, weighting="binary")[1]
    log = statistics_vector(history, weighting="log")[1]
    assert binary[1] / binary[0] == pytest.approx(1.0)
    assert log[1] / log[0] == pytest.approx(2.0, rel=1e-6)
    with pytest.raises(ValueError, match="weighting"):
        statistics_vector(history, weighting="cube")  # type: ignore[arg-type]


def test_recency_one_half_life_halves_and_the_future_counts_as_now() -> None:
    """A weight halves in a half-life; a clock that runs ahead adds nothing."""
    now = 100 * DAY_S
    history = History.from_events(
        items=[0, 1, 2], times_s=[now, now - 30 * DAY_S, now + 5 * DAY_S], now_s=now
    )
    assert recency(history, 30.0).tolist() == [1.0, 0.5, 1.0]
    assert recency(history, float("inf")).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="half_life_days"):
        recency(history, 0.0)


def test_own_frequency_lately_bought_stands_before_long_ago() -> None:
    """Of two items had as often, the later one weighs more."""
    now = 400 * DAY_S
    history = History.from_events(items=[3, 9], times_s=[now - 300 * DAY_S, now], now_s=now)
    own = own_frequency(history, half_life_days=60.0)
    assert own[1] > own[0] > 0


def test_history_empty_gives_empty_vectors() -> None:
    """Somebody new has a history, and every vector of it is empty."""
    history = History.empty(now_s=5.0)
    assert len(history) == 0
    assert len(statistics_vector(history)[1]) == 0
    assert len(own_frequency(history, half_life_days=1.0)) == 0


def test_history_is_read_only_and_keeps_no_caller_array() -> None:
    """A history is a value: nobody changes it, not even through the arrays it was made from."""
    items = np.array([1, 2], np.int32)
    history = History(
        items=items, counts=np.ones(2, np.float32), last_time_s=np.zeros(2), now_s=0.0
    )
    items[0] = 7
    assert history.items.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        history.items[0] = 3


@pytest.mark.parametrize(
    ("items", "counts", "times", "now_s"),
    [
        ([2, 1], [1, 1], [0, 0], 0.0),
        ([1, 1], [1, 1], [0, 0], 0.0),
        ([-1, 1], [1, 1], [0, 0], 0.0),
        ([1], [1, 1], [0], 0.0),
        ([1], [0], [0], 0.0),
        ([1], [np.nan], [0], 0.0),
        ([1], [1], [np.inf], 0.0),
        ([1], [1], [0], np.nan),
        ([2**40], [1], [0], 0.0),
        ([1.5], [1], [0], 0.0),
        ([[1]], [1], [0], 0.0),
    ],
)
def test_history_broken_promise_is_refused(
    items: list[int], counts: list[float], times: list[float], now_s: float
) -> None:
    """What isn't sorted, unique, positive and finite is refused when it is made."""
    with pytest.raises(ValueError, match="must"):
        History(
            items=np.array(items),
            counts=np.array(counts, np.float32),
            last_time_s=np.array(times, np.float64),
            now_s=now_s,
        )


@pytest.mark.parametrize(
    ("items", "times", "weights"),
    [([-1], [0.0], None), ([2**31], [0.0], None), ([1], [0.0, 1.0], None), ([1], [0.0], [1.0, 2])],
)
def test_from_events_that_do_not_fit_are_refused(
    items: list[int], times: list[float], weights: list[float] | None
) -> None:
    """Events outside any catalogue, or columns of different lengths, are a caller's mistake."""
    with pytest.raises(ValueError, match="must"):
        History.from_events(items=items, times_s=times, weights=weights, now_s=0.0)


def test_taste_weights_raise_the_session_while_it_lasts() -> None:
    """What came without a gap of half an hour weighs more, until such a gap has passed."""
    gap, last = SESSION_GAP_S, 1.7e9
    times = [last - 90 * DAY_S, last - 2.7 * gap, last - 1.6 * gap, last - 0.8 * gap, last]
    history = History.from_events(items=range(5), times_s=times, now_s=last + gap - 1)
    during = taste_weights(history, half_life_days=np.inf)
    after = taste_weights(history.at(last + gap), half_life_days=np.inf)
    assert (during / after).tolist() == [1.0, 1.0, *[SESSION_WEIGHT] * 3]
    assert not after.flags.writeable
    assert len(taste_weights(History.empty(now_s=0.0), half_life_days=1.0)) == 0


def test_statistics_vector_knows_no_session() -> None:
    """What a task sends on is the same in a session and after it."""
    history = History.from_events(items=[1, 2], times_s=[0.0, DAY_S], now_s=DAY_S + 60)
    later = History.from_events(items=[1, 2], times_s=[0.0, DAY_S], now_s=3 * DAY_S)
    assert history.in_session
    assert not later.in_session
    for read in (statistics_vector, lambda h: (0, own_frequency(h, half_life_days=9.0))):
        assert read(history)[1].tobytes() == read(later)[1].tobytes()
