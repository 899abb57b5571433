"""The ledger's rules: what fits, what does not, and what never mixes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.wire import Purpose, TaskKind
from privacy.accounting import epsilon_gaussian
from privacy.budget import EACH_WINDOW, Budget, Scope, ScopeLimit, admits, scope_of
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


SMALL = Budget(epsilon=0.5, delta=1e-6)
WHOLE_OF_SMALL = noise_multiplier_for(epsilon=0.5, delta=1e-6)


class TestLimits:
    """Limits inside a total."""

    @pytest.mark.parametrize(
        ("limit", "other"),
        [
            ({"purpose": Purpose.STATISTICS}, {"kind": TaskKind.ITEM_TRAINING}),
            ({"window": "2026-Q4"}, {"window": "2027-Q1"}),
            ({"window": EACH_WINDOW}, {"window": "2027-Q1"}),
            ({"purpose": Purpose.STATISTICS, "window": "2026-Q4"}, {"window": "2027-Q1"}),
        ],
    )
    def test_limit_holds_for_what_it_covers_and_for_nothing_else(
        self, limit: dict[str, Any], other: dict[str, Any]
    ) -> None:
        """Exactly on it is admitted, one drop more is not, and others pass."""
        limits = [ScopeLimit(population="shop", budget=SMALL, **limit)]
        first = event(WHOLE_OF_SMALL, window="2026-Q4")
        assert admits(budget=BUDGET, past=[], new=first, limits=limits).admitted
        drop = event(100.0, window="2026-Q4")
        refused = admits(budget=BUDGET, past=[first], new=drop, limits=limits)
        assert not refused.admitted
        assert limits[0].name in refused.reason
        elsewhere = event(WHOLE_OF_SMALL, **{"window": "2026-Q4", **other})
        assert admits(budget=BUDGET, past=[first], new=elsewhere, limits=limits).admitted

    def test_limit_above_the_total_does_not_raise_it(self) -> None:
        """Limits never add to the total."""
        limits = [
            ScopeLimit(
                population="shop", budget=Budget(epsilon=99.0, delta=1e-6), window=EACH_WINDOW
            )
        ]
        whole = noise_multiplier_for(epsilon=2.0, delta=1e-6)
        past = [event(whole, window="2026-Q4")]
        verdict = admits(
            budget=BUDGET, past=past, new=event(whole, window="2027-Q1"), limits=limits
        )
        assert not verdict.admitted
        assert "budget of shop is" in verdict.reason

    def test_limit_of_another_population_does_not_look(self) -> None:
        """Somebody else's limit is not ours."""
        limits = [ScopeLimit(population="bank", budget=Budget(epsilon=1e-6, delta=1e-9))]
        assert admits(budget=BUDGET, past=[], new=event(), limits=limits).admitted

    @settings(max_examples=40)
    @given(
        asked=st.lists(
            st.tuples(
                st.floats(2.0, 60.0),
                st.sampled_from([TaskKind.ITEM_COUNTS, TaskKind.ITEM_TRAINING]),
                st.sampled_from(["a", "b"]),
            ),
            max_size=15,
        )
    )
    def test_no_scope_is_ever_overspent(self, asked: list[tuple[float, TaskKind, str]]) -> None:
        """Whatever is asked for: each purpose and window, and the total, stay inside."""
        limits = [
            ScopeLimit(population="shop", budget=SMALL, purpose=Purpose.TRAIN),
            ScopeLimit(population="shop", budget=SMALL, window=EACH_WINDOW),
        ]
        past: list[ReleaseEvent] = []
        for sigma, kind, window in asked:
            new = event(sigma, kind=kind, window=window)
            if admits(budget=BUDGET, past=past, new=new, limits=limits).admitted:
                past.append(new)
        groups = [[e for e in past if e.purpose is Purpose.TRAIN]]
        groups += [[e for e in past if e.window == window] for window in ("a", "b")]
        for group in groups:
            assert epsilon_gaussian(group, 1e-6) <= SMALL.epsilon
        assert epsilon_gaussian(past, 1e-6) <= BUDGET.epsilon

    @pytest.mark.parametrize("changes", [{"population": ""}, {"window": ""}])
    def test_limit_without_a_name_is_refused(self, changes: dict[str, str]) -> None:
        """An empty label would silently cover nothing."""
        with pytest.raises(ValueError, match="names a population"):
            ScopeLimit(**{"population": "shop", "budget": SMALL, **changes})  # type: ignore[arg-type]


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
