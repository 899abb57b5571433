"""The experiments of one person, through the whole device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client_sdk import Homebody
from client_sdk.experience.experiments import Arm, Experiment, Guard, Metric, Standing
from client_sdk.federation.encoders import expected_dimension
from client_sdk.testing import (
    START_S,
    FakeAggregator,
    FakeReleases,
    FixedClock,
    MemoryKeyStore,
    sample_catalogue,
)
from client_sdk.wire import Contribution, Declined, Refusal, TaskKind, read_answer, read_frame

DAY_S = 86_400.0
LINEN = Experiment(
    name="linen-first",
    arms=(Arm(name="control"), Arm(name="linen")),
    metrics=(Metric(name="bought", event="purchase", window_s=DAY_S),),
    guards=(Guard(name="complaints", event="support", window_s=DAY_S, limit=1.0),),
    start_s=START_S - DAY_S,
    end_s=START_S + 30 * DAY_S,
)
OpenDesk = Callable[..., Homebody]


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands."""
    return FixedClock()


@pytest.fixture
def open_desk(tmp_path: Path, clock: FixedClock) -> OpenDesk:
    """Open stores of one key store with the experiment."""
    keys = MemoryKeyStore()

    def open_(name: str = "home", **more: Any) -> Homebody:
        return Homebody.open(
            tmp_path / name, key_store=keys, clock=clock, experiments=(LINEN,), **more
        )

    return open_


def test_desk_without_consent_has_nobody_in_it(open_desk: OpenDesk) -> None:
    """No arm, no exposure, no log; and the same after a withdrawal."""
    with open_desk() as home:
        assert home.experiments.shown("linen-first").standing is Standing.NO_CONSENT
        home.consent.grant("personalise")
        assert home.experiments.shown("linen-first").standing is Standing.IN
        home.consent.withdraw("personalise")
        assert home.experiments.assignment("linen-first").arm is None
        with pytest.raises(ValueError, match="linen-first"):
            home.experiments.assignment("no-such")


def test_desk_assignment_is_of_the_store_and_outlives_the_process(open_desk: OpenDesk) -> None:
    """One store, one arm for good; among many stores both arms are met."""
    arms = set()
    for number in range(12):
        with open_desk(f"home-{number}") as home:
            home.consent.grant("personalise")
            first = home.experiments.assignment("linen-first")
        with open_desk(f"home-{number}") as home:
            assert home.experiments.assignment("linen-first") == first
        arms.add(first.arm)
    assert arms == {"control", "linen"}


def test_desk_outcome_stands_after_its_windows_and_counts_what_was_tracked(
    open_desk: OpenDesk, clock: FixedClock
) -> None:
    """A purchase before the exposure counts for nothing, one after it does, also when reopened."""
    with open_desk() as home:
        home.consent.grant("personalise")
        home.track("purchase", item="mug")
        clock.advance(60)
        home.experiments.shown("linen-first")
        clock.advance(60)
        home.track("purchase", item="mug")
        assert home.experiments.outcomes() == {}
    clock.advance(2 * DAY_S + LINEN.late_s)
    with open_desk() as home:
        outcome = home.experiments.outcomes()[LINEN.sha256]
        assert outcome.outcomes == (1.0,)


def test_desk_guard_stops_the_experiment_on_this_device(open_desk: OpenDesk) -> None:
    """Two complaints, and the person is shown no arm any more."""
    with open_desk() as home:
        home.consent.grant("personalise")
        home.experiments.shown("linen-first")
        home.track("support")
        assert home.experiments.assignment("linen-first").standing is Standing.IN
        home.track("support")
        assert home.experiments.assignment("linen-first").standing is Standing.STOPPED


def test_desk_outcome_leaves_once_as_one_bounded_vector(
    open_desk: OpenDesk, clock: FixedClock
) -> None:
    """A signed order for statistics is answered once, within the clip norm, however it is asked."""
    aggregator, catalogue = FakeAggregator(), sample_catalogue()
    releases = FakeReleases(active=aggregator.release(catalogue))
    with open_desk(releases=releases) as home:
        home.consent.grant("personalise", "statistics")
        home.track("purchase", item="mug")
        home.experiments.shown("linen-first")
        home.track("purchase", item="mug")
        clock.advance(2 * DAY_S + LINEN.late_s)
        answers = []
        for task in ("aa", "bb"):
            order = aggregator.order(
                TaskKind.EXPERIMENT_OUTCOMES,
                catalogue,
                task_id=task * 16,
                parameters=LINEN.parameters(),
                dimension=6,
                closes_at_s=int(clock.now_s()) + 600,
            )
            assert expected_dimension(order, n_items=8) == order.dimension
            answers.append(read_answer(read_frame(home.answer(aggregator.ask(order)))))
    contribution, refused = answers
    assert isinstance(contribution, Contribution)
    assert 0 < contribution.vector.norm() <= order.clip_norm * (1 + 1e-6)
    assert isinstance(refused, Declined)
    assert refused.reason is Refusal.ALREADY_CONTRIBUTED
