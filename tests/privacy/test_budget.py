"""The ledger's rules: what fits, what does not, and what never mixes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.wire import TaskKind
from privacy.accounting import epsilon_gaussian
from privacy.budget import Budget, Scope, admits, scope_of
from privacy.events import AssumedPopulation, MechanismName, NoiseSource, ReleaseEvent
from privacy.gaussian import noise_multiplier_for, noise_multipliers_for

BUDGET = Budget(epsilon=2.0, delta=1e-6)


def event(noise_multiplier: float = 10.0, **changes: Any) -> ReleaseEvent:
    """One Gaussian release."""
    values: dict[str, Any] = {
        "kind": TaskKind.ITEM_COUNTS,
        "task_id": "01" * 16,
        "population": "shop",
        "noise_multiplier": noise_multiplier,
        "clip_norm": 1.0,
        "dimension": 5,
        "report_goal": 10,
    }
    return ReleaseEvent(**{**values, **changes})


class TestAdmits:
    """The table of edge cases in `privacy.budget`."""

    @given(
        epsilon=st.floats(0.01, 20.0),
        weights=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6),
    )
    def test_planned_releases_are_all_admitted_and_nothing_after_them(
        self, epsilon: float, weights: list[float]
    ) -> None:
        """The budget is spent to the last drop, and not a drop beyond."""
        budget = Budget(epsilon=epsilon, delta=1e-6)
        shares = [weight / math.fsum(weights) for weight in weights]
        past: list[ReleaseEvent] = []
        for sigma in noise_multipliers_for(epsilon=epsilon, delta=1e-6, shares=shares):
            verdict = admits(budget=budget, past=past, new=event(sigma))
            assert verdict.admitted, verdict.reason
            past.append(event(sigma))
        whole = noise_multiplier_for(epsilon=epsilon, delta=1e-6)
        assert not admits(budget=budget, past=past, new=event(100 * whole)).admitted

    @settings(max_examples=50)
    @given(sigmas=st.lists(st.floats(0.3, 200.0), max_size=20))
    def test_budget_never_rises_and_is_never_overspent(self, sigmas: list[float]) -> None:
        """Whatever is asked for: ε only grows, and what was admitted stays inside."""
        past: list[ReleaseEvent] = []
        last = 0.0
        for sigma in sigmas:
            verdict = admits(budget=BUDGET, past=past, new=event(sigma))
            assert verdict.epsilon_before == last
            assert verdict.epsilon_after > verdict.epsilon_before
            if verdict.admitted:
                past.append(event(sigma))
                last = verdict.epsilon_after
            assert epsilon_gaussian(past, BUDGET.delta) <= BUDGET.epsilon
        assert admits(budget=BUDGET, past=past, new=event(1e5)).epsilon_before == last

    def test_refusal_says_what_it_would_cost_and_what_there_is(self) -> None:
        """In words for a log, with numbers."""
        verdict = admits(budget=BUDGET, past=[], new=event(0.5))
        assert not verdict.admitted
        assert "11.24" in verdict.reason or "ε" in verdict.reason
        assert "ε 2 at δ 1e-06" in verdict.reason

    def test_release_without_noise_is_refused_whatever_the_budget(self) -> None:
        """No budget pays for it."""
        unsafe = event(0.0, mechanism=MechanismName.UNSAFE_NO_NOISE, noise_source=NoiseSource.NONE)
        verdict = admits(budget=Budget(epsilon=1e6, delta=0.5), past=[], new=unsafe)
        assert not verdict.admitted
        assert verdict.epsilon_after == math.inf

    def test_all_tasks_and_purposes_share_one_budget(self) -> None:
        """The same people are in all of them."""
        sigma = noise_multiplier_for(epsilon=2.0, delta=1e-6)
        past = [event(sigma, kind=TaskKind.ITEM_COUNTS)]
        new = event(sigma, kind=TaskKind.ITEM_TRAINING)
        assert not admits(budget=BUDGET, past=past, new=new).admitted

    @pytest.mark.parametrize(
        "changes",
        [
            {"population": "other"},
            {"noise_source": NoiseSource.SEEDED_SIMULATION},
            {"assumed": AssumedPopulation(simulated_people=10, people=100)},
        ],
    )
    def test_past_of_another_scope_is_a_mistake(self, changes: dict[str, Any]) -> None:
        """Mixing scopes would make either claim false."""
        with pytest.raises(ValueError, match="scope"):
            admits(budget=BUDGET, past=[event(**changes)], new=event())


class TestScope:
    """What shares a budget."""

    def test_simulation_is_a_scope_of_its_own(self) -> None:
        """Real, seeded and assumed releases of one population are three scopes."""
        assumed = AssumedPopulation(simulated_people=10, people=1000)
        scopes = [
            scope_of(event()),
            scope_of(event(noise_source=NoiseSource.SEEDED_SIMULATION)),
            scope_of(event(assumed=assumed)),
        ]
        assert len(set(scopes)) == 3
        assert [str(scope) for scope in scopes] == [
            "shop",
            "shop (simulation)",
            "shop (simulation, as if 1,000 people)",
        ]

    def test_real_scope_with_an_assumed_population_is_refused(self) -> None:
        """Only a simulation assumes."""
        with pytest.raises(ValueError, match="simulation"):
            Scope(population="shop", assumed_population=10)


class TestBudget:
    """What a budget is."""

    @pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
    def test_epsilon_that_is_no_budget_is_refused(self, epsilon: float) -> None:
        """Finite, and above 0."""
        with pytest.raises(ValueError, match="epsilon"):
            Budget(epsilon=epsilon, delta=1e-6)

    @pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
    def test_delta_that_is_no_budget_is_refused(self, delta: float) -> None:
        """Strictly between 0 and 1."""
        with pytest.raises(ValueError, match="delta"):
            Budget(epsilon=1.0, delta=delta)
