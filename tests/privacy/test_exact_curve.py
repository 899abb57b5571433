"""The exact curve of Gaussians with pure guarantees, and the bound of zCDP."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.costs import Costs
from privacy.exact_curve import exact_delta, exact_epsilon, zcdp_delta, zcdp_epsilon
from privacy.gaussian import delta_of, epsilon_of


class TestExactDelta:
    """Against closed forms."""

    @given(sigma=st.floats(0.3, 50.0), epsilon=st.floats(0.0, 20.0))
    def test_exact_delta_of_one_gaussian_is_its_curve(self, sigma: float, epsilon: float) -> None:
        """Nothing else was released."""
        found = exact_delta(Costs(gaussians=((sigma, 1),)), epsilon)
        expected = delta_of(epsilon=epsilon, noise_multiplier=sigma)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)

    @given(pure=st.floats(0.01, 5.0), share=st.floats(0.0, 1.2))
    def test_exact_delta_of_one_pure_guarantee_is_randomised_response(
        self, pure: float, share: float
    ) -> None:
        """δ(ε) = (e^ε₀ - e^ε) / (1 + e^ε₀), and nothing from ε₀ on."""
        epsilon = share * pure
        expected = max(0.0, math.exp(pure) - math.exp(epsilon)) / (1.0 + math.exp(pure))
        found = exact_delta(Costs(pure=((pure, 1),)), epsilon)
        assert found == pytest.approx(expected, abs=1e-12)

    def test_exact_delta_of_a_mixture_is_the_integral_over_both_losses(self) -> None:
        """By brute force: the Gaussian's loss on a fine grid, times the coin's."""
        sigma, pure, epsilon = 1.3, 0.7, 1.1
        mu = 1.0 / sigma
        loss = np.linspace(mu * mu / 2 - 12 * mu, mu * mu / 2 + 12 * mu, 2_000_001)
        density = np.exp(-0.5 * ((loss - mu * mu / 2) / mu) ** 2) / (mu * math.sqrt(2 * math.pi))
        expected = 0.0
        for side in (1, -1):
            chance = 1.0 / (1.0 + math.exp(-side * pure))
            kept = np.maximum(0.0, -np.expm1(epsilon - loss - side * pure))
            expected += chance * float(np.sum(density * kept) * (loss[1] - loss[0]))
        found = exact_delta(Costs(gaussians=((sigma, 1),), pure=((pure, 1),)), epsilon)
        assert found == pytest.approx(expected, rel=1e-6)

    def test_exact_delta_of_many_pure_guarantees_is_pld_of_dp_accounting(self) -> None:
        """Another implementation, on a grid that holds every loss, so that it rounds nothing."""
        from dp_accounting.pld import privacy_loss_distribution as pld
        from dp_accounting.pld.common import DifferentialPrivacyParameters

        one = pld.from_privacy_parameters(
            DifferentialPrivacyParameters(0.25, 0.0), value_discretization_interval=0.125
        )
        costs = Costs(pure=((0.25, 40),))
        for epsilon in (0.5, 1.0, 3.0):
            expected = one.self_compose(40).get_delta_for_epsilon(epsilon)
            assert exact_delta(costs, epsilon) == pytest.approx(expected, rel=1e-9)

    def test_exact_delta_without_noise_is_one(self) -> None:
        """Whatever else there is."""
        assert exact_delta(Costs(gaussians=((9.0, 1),), unprotected=True), 100.0) == 1.0

    @pytest.mark.parametrize(
        "costs",
        [
            Costs(sampled=((1.0, 0.1, 3),)),
            Costs(discrete_rho=0.1),
            Costs(pure=tuple((0.1 + 0.001 * at, 1) for at in range(17))),
        ],
    )
    def test_exact_delta_where_no_curve_is_known_is_none(self, costs: Costs) -> None:
        """An accountant that cannot be exact says so."""
        assert exact_delta(costs, 1.0) is None
        assert exact_epsilon(costs, 1e-6) is None


class TestExactEpsilon:
    """The inverse."""

    @given(
        sigma=st.floats(0.5, 20.0),
        pure=st.lists(st.tuples(st.floats(0.01, 2.0), st.integers(1, 4)), min_size=1, max_size=3),
    )
    def test_exact_epsilon_is_the_smallest_that_keeps_delta(
        self, sigma: float, pure: list[tuple[float, int]]
    ) -> None:
        """At it δ holds, just below it does not; and it is at most basic composition."""
        costs = Costs(gaussians=((sigma, 1),), pure=tuple(pure))
        epsilon = exact_epsilon(costs, 1e-6)
        assert epsilon is not None
        at, below = exact_delta(costs, epsilon), exact_delta(costs, epsilon * (1 - 1e-7))
        assert at is not None
        assert below is not None
        assert at <= 1e-6 * (1 + 1e-9) < below * (1 + 1e-5)
        alone = epsilon_of(delta=1e-6, noise_multiplier=sigma)
        assert alone < epsilon <= alone + costs.pure_epsilon

    @pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
    def test_exact_epsilon_at_no_delta_is_refused(self, delta: float) -> None:
        """Also for nothing."""
        with pytest.raises(ValueError, match="delta"):
            exact_epsilon(Costs(), delta)


class TestZcdp:
    """The bound for discrete Gaussians."""

    @given(rho=st.floats(1e-4, 5.0), epsilon=st.floats(0.0, 30.0))
    def test_zcdp_delta_is_above_the_gaussian_with_that_rho(
        self, rho: float, epsilon: float
    ) -> None:
        """The Gaussian is one of the mechanisms that it must cover."""
        exact = delta_of(epsilon=epsilon, noise_multiplier=math.sqrt(0.5 / rho))
        assert zcdp_delta(rho, epsilon) >= exact * (1 - 1e-9)

    def test_zcdp_epsilon_is_better_than_the_textbook_and_worse_than_the_truth(self) -> None:
        """ρ + 2√(ρ ln(1/δ)) is the textbook's."""
        for rho in (0.01, 0.5, 3.0):
            found = zcdp_epsilon(rho, 1e-6)
            assert found < rho + 2.0 * math.sqrt(rho * math.log(1e6))
            assert found > epsilon_of(delta=1e-6, noise_multiplier=math.sqrt(0.5 / rho))
        assert zcdp_epsilon(0.0, 1e-6) == 0.0
