"""The exact Gaussian curve against 60-digit arithmetic, and its inverses against itself."""

from __future__ import annotations

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.gaussian import (
    composed_noise_multiplier,
    delta_of,
    epsilon_of,
    noise_multiplier_for,
    noise_multipliers_for,
)

epsilons = st.floats(0.01, 50.0)
deltas = st.floats(-12.0, -1.0).map(lambda exponent: 10.0**exponent)


def oracle_delta(epsilon: float, sigma: float) -> float:
    """Theorem 8 of Balle and Wang (2018) as it is printed, in 60 digits."""
    with mpmath.workdps(60):
        mu = 1 / mpmath.mpf(sigma)
        near = mpmath.ncdf(mu / 2 - epsilon / mu)
        far = mpmath.ncdf(-mu / 2 - epsilon / mu)
        return float(near - mpmath.exp(epsilon) * far)


class TestDelta:
    """Edge cases of `delta_of`, and its value."""

    @pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 4.2, 30.0, 400.0])
    @pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.5, 1.0, 2.0, 8.0, 50.0])
    def test_delta_equals_sixty_digit_arithmetic(self, epsilon: float, sigma: float) -> None:
        """Also where ε is so large that e^ε times a tail would lose every digit."""
        expected = oracle_delta(epsilon, sigma)
        got = delta_of(epsilon=epsilon, noise_multiplier=sigma)
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-300)

    def test_delta_without_noise_is_one(self) -> None:
        """Without noise nothing is hidden."""
        assert delta_of(epsilon=1.0, noise_multiplier=0.0) == 1.0

    def test_delta_with_infinite_noise_is_zero(self) -> None:
        """Nothing released costs nothing."""
        assert delta_of(epsilon=0.0, noise_multiplier=math.inf) == 0.0

    @pytest.mark.parametrize("bad", [-1.0, math.nan])
    def test_delta_of_bad_input_is_refused(self, bad: float) -> None:
        """NaN and negative numbers never become a claim."""
        with pytest.raises(ValueError, match="epsilon"):
            delta_of(epsilon=bad, noise_multiplier=1.0)
        with pytest.raises(ValueError, match="noise_multiplier"):
            delta_of(epsilon=1.0, noise_multiplier=bad)


class TestEpsilon:
    """Edge cases of `epsilon_of`, and its value."""

    @pytest.mark.parametrize(
        ("sigma", "delta"), [(1.0, 1e-5), (0.5, 1e-6), (10.0, 1e-6), (200.0, 1e-9), (0.1, 1e-3)]
    )
    def test_epsilon_solves_the_curve(self, sigma: float, delta: float) -> None:
        """Solved independently by bisection in 60 digits."""
        low, high = mpmath.mpf(0), mpmath.mpf(100)
        with mpmath.workdps(60):
            for _ in range(150):
                middle = (low + high) / 2
                above = oracle_delta(float(middle), sigma) > delta
                low, high = (middle, high) if above else (low, middle)
        got = epsilon_of(delta=delta, noise_multiplier=sigma)
        assert got == pytest.approx(float(high), rel=1e-8)

    def test_epsilon_without_noise_is_infinite(self) -> None:
        """No finite ε holds for a release without noise."""
        assert epsilon_of(delta=1e-6, noise_multiplier=0.0) == math.inf

    def test_epsilon_where_delta_pays_for_everything_is_zero(self) -> None:
        """δ(0) of σ = 1000 is 4e-4, below 1e-3."""
        assert epsilon_of(delta=1e-3, noise_multiplier=1000.0) == 0.0

    @pytest.mark.parametrize("bad", [0.0, 1.0, -1e-6, math.nan])
    def test_epsilon_at_a_delta_outside_zero_and_one_is_refused(self, bad: float) -> None:
        """δ of 0 or 1 is not a claim."""
        with pytest.raises(ValueError, match="delta"):
            epsilon_of(delta=bad, noise_multiplier=1.0)


class TestNoiseMultiplier:
    """Planning: from a budget to noise."""

    @given(epsilon=epsilons, delta=deltas)
    def test_planned_noise_keeps_the_budget_and_wastes_nothing(
        self, epsilon: float, delta: float
    ) -> None:
        """Inside the budget without slack; with a millionth less noise it is outside."""
        sigma = noise_multiplier_for(epsilon=epsilon, delta=delta)
        assert delta_of(epsilon=epsilon, noise_multiplier=sigma) <= delta
        assert delta_of(epsilon=epsilon, noise_multiplier=sigma * (1 - 1e-6)) > delta

    @given(
        epsilon=epsilons,
        delta=deltas,
        weights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8),
    )
    def test_shares_compose_to_the_whole_budget(
        self, epsilon: float, delta: float, weights: list[float]
    ) -> None:
        """All releases together cost what one release of the whole budget costs."""
        shares = [weight / math.fsum(weights) for weight in weights]
        sigmas = noise_multipliers_for(epsilon=epsilon, delta=delta, shares=shares)
        together = composed_noise_multiplier(sigmas)
        assert delta_of(epsilon=epsilon, noise_multiplier=together) <= delta
        whole = noise_multiplier_for(epsilon=epsilon, delta=delta)
        assert together == pytest.approx(whole, rel=1e-9)

    @settings(max_examples=30)
    @given(epsilon=epsilons, releases=st.integers(1, 1000))
    def test_equal_releases_are_equal_shares(self, epsilon: float, releases: int) -> None:
        """Each of n releases needs √n times the noise of one."""
        each = noise_multiplier_for(epsilon=epsilon, delta=1e-6, releases=releases)
        one = noise_multiplier_for(epsilon=epsilon, delta=1e-6)
        assert each == pytest.approx(one * math.sqrt(releases), rel=1e-12)

    @pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
    def test_noise_for_a_bad_epsilon_is_refused(self, epsilon: float) -> None:
        """A budget is finite and above 0."""
        with pytest.raises(ValueError, match="epsilon must be finite and above 0"):
            noise_multiplier_for(epsilon=epsilon, delta=1e-6)

    @pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
    def test_noise_for_a_bad_delta_is_refused(self, delta: float) -> None:
        """So is a δ that is no probability of failure."""
        with pytest.raises(ValueError, match="delta must lie strictly between"):
            noise_multiplier_for(epsilon=1.0, delta=delta)

    def test_noise_for_no_release_is_refused(self) -> None:
        """Zero releases need no plan."""
        with pytest.raises(ValueError, match="releases"):
            noise_multiplier_for(epsilon=1.0, delta=1e-6, releases=0)

    @pytest.mark.parametrize("shares", [[], [0.5, 0.4], [1.5, -0.5], [math.nan, 1.0], [0.0, 1.0]])
    def test_shares_that_are_no_shares_are_refused(self, shares: list[float]) -> None:
        """A budget cannot be split into more or less than itself."""
        with pytest.raises(ValueError, match="shares"):
            noise_multipliers_for(epsilon=1.0, delta=1e-6, shares=shares)


class TestComposition:
    """Edge cases of `composed_noise_multiplier`."""

    def test_nothing_released_is_infinite_noise(self) -> None:
        """So its ε is 0."""
        assert composed_noise_multiplier([]) == math.inf

    def test_one_release_without_noise_is_no_noise(self) -> None:
        """However well the others are protected."""
        assert composed_noise_multiplier([5.0, 0.0]) == 0.0

    def test_a_noise_multiplier_that_is_no_number_is_refused(self) -> None:
        """NaN must not compare its way through."""
        with pytest.raises(ValueError, match="noise_multiplier"):
            composed_noise_multiplier([math.nan])
