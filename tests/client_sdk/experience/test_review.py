"""Outcomes, labels and the queue of what waits."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decisions import Decision, Status
from client_sdk.experience.guardrails.policy import Review
from client_sdk.experience.review import Label, Outcome, OutcomeWindows, Result
from client_sdk.experience.review_queue import ReviewQueue

REVIEW = Review(expires_hours=1.0)


def waiting(name: str, time_s: float = 0.0, status: Status = Status.WAITING) -> Decision:
    """A decision that waits since a time."""
    return Decision(
        decision_id=name,
        time_s=time_s,
        moment=Moment(name="home"),
        action=None,
        proposed=Action(action_id=f"action-{name}"),
        status=status,
        reason="Because.",
        model="prior",
        policy="shop",
        confidence=0.5,
        propensity=1.0,
        stages=(),
    )


@pytest.mark.parametrize(
    ("kind", "after_s", "expected"),
    [
        ("clicked", 0.0, True),
        ("clicked", 86_400.0, True),
        ("clicked", 86_400.1, False),
        ("clicked", -0.1, False),
        ("purchase", 7 * 86_400.0, True),
        ("unheard-of", 7 * 86_400.0, True),
        ("unheard-of", 8 * 86_400.0, False),
    ],
)
def test_windows_at_their_edge_count_or_not(kind: str, after_s: float, expected: bool) -> None:
    """The end of a window is within it."""
    assert OutcomeWindows().within(kind, after_s) is expected


@pytest.mark.parametrize("hours", [{"clicked": 0.0}, {"clicked": 1e9}, {"Clicked": 1.0}])
def test_windows_out_of_range_are_refused(hours: dict[str, float]) -> None:
    """Above 0, at most 90 days, of a kind that is a name."""
    with pytest.raises(ValueError, match="expected"):
        OutcomeWindows(hours=hours)


@pytest.mark.parametrize(
    "bad", [{"kind": ""}, {"value": float("nan")}, {"time_s": float("inf")}, {"kind": "A B"}]
)
def test_outcome_not_as_promised_is_refused(bad: dict[str, Any]) -> None:
    """Kind, value and time are checked."""
    with pytest.raises(ValueError, match="expected"):
        Outcome(**{"kind": "clicked", "time_s": 0.0, **bad})


@given(
    st.lists(
        st.builds(
            Outcome,
            kind=st.sampled_from(["clicked", "purchase"]),
            time_s=st.floats(0, 1e9),
            value=st.floats(-5, 5),
        ),
        max_size=4,
    ),
    st.none() | st.builds(
        Label,
        decision_id=st.just("d"),
        approved=st.booleans(),
        by=st.text("ab", min_size=1),
        time_s=st.floats(0, 1e9),
    ),
    st.none() | st.floats(0, 1e9),
)  # fmt: skip
def test_result_json_round_trip_is_equal(
    outcomes: list[Outcome], label: Label | None, shown_s: float | None
) -> None:
    """What was written is read back; it worked if one outcome was worth something."""
    result = Result(outcomes=tuple(outcomes), label=label, shown_s=shown_s)
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert result.worked is any(outcome.value > 0 for outcome in outcomes)


@pytest.mark.parametrize("by", ["", " ", "x" * 501])
def test_label_needs_who(by: str) -> None:
    """A label says who gave it."""
    with pytest.raises(ValueError, match="who"):
        Label(decision_id="d", approved=True, by=by, time_s=0.0)


def test_queue_expired_leaves_by_itself() -> None:
    """At the end of its time it waits still, after it no more."""
    queue = ReviewQueue([waiting("a"), waiting("b", 100.0), waiting("c", 0.0, Status.CHOSEN)])
    assert [one.decision_id for one in queue.waiting(3_600.0, REVIEW)] == ["a", "b"]
    assert queue.action_ids(3_601.0, REVIEW) == {"action-b"}
    with pytest.raises(ValueError, match="waits"):
        queue.decision("a", 3_601.0, REVIEW)
    assert queue.decision("b", 3_601.0, REVIEW).decision_id == "b"


def test_queue_dropped_or_removed_waits_no_more() -> None:
    """What the log let go is not offered to a person."""
    queue = ReviewQueue([waiting("a"), waiting("b"), waiting("c")])
    queue.drop(["a", "unknown"])
    queue.remove("b")
    assert [one.decision_id for one in queue.waiting(0.0, REVIEW)] == ["c"]
    queue.clear()
    assert queue.waiting(0.0, REVIEW) == []
