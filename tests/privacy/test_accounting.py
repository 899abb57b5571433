"""The accountants: one contract for all, the oracle grid, and each against the exact curve."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from client_sdk.wire import TaskKind
from privacy.accounting import (
    epsilon_deciding,
    epsilon_exact,
    epsilon_gaussian,
    epsilon_pld,
    epsilon_prv_bound,
    epsilon_rdp,
    fits,
    pld_of_costs,
    prv_bounds,
    prv_of_costs,
    rdp_of_costs,
    total_noise_multiplier,
)
from privacy.costs import Costs, costs_of
from privacy.events import (
    LOCAL_ADJACENCY,
    LOCAL_TRUSTED,
    AssumedPopulation,
    MechanismName,
    NoiseSource,
    ReleaseEvent,
)
from privacy.factorisation import Factorisation, FactorisationName
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


class OracleRow(NamedTuple):
    """One row: sigma, sampling rate, steps, delta; ε by RDP and PLD; between which PRV puts it."""

    sigma: float
    rate: float
    steps: int
    delta: float
    rdp: float
    pld: float
    lower: float | None
    upper: float | None


# Computed for the project with dp-accounting and prv-accountant; Opacus shares no code with either.
ORACLE = (
    OracleRow(1.0, 0.01, 1000, 1e-5, 2.101367, 1.828934, 1.818107, 1.838372),
    OracleRow(0.8, 0.004, 5000, 1e-5, 2.925248, 2.501869, 2.488914, 2.509272),
    OracleRow(1.1, 0.004266666666666667, 14062, 1e-5, 2.596556, 2.390530, 2.371455, 2.391744),
    OracleRow(2.0, 0.1, 100, 1e-6, 2.914174, 2.675036, 2.664896, 2.685179),
    OracleRow(0.6, 0.02, 200, 1e-5, 8.616248, 7.260160, 7.249564, 7.270759),
    OracleRow(1.0, 1.0, 1, 1e-5, 4.728508, 4.377179, None, None),
    OracleRow(5.0, 1.0, 100, 1e-6, 11.688627, 10.997152, None, None),
    OracleRow(0.7, 0.01, 1500, 1e-6, 7.215517, 6.356409, 6.345605, 6.366371),
    OracleRow(1.5, 0.05, 300, 1e-5, 3.183766, 2.890145, 2.879961, 2.900328),
)


def costs(row: OracleRow) -> Costs:
    """What the row released."""
    if row.rate == 1.0:
        return Costs(gaussians=((row.sigma, row.steps),))
    return Costs(sampled=((row.sigma, row.rate, row.steps),))


@pytest.mark.parametrize("row", ORACLE, ids=lambda row: f"{row.sigma:g}-{row.rate:.3g}-{row.steps}")
class TestOracleGrid:
    """Nine compositions, sampled and not, by every accountant of the product."""

    def test_stated_epsilon_agrees_with_the_oracle_and_lies_within_its_bounds(
        self, row: OracleRow
    ) -> None:
        """To the digits written here: the product discretises as the oracle did."""
        stated = pld_of_costs(costs(row), row.delta)
        assert stated == pytest.approx(row.pld, abs=1e-6)
        if row.lower is not None and row.upper is not None:
            assert row.lower <= stated <= row.upper

    def test_coarser_steps_never_state_less(self, row: OracleRow) -> None:
        """Discretisation only rounds up."""
        assert pld_of_costs(costs(row), row.delta, interval=2e-3) >= row.pld - 1e-6

    def test_renyi_agrees_with_the_oracle_and_lies_above(self, row: OracleRow) -> None:
        """The cross-check is the oracle's own accountant, or better by its larger orders."""
        assert row.pld < rdp_of_costs(costs(row), row.delta) <= row.rdp + 1e-5

    def test_opacus_bounds_hold_the_stated_epsilon(self, row: OracleRow) -> None:
        """By other code than the oracle's."""
        pytest.importorskip("opacus", reason="the extra 'prv' is not installed")
        found = prv_of_costs(costs(row), row.delta)
        assert found.lower is not None
        assert found.lower - 1e-4 <= row.pld <= found.upper + 1e-4
        assert found.upper - found.lower < 0.025

    def test_events_of_a_run_agree_with_the_oracle(self, row: OracleRow) -> None:
        """From one release event: its multiplier is over the sensitivity of the whole run."""
        run = Factorisation(
            name=FactorisationName.INDEPENDENT_ROUNDS,
            rounds=row.steps,
            min_separation=1,
            max_participations=row.steps,
        )
        released = event(
            row.sigma / math.sqrt(row.steps),
            mechanism=MechanismName.INDEPENDENT_ROUNDS,
            factorisation=run,
            sampling_probability=None if row.rate == 1.0 else row.rate,
        )
        assert epsilon_pld([released], row.delta) == pytest.approx(row.pld, abs=1e-3)


@pytest.mark.skipif(not GRID.is_file(), reason=f"the oracle's file {GRID} is not there")
def test_oracle_rows_are_those_of_the_file() -> None:
    """To the digits that are written here."""
    with GRID.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ORACLE) == 9
    for row, written in zip(rows, ORACLE, strict=True):
        read = [float(value) if value else None for value in row.values()]
        assert list(written[:6]) == pytest.approx(read[:6], rel=1e-6)
        assert [written.lower, written.upper] == [
            value if value is None else pytest.approx(value, abs=2e-6)
            for value in (read[6], read[8])
        ]


LAPLACE = event(math.sqrt(2.0) / 0.5, mechanism=MechanismName.DISCRETE_LAPLACE)
DISCRETE = event(5.0, mechanism=MechanismName.DISCRETE_GAUSSIAN)
LOCAL = event(
    5.0,
    mechanism=MechanismName.LOCAL_GAUSSIAN,
    adjacency=LOCAL_ADJACENCY,
    trusted=LOCAL_TRUSTED,
)
BLT = event(
    5.0,
    mechanism=MechanismName.BLT,
    factorisation=Factorisation(
        name=FactorisationName.BLT,
        rounds=500,
        min_separation=50,
        max_participations=10,
        decays=(0.96370, 0.34897),
        weights=(0.34366, 0.17547),
    ),
)
SAMPLED = event(5.0, sampling_probability=0.1)


class TestHeterogeneous:
    """Releases of different mechanisms in one composition."""

    @pytest.mark.parametrize("released", [BLT, LOCAL])
    def test_gaussian_of_any_kind_costs_what_its_multiplier_says(
        self, released: ReleaseEvent
    ) -> None:
        """The sensitivity is in the multiplier already."""
        assert costs_of([released]) == costs_of([event(5.0)])
        assert total_noise_multiplier([released, event(5.0)]) == pytest.approx(5.0 / math.sqrt(2))

    def test_sampled_round_costs_less_than_one_that_is_not_and_only_where_it_says_so(self) -> None:
        """Amplification is claimed by the event or not at all."""
        assert epsilon_pld([SAMPLED], 1e-6) < 0.5 * epsilon_pld([event(5.0)], 1e-6)
        assert epsilon_exact([SAMPLED], 1e-6) is None
        assert total_noise_multiplier([SAMPLED]) == 5.0

    def test_laplace_costs_its_pure_epsilon_at_vanishing_delta(self) -> None:
        """ε = sensitivity / scale = √2 / multiplier."""
        for accountant in (epsilon_pld, epsilon_deciding):
            assert accountant([LAPLACE], 1e-12) == pytest.approx(0.5, abs=2e-4)
        assert prv_bounds([LAPLACE], 1e-12).upper == pytest.approx(0.5)

    @pytest.mark.parametrize("name", ["discrete-gaussian", "discrete-laplace"])
    def test_release_that_is_no_gaussian_has_no_gaussian_equivalent(self, name: str) -> None:
        """Nobody may add it up as one."""
        with pytest.raises(ValueError, match="not a Gaussian one"):
            total_noise_multiplier([event(5.0, mechanism=MechanismName(name))])

    def test_discrete_gaussian_costs_at_least_the_continuous_one_and_at_most_its_renyi_bound(
        self,
    ) -> None:
        """Its curve is bounded by zCDP: honest, and a little dear."""
        continuous = epsilon_pld([event(5.0)], 1e-6)
        for many in (1, 20):
            discrete = epsilon_pld([DISCRETE] * many, 1e-6)
            assert epsilon_pld([event(5.0)] * many, 1e-6) < discrete
            assert discrete <= epsilon_rdp([DISCRETE] * many, 1e-6) + 1e-3
        assert epsilon_pld([DISCRETE], 1e-6) < 1.15 * continuous

    @pytest.mark.parametrize(
        "released",
        [
            [BLT, LAPLACE],
            [BLT, LAPLACE, LAPLACE, event(3.0), LOCAL],
            [DISCRETE, BLT],
            [DISCRETE, LAPLACE, SAMPLED],
            [SAMPLED, BLT],
        ],
    )
    def test_composition_costs_more_than_each_part_and_less_than_their_sum(
        self, released: list[ReleaseEvent]
    ) -> None:
        """By every accountant, with PLD at or above the exact curve and below Rényi."""
        stated = epsilon_pld(released, 1e-6)
        alone = [epsilon_pld([each], 1e-6) for each in released]
        assert max(alone) < stated < sum(alone)
        assert stated <= epsilon_rdp(released, 1e-6) + 1e-6
        exact = epsilon_exact(released, 1e-6)
        if exact is not None:
            assert exact - 1e-9 <= stated <= exact + 1e-3
        assert stated <= prv_bounds(released, 1e-6).upper + 1e-3

    def test_fits_admits_the_planned_composition_exactly_and_no_more(self) -> None:
        """At the exact ε it fits; a hair below it does not."""
        released = [BLT, LAPLACE]
        epsilon = epsilon_deciding(released, 1e-6)
        assert fits(released, epsilon=epsilon, delta=1e-6)
        assert not fits(released, epsilon=epsilon * (1 - 1e-9), delta=1e-6)
        assert not fits([*released, NO_NOISE], epsilon=1e6, delta=1e-6)

    def test_fits_decides_by_pld_where_no_exact_curve_is_known(self) -> None:
        """A sampled run, whose curve has no closed form."""
        epsilon = epsilon_pld([SAMPLED] * 30, 1e-6)
        assert fits([SAMPLED] * 30, epsilon=epsilon, delta=1e-6)
        assert not fits([SAMPLED] * 30, epsilon=0.99 * epsilon, delta=1e-6)
