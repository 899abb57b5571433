"""The planner: that what it plans is affordable, honest and said to be useless where it is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.wire import TaskKind
from privacy.accounting import epsilon_exact, epsilon_pld
from privacy.events import POISSON_ASSUMPTION, MechanismName
from privacy.gaussian import epsilon_of
from privacy.plan_request import Request
from privacy.planner import NO, WEAK, YES, Plan, best_of, plans_for
from privacy.utility_curves import load_curves


def request(**changes: Any) -> Request:
    """100,000 people, 500 rounds of 1,000: the published example's b 50, k 10."""
    values: dict[str, Any] = {
        "population": 100_000,
        "report_goal": 1_000,
        "rounds": 500,
        "epsilon": 2.0,
        "delta": 1e-6,
    }
    return Request(**{**values, **changes})


def named(plans: tuple[Plan, ...]) -> dict[str, Plan]:
    """Plans by name."""
    return {plan.name: plan for plan in plans}


SMALL = {"population": 2_000, "report_goal": 100, "rounds": 20}


class TestParticipation:
    """What follows from people and rounds."""

    def test_separation_is_the_largest_that_the_reachable_people_allow(self) -> None:
        """50 rounds of 1,000 are half of the people."""
        assert request().participation == (50, 10)
        assert request(availability=1.0).participation == (100, 5)
        assert request(rounds=10).participation == (10, 1)

    def test_given_participation_is_kept_as_far_as_it_fits(self) -> None:
        """More turns than there are cost nothing."""
        assert request(min_separation=100).participation == (100, 5)
        assert request(min_separation=100, max_participations=9).participation == (100, 5)
        assert request(min_separation=40, max_participations=6).participation == (40, 6)

    @given(
        population=st.integers(1, 10**7),
        goal=st.integers(1, 10**5),
        rounds=st.integers(1, 5_000),
        availability=st.floats(0.01, 1.0),
    )
    def test_derived_participation_is_always_possible(
        self, population: int, goal: int, rounds: int, availability: float
    ) -> None:
        """Or there is a refusal: T · M ≤ N · k and b · M ≤ N."""
        try:
            made = request(
                population=population, report_goal=goal, rounds=rounds, availability=availability
            )
        except ValueError:
            assert goal > population
            return
        separation, participations = made.participation
        assert separation * goal <= population
        assert rounds * goal <= population * participations
        assert (participations - 1) * separation < rounds

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"report_goal": 100_001}, "needs more than the 100,000 people"),
            ({"min_separation": 101}, "101,000 different people"),
            ({"min_separation": 501}, "more than the 500 rounds"),
            ({"max_participations": 4}, "500,000 reports; 100,000 people give at most 400,000"),
            ({"population": 0}, "population must be at least 1"),
            ({"report_goal": 0}, "report goal must be at least 1"),
            ({"rounds": 0}, "rounds must be at least 1"),
            ({"rounds": 70_000}, "at most 65,536"),
            ({"min_separation": 0}, "min separation must be at least 1"),
            ({"max_participations": -1}, "max participations must be at least 1"),
            ({"dimension": 0}, "dimension"),
            ({"epsilon": 0.0}, "epsilon"),
            ({"epsilon": math.inf}, "epsilon"),
            ({"epsilon": math.nan}, "epsilon"),
            ({"delta": 0.0}, "delta"),
            ({"delta": 1.0}, "delta"),
            ({"delta": math.nan}, "delta"),
            ({"availability": 0.0}, "availability"),
            ({"availability": 1.1}, "availability"),
        ],
    )
    def test_request_that_cannot_be_is_refused_with_the_numbers(
        self, changes: dict[str, Any], words: str
    ) -> None:
        """One clear line."""
        with pytest.raises(ValueError, match=words):
            request(**changes)

    def test_unwise_requests_are_warned_of(self) -> None:
        """Legal: the people may be that easy to reach."""
        assert request().warnings() == ()
        assert "80% of all people" in request(min_separation=80).warnings()[0]
        assert "publish one person" in request(delta=0.01).warnings()[0]


class TestPlans:
    """What is offered, and at what price."""

    def test_plans_of_the_published_example_have_its_numbers(self) -> None:
        """RMSE 50.05, 24.49, 10.88 and 11.50 at ρ ½; BLT's sensitivity 5.967.

        The published tree pays for a node that the run ends inside; ours has none.
        """
        plans = named(plans_for(request()))
        assert list(plans) == [
            *("gaussian", "independent-rounds", "tree", "banded-toeplitz", "blt")
        ]
        sigma = plans["gaussian"].noise_multiplier
        published = {"independent-rounds": 50.05, "tree": 24.49, "banded-toeplitz": 10.88}
        for name, rmse in {**published, "blt": 11.50}.items():
            plan = plans[name]
            expected = sigma * rmse / (1_000 * 500)
            near = 1e-2 if name == "tree" else 1e-3
            assert plan.noise_per_entry == pytest.approx(expected, rel=near)
            assert plan.relative_error == pytest.approx(expected * math.sqrt(32_000), rel=near)
        assert plans["blt"].sensitivity == pytest.approx(5.967, abs=1e-3)

    def test_every_plan_spends_the_budget_and_no_more(self) -> None:
        """By the curve that the ledger decides with, from the event that it would book."""
        for plan in plans_for(request(**SMALL, epsilon=3.0)):
            spent = epsilon_exact([plan.event()], 1e-6)
            assert spent is not None
            assert 3.0 * (1 - 1e-8) <= spent <= 3.0
            assert plan.rho == pytest.approx(0.5 / plan.noise_multiplier**2)

    def test_one_round_is_one_release_of_the_task_itself(self) -> None:
        """Nothing to correlate."""
        (plan,) = plans_for(request(rounds=1, task=TaskKind.ITEM_COUNTS))
        assert (plan.mechanism, plan.task) == (MechanismName.GAUSSIAN, TaskKind.ITEM_COUNTS)
        assert (plan.report_goal, plan.assumes) == (1_000, ())

    def test_one_release_beside_training_asks_everybody_once_for_statistics(self) -> None:
        """The route that small populations should take."""
        plan = plans_for(request(**SMALL))[0]
        assert plan.task is TaskKind.ITEM_STATISTICS
        assert (plan.report_goal, plan.rounds) == (1_000, 1)

    def test_run_says_who_must_keep_to_what(self) -> None:
        """Its price rests on the participation."""
        plan = named(plans_for(request(**SMALL)))["blt"]
        assert plan.assumes == plan.event().assumes
        assert "more than 2 of 20 rounds, at least 10 apart" in plan.assumes[0]

    @settings(max_examples=20)
    @given(sigma=st.floats(0.3, 30.0))
    def test_noise_multiplier_is_over_the_sensitivity_of_the_whole_release(
        self, sigma: float
    ) -> None:
        """So ε depends on it alone."""
        plan = named(plans_for(request(**SMALL)))["tree"]
        changed = replace(plan, noise_multiplier=sigma)
        expected = epsilon_of(delta=1e-6, noise_multiplier=sigma)
        assert epsilon_exact([changed.event()], 1e-6) == pytest.approx(expected, rel=1e-12)


class TestPoisson:
    """Only when asked, and with its assumption."""

    def test_poisson_is_not_offered_unasked(self) -> None:
        """Devices check in when they can."""
        for plan in plans_for(request(**SMALL)):
            assert plan.sampling_probability is None
            assert not any(POISSON_ASSUMPTION in words for words in plan.assumes)

    def test_poisson_fits_the_budget_by_pld_and_names_its_assumption(self) -> None:
        """Cheaper than independent rounds, and never recommended."""
        plans = plans_for(request(**SMALL, poisson=True))
        plan = plans[-1]
        assert plan.sampling_probability == 0.05
        assert plan.assumes[0].startswith(POISSON_ASSUMPTION)
        assert (plan.event().min_separation, plan.event().max_participations) == (1, 20)
        spent = epsilon_pld([plan.event()], 1e-6)
        assert 1.98 <= spent <= 2.0
        assert plan.relative_error < named(plans)["independent-rounds"].relative_error
        assert best_of([plan]) is None

    def test_poisson_of_one_round_fits_too(self) -> None:
        """One sampled release."""
        plan = plans_for(request(**{**SMALL, "rounds": 1}, poisson=True))[-1]
        assert plan.factorisation is None
        assert 1.98 <= epsilon_pld([plan.event()], 1e-6) <= 2.0

    def test_poisson_of_everybody_is_refused(self) -> None:
        """Nothing would be drawn."""
        everybody = request(population=100, report_goal=100, rounds=1, poisson=True)
        with pytest.raises(ValueError, match="below the population"):
            plans_for(everybody)


class TestVerdict:
    """Whether it is worth the budget."""

    def test_training_of_a_small_population_is_said_to_drown(self) -> None:
        """6,040 people and a MovieLens-sized table, ε 1: measured to stay at popularity."""
        plans = named(
            plans_for(
                request(
                    population=6_040,
                    report_goal=200,
                    rounds=100,
                    epsilon=1.0,
                    dimension=3_706 * 32,
                ),
                curves=load_curves(),
            )
        )
        for name in ("independent-rounds", "tree", "banded-toeplitz", "blt"):
            assert plans[name].verdict == NO
            assert "drowns" in plans[name].why
        assert plans["gaussian"].verdict in (WEAK, YES)
        chosen = best_of(tuple(plans.values()))
        assert chosen is plans["gaussian"]

    def test_training_of_a_large_population_is_worth_it(self) -> None:
        """A million people at ε 1."""
        plans = named(
            plans_for(
                request(population=1_000_000, report_goal=5_000, rounds=200, epsilon=1.0),
                curves=load_curves(),
            )
        )
        assert plans["blt"].verdict == YES
        assert plans["blt"].prediction is not None

    def test_two_tasks_are_compared_on_the_same_data(self) -> None:
        """Shares of two data sets' gains would be no comparison."""
        plans = plans_for(request(**SMALL), curves=load_curves())
        assert {plan.prediction.curve for plan in plans if plan.prediction} == {
            "online-retail-item-statistics",
            "online-retail-item-training",
        }

    def test_without_a_curve_the_verdict_is_noise_against_signal(self) -> None:
        """And nothing drowned is recommended."""
        few = request(population=100, report_goal=50, rounds=1, task=TaskKind.EXPERIMENT_OUTCOMES)
        (plan,) = plans_for(few, curves=load_curves())
        assert plan.prediction is None
        assert (plan.verdict, best_of([plan])) == (WEAK, plan)
        (drowned,) = plans_for(replace(few, dimension=100_000), curves=load_curves())
        assert (drowned.verdict, best_of([drowned])) == (NO, None)
        (good,) = plans_for(replace(few, dimension=1), curves=load_curves())
        assert good.verdict == YES

    def test_curve_of_another_task_is_refused(self) -> None:
        """A name that was given is used or refused, never ignored."""
        with pytest.raises(ValueError, match="no utility curve 'x'"):
            plans_for(request(**SMALL), curves=load_curves(), curve="x")
        counts = request(**{**SMALL, "rounds": 1}, task=TaskKind.ITEM_COUNTS)
        with pytest.raises(ValueError, match="item-counts"):
            plans_for(counts, curves=load_curves(), curve="movielens-1m")
        with pytest.raises(ValueError, match="of item-training"):
            plans_for(request(**SMALL), curves=load_curves(), curve="movielens-1m")
