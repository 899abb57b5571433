"""The accountants: one contract for all, the oracle grid, and each against the exact curve."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from client_sdk.wire import TaskKind
from privacy.accounting import (
    Accountant,
    epsilon_gaussian,
    epsilon_pld,
    epsilon_prv_bound,
    epsilon_rdp,
    pld_of_dp_events,
)
from privacy.events import AssumedPopulation, MechanismName, NoiseSource, ReleaseEvent
from privacy.gaussian import noise_multiplier_for

SHARED = Path(os.environ.get("HOMEBODY_SHARED", Path(__file__).parents[3] / "shared"))
GRID = SHARED / "data" / "oracles" / "dp" / "epsilon_grid.csv"

COMPOSITIONS = [[1.0], [5.0] * 100, [10.0, 3.0, 7.0], [0.7, 40.0], [100.0] * 3]


def event(noise_multiplier: float, **changes: Any) -> ReleaseEvent:
    """One Gaussian release."""
    values: dict[str, Any] = {
        "kind": TaskKind.ITEM_STATISTICS,
        "task_id": "ef" * 16,
        "population": "shop",
        "noise_multiplier": noise_multiplier,
        "clip_norm": 1.0,
        "dimension": 5,
        "report_goal": 10,
    }
    return ReleaseEvent(**{**values, **changes})


def events(sigmas: Sequence[float]) -> list[ReleaseEvent]:
    """Gaussian releases of one population."""
    return [event(sigma) for sigma in sigmas]


NO_NOISE = event(0.0, mechanism=MechanismName.UNSAFE_NO_NOISE, noise_source=NoiseSource.NONE)


class AccountantContract:
    """What every accountant keeps. ``low`` and ``high`` bound ε relative to the exact curve."""

    low: float
    high: float
    #: Absolute error that the accountant allows itself.
    slack: float

    def epsilon(self, released: Sequence[ReleaseEvent], delta: float) -> float:
        """Ask the accountant."""
        raise AssertionError("each subclass of the contract says this")

    def test_nothing_released_costs_nothing(self) -> None:
        """An empty composition."""
        assert self.epsilon([], 1e-6) == 0.0

    def test_one_release_without_noise_costs_everything(self) -> None:
        """However well the others are protected."""
        assert self.epsilon([event(100.0), NO_NOISE], 1e-6) == math.inf

    @pytest.mark.parametrize("sigmas", COMPOSITIONS)
    def test_epsilon_stands_where_it_should_by_the_exact_curve(self, sigmas: list[float]) -> None:
        """The exact curve is an oracle with which no accountant here shares code."""
        exact = epsilon_gaussian(events(sigmas), 1e-5)
        got = self.epsilon(events(sigmas), 1e-5)
        assert self.low * exact - 1e-6 <= got <= self.high * exact + self.slack

    def test_two_wrong_noise_multipliers_are_told_apart(self) -> None:
        """An accountant that ignored one percent of noise would pass no comparison."""
        right = self.epsilon(events([1.0]), 1e-5)
        assert self.epsilon(events([0.97]), 1e-5) > right
        assert self.epsilon(events([1.03]), 1e-5) < right

    def test_order_of_releases_does_not_matter(self) -> None:
        """A composition is a multiset."""
        forth, back = events([2.0, 5.0, 9.0]), events([9.0, 5.0, 2.0])
        assert self.epsilon(forth, 1e-6) == pytest.approx(self.epsilon(back, 1e-6), rel=1e-9)

    def test_more_releases_cost_more(self) -> None:
        """Nothing is free."""
        few, more = events([4.0] * 3), events([4.0] * 4)
        assert self.epsilon(few, 1e-6) < self.epsilon(more, 1e-6)

    def test_real_and_simulated_releases_do_not_mix(self) -> None:
        """Nor do simulations of different populations."""
        assumed = AssumedPopulation(simulated_people=10, people=100)
        other = AssumedPopulation(simulated_people=10, people=1000)
        for pair in (
            [event(2.0), event(2.0, assumed=assumed)],
            [event(2.0, assumed=other), event(2.0, assumed=assumed)],
            [event(2.0), event(2.0, noise_source=NoiseSource.SEEDED_SIMULATION)],
        ):
            with pytest.raises(ValueError, match="do not compose"):
                self.epsilon(pair, 1e-6)

    @pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
    def test_delta_that_is_no_delta_is_refused(self, delta: float) -> None:
        """Also for an empty composition."""
        with pytest.raises(ValueError, match="delta"):
            self.epsilon(events([2.0]), delta)


class TestGaussian(AccountantContract):
    """The exact curve."""

    low, high, slack = 1.0, 1.0, 0.0

    def epsilon(self, released: Sequence[ReleaseEvent], delta: float) -> float:
        """Ask it."""
        return epsilon_gaussian(released, delta)

    def test_budget_that_was_planned_is_spent_exactly(self) -> None:
        """The planner and the accountant are inverse to each other."""
        sigma = noise_multiplier_for(epsilon=2.0, delta=1e-6, releases=7)
        assert epsilon_gaussian(events([sigma] * 7), 1e-6) == pytest.approx(2.0, abs=1e-8)


class TestPld(AccountantContract):
    """Privacy loss distributions: the ε that is stated."""

    low, high, slack = 1.0, 1.0 + 1e-6, 2e-5

    def epsilon(self, released: Sequence[ReleaseEvent], delta: float) -> float:
        """Ask it."""
        return epsilon_pld(released, delta)


class TestRdp(AccountantContract):
    """Rényi DP: always above the truth, by less than a quarter."""

    low, high, slack = 1.0, 1.25, 0.0

    def epsilon(self, released: Sequence[ReleaseEvent], delta: float) -> float:
        """Ask it."""
        return epsilon_rdp(released, delta)


class TestPrvBound(AccountantContract):
    """Opacus: the upper bound beside the stated ε."""

    low, high, slack = 1.0, 1.0, 2e-3

    def epsilon(self, released: Sequence[ReleaseEvent], delta: float) -> float:
        """Ask it."""
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
        return epsilon_prv_bound(released, delta)


def grid() -> list[dict[str, str]]:
    """Read the oracle's rows, or none where it is not there."""
    if not GRID.is_file():
        return []
    with GRID.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(not GRID.is_file(), reason=f"the oracle {GRID} is not there")
class TestOracleGrid:
    """The same set-up of the accountants on the oracle's rows, subsampled ones too.

    The product has no subsampled releases: devices check in when they can. The rows check that
    dp-accounting is used as it was for the oracle.
    """

    @pytest.mark.parametrize("row", grid(), ids=lambda row: "-".join(list(row.values())[:3]))
    def test_accountants_agree_with_the_oracle(self, row: dict[str, str]) -> None:
        """To nine digits at the oracle's discretisation; the stated ε is within its PRV bounds.

        The grid was computed in steps of 1e-3 from 1,000 compositions on, and of 1e-4 below; the
        product always takes the finer, so its ε is at most the oracle's.
        """
        import dp_accounting

        sigma, rate = float(row["noise_multiplier"]), float(row["sampling_prob"])
        steps, delta = int(row["steps"]), float(row["delta"])
        single = dp_accounting.GaussianDpEvent(sigma)
        if rate < 1.0:
            single = dp_accounting.PoissonSampledDpEvent(rate, single)
        parts = [(single, steps)]
        oracle = float(row["eps_pld_dp_accounting"])
        interval = 1e-3 if steps >= 1000 else 1e-4
        assert pld_of_dp_events(parts, delta, interval=interval) == pytest.approx(oracle, rel=1e-9)
        stated = pld_of_dp_events(parts, delta)
        assert stated <= oracle * (1 + 1e-9)
        if row["eps_prv_lower"]:
            assert float(row["eps_prv_lower"]) <= stated <= float(row["eps_prv_upper"])

    @pytest.mark.parametrize("row", [row for row in grid() if float(row["sampling_prob"]) == 1.0])
    def test_events_agree_with_the_oracle(self, row: dict[str, str]) -> None:
        """From release events, by every accountant."""
        released = events([float(row["noise_multiplier"])] * int(row["steps"]))
        delta = float(row["delta"])
        oracle = float(row["eps_pld_dp_accounting"])
        accountants: dict[Accountant, float] = {
            epsilon_pld: oracle,
            epsilon_gaussian: oracle,
            epsilon_rdp: float(row["eps_rdp_dp_accounting"]),
        }
        for accountant, expected in accountants.items():
            assert accountant(released, delta) == pytest.approx(expected, rel=1e-7)
