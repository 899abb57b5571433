"""The log: what counts as an exposure and as an outcome, and when a guard stops it."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.experience.experiments import (
    EXPERIMENT_STREAM,
    Experiment,
    ExperimentLog,
    Standing,
    assign,
)
from client_sdk.signals.events import Event
from client_sdk.wire.outcomes import ExperimentOutcome, OutcomeLayout
from tests.client_sdk.experience.experiments.conftest import DAY_S, START_S, MakeExperiment

SHOWN_S = START_S + DAY_S


def purchase(time_s: float, price: float = 10.0, quantity: float | None = None) -> Event:
    """Somebody bought a shirt."""
    return Event(kind="purchase", item_id="shirt", price=price, quantity=quantity, time_s=time_s)


def dismissed(time_s: float) -> Event:
    """Somebody wiped a message away."""
    return Event(kind="message_dismissed", time_s=time_s)


def shown(experiment: Experiment, group: int = 1) -> ExperimentLog:
    """A log of somebody who was exposed."""
    return ExperimentLog.empty(experiment).exposed(experiment, group=group, time_s=SHOWN_S)


def test_log_without_an_exposure_counts_nothing(make: MakeExperiment) -> None:
    """Who was only assigned is in no figure."""
    experiment = make()
    log = ExperimentLog.empty(experiment).told(experiment, purchase(SHOWN_S), now_s=SHOWN_S)
    assert log == ExperimentLog.empty(experiment)
    assert log.outcome(experiment, now_s=experiment.end_s * 2) is None
    assert log.due_s(experiment) == math.inf


def test_log_first_exposure_wins(make: MakeExperiment) -> None:
    """A second exposure moves neither the time nor the group."""
    experiment = make()
    log = shown(experiment)
    again = log.exposed(experiment, group=0, time_s=SHOWN_S + 1)
    assert again == log
    assert (log.group, log.exposed_at_s) == (1, SHOWN_S)


def test_log_exposure_outside_of_its_window_does_not_count(make: MakeExperiment) -> None:
    """The window holds its first moment and not its last."""
    experiment = make(exposure_window_s=2 * DAY_S)
    for time_s, counts in (
        (START_S - 1, False), (START_S, True),
        (START_S + 2 * DAY_S - 1, True), (START_S + 2 * DAY_S, False),
    ):  # fmt: skip
        log = ExperimentLog.empty(experiment).exposed(experiment, group=0, time_s=time_s)
        assert (log.group is not None) is counts


def test_log_event_counts_by_its_own_time_within_the_window(make: MakeExperiment) -> None:
    """From the exposure on, until before the end of each metric's own window."""
    experiment = make()
    for after_s, bought, spent in (
        (-1, 0.0, 0.0), (0, 1.0, 10.0), (7 * DAY_S - 1, 1.0, 10.0), (7 * DAY_S, 0.0, 10.0),
        (14 * DAY_S, 0.0, 0.0),
    ):  # fmt: skip
        event = purchase(SHOWN_S + after_s)
        log = shown(experiment).told(experiment, event, now_s=SHOWN_S + 15 * DAY_S)
        assert log.totals == (bought, spent)


def test_log_event_told_late_counts_until_the_outcome_stands(make: MakeExperiment) -> None:
    """A phone that was off for a day still counts; after the outcome may be sent, nothing does."""
    experiment = make(late_s=2 * DAY_S)
    log = shown(experiment)
    due_s = SHOWN_S + 16 * DAY_S
    assert log.due_s(experiment) == due_s
    early = purchase(SHOWN_S + DAY_S)
    assert log.told(experiment, early, now_s=due_s - 1).totals == (1.0, 10.0)
    assert log.told(experiment, early, now_s=due_s) == log
    assert log.outcome(experiment, now_s=due_s - 1) is None
    assert log.outcome(experiment, now_s=due_s) == ExperimentOutcome(group=1, outcomes=(0.0, 0.0))


def test_log_total_never_exceeds_its_bound(make: MakeExperiment) -> None:
    """Who buys the shop weighs as much as who reaches the bound."""
    experiment = make()
    log = shown(experiment)
    for number in range(5):
        event = purchase(SHOWN_S + number, price=20.0, quantity=3.0)
        log = log.told(experiment, event, now_s=SHOWN_S + 10)
    assert log.totals == (1.0, 50.0)
    outcome = log.outcome(experiment, now_s=log.due_s(experiment))
    assert outcome == ExperimentOutcome(group=1, outcomes=(1.0, 1.0))


def test_log_guard_above_its_limit_stops_the_experiment_on_this_device(
    make: MakeExperiment,
) -> None:
    """Three dismissals where two are allowed; the outcomes still count."""
    experiment = make()
    log, key = shown(experiment), bytes(32)
    for number in range(1, 4):
        assert assign(experiment, key=key, now_s=SHOWN_S, log=log).standing is Standing.IN
        log = log.told(experiment, dismissed(SHOWN_S + number), now_s=SHOWN_S + number)
    assert (log.stopped_by, log.stopped_at_s) == ("dismissed", SHOWN_S + 3)
    stopped = assign(experiment, key=key, now_s=SHOWN_S + 4, log=log)
    assert (stopped.standing, stopped.arm) == (Standing.STOPPED, None)
    log = log.told(experiment, purchase(SHOWN_S + 5), now_s=SHOWN_S + 5)
    assert log.totals == (1.0, 10.0)


def test_log_guard_leaves_the_holdout_alone(make: MakeExperiment) -> None:
    """Nothing is done to the holdout, so nothing has to stop."""
    experiment = make(holdout=0.1)
    log = shown(experiment, group=2)
    for number in range(9):
        log = log.told(experiment, dismissed(SHOWN_S + number), now_s=SHOWN_S + number)
    assert not log.stopped


def test_log_survives_an_earlier_end_and_a_larger_share(make: MakeExperiment) -> None:
    """The stage may change while it runs; anything else is another experiment."""
    experiment = make(share=0.1)
    log = shown(experiment)
    log.check(replace(experiment, share=1.0, end_s=START_S + 30 * DAY_S))
    with pytest.raises(ValueError, match="another definition"):
        log.check(replace(experiment, late_s=0.0))


def test_log_group_that_the_experiment_has_not_is_refused(make: MakeExperiment) -> None:
    """Neither an exposure nor a kept log may name one."""
    experiment = make()
    with pytest.raises(ValueError, match="group"):
        ExperimentLog.empty(experiment).exposed(experiment, group=2, time_s=SHOWN_S)
    kept = ExperimentLog.from_json({**shown(experiment).to_json(), "group": 2})
    with pytest.raises(ValueError, match="group"):
        kept.check(experiment)


def test_log_record_holds_no_item_and_no_event_id(make: MakeExperiment) -> None:
    """What is kept are sums and times."""
    experiment = make()
    log = shown(experiment).told(experiment, purchase(SHOWN_S), now_s=SHOWN_S)
    record = log.to_record()
    assert (record.stream, record.key) == (EXPERIMENT_STREAM, experiment.sha256)
    assert "shirt" not in json.dumps(record.value)
    assert ExperimentLog.from_json(json.loads(json.dumps(record.value))) == log


@pytest.mark.parametrize(
    "changes",
    [
        {"group": None}, {"group": -1}, {"group": True}, {"group": "1"}, {"exposed_at_s": None},
        {"totals": "1"}, {"totals": [-1.0, 0.0]}, {"totals": [math.nan, 0.0]},
        {"totals": ["1", 0.0]}, {"stopped_by": "x"}, {"stopped_at_s": 1.0}, {"sha256": 3},
        {"extra": 1}, {"group": None, "exposed_at_s": None},
    ],
)  # fmt: skip
def test_log_from_json_of_anything_else_is_refused(
    changes: dict[str, Any], make: MakeExperiment
) -> None:
    """A damaged state is refused, not guessed at."""
    experiment = make()
    log = shown(experiment).told(experiment, purchase(SHOWN_S), now_s=SHOWN_S)
    with pytest.raises(ValueError, match="expected"):
        ExperimentLog.from_json({**log.to_json(), **changes})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["show", "purchase", "message_dismissed", "search"]),
        st.floats(-5 * DAY_S, 80 * DAY_S),
        st.floats(0, 1e9),
        st.floats(-3 * DAY_S, 30 * DAY_S),
        st.integers(0, 2),
    ),
    max_size=30,
)


@given(steps=STEPS, clip_norm=st.floats(1e-3, 10.0))
def test_contribution_norm_is_bounded_whatever_the_person_did(
    steps: list[tuple[str, float, float, float, int]], clip_norm: float, make: MakeExperiment
) -> None:
    """No history makes a vector above the clip norm, or of two groups; each log round trips."""
    experiment = make(holdout=0.1, exposure_window_s=20 * DAY_S)
    log = ExperimentLog.empty(experiment)
    for what, after_s, price, late_s, group in steps:
        time_s = max(0.0, START_S + after_s)
        if what == "show":
            log = log.exposed(experiment, group=group, time_s=time_s)
        else:
            event = Event(
                kind=what, time_s=time_s, item_id="i", price=price, quantity=1.0 + abs(late_s)
            )
            log = log.told(experiment, event, now_s=time_s + late_s)
        assert ExperimentLog.from_json(json.loads(json.dumps(log.to_json()))) == log
    outcome = log.outcome(experiment, now_s=1e12)
    assert (outcome is None) is (log.group is None)
    if outcome is not None:
        layout = OutcomeLayout(
            groups=len(experiment.groups), metrics=len(experiment.metrics), clip_norm=clip_norm
        )
        vector = layout.pack(outcome)
        assert 0 < vector.norm() <= clip_norm
        assert len({int(index) // 5 for index in vector.indices}) == 1
