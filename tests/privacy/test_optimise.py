"""The optimised strategies: the published table, jax-privacy's optima, the issue's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from privacy.factorisation import Factorisation, FactorisationName
from privacy.optimise import _Run, factorisation_for, optimise_banded, optimise_blt

ORACLE = json.loads((Path(__file__).parent / "oracles" / "jax_privacy.json").read_text())
# n, b, k; RMSE over prefix sums at ρ = ½: independent, tree, Honaker, banded, blt.
TABLE = [
    ((500, 50, 10), (50.05, 24.49, 18.82, 10.88, 11.50)),
    ((500, 100, 5), (35.39, 15.06, 11.57, 6.87, 7.16)),
    ((2000, 200, 5), (70.73, 22.12, 16.75, 8.67, 9.01)),
    ((1000, 20, 10), (70.75, 43.32, 33.03, 18.26, 16.70)),
]
TREES = (FactorisationName.TREE, FactorisationName.TREE_HONAKER)


def best(name: FactorisationName, run: tuple[int, int, int]) -> Factorisation:
    """Give the best strategy for n, b, k."""
    n, b, k = run
    return factorisation_for(name, rounds=n, min_separation=b, max_participations=k)


def oracle(run: tuple[int, int, int]) -> dict[str, Any]:
    """Give what jax-privacy said of this run."""
    return next(
        case
        for case in ORACLE["runs"]
        if (case["rounds"], case["min_separation"], case["max_participations"]) == run
    )


class TestTable:
    """Four runs, five strategies."""

    @pytest.mark.parametrize(("run", "row"), TABLE, ids=[str(run) for run, _ in TABLE])
    def test_rmse_of_toeplitz_strategies_is_that_of_the_table(
        self, run: tuple[int, int, int], row: tuple[float, ...]
    ) -> None:
        """Independent rounds, banded and BLT, to the digits that were published."""
        names = (
            FactorisationName.INDEPENDENT_ROUNDS,
            FactorisationName.BANDED_TOEPLITZ,
            FactorisationName.BLT,
        )
        for name, expected in zip(names, (row[0], row[3], row[4]), strict=True):
            assert best(name, run).prefix_rmse() == pytest.approx(expected, abs=0.0051)

    @pytest.mark.parametrize(("run", "row"), TABLE, ids=[str(run) for run, _ in TABLE])
    def test_rmse_of_trees_is_that_of_the_table_by_its_bound(
        self, run: tuple[int, int, int], row: tuple[float, ...]
    ) -> None:
        """The table took jax-privacy's upper bound of the sensitivity; the true one is lower."""
        bound = oracle(run)["tree"]["sensitivity_upper_bound"]
        for name, expected in zip(TREES, row[1:3], strict=True):
            plan = best(name, run)
            by_bound = plan.prefix_rmse() * bound / plan.sensitivity()
            assert by_bound == pytest.approx(expected, rel=5e-4)
            assert 0.97 * expected < plan.prefix_rmse() <= expected


class TestBlt:
    """The default for training."""

    def test_blt_of_the_issue_has_its_sensitivity_and_error(self) -> None:
        """At n = 500, b = 50, k = 10."""
        plan = best(FactorisationName.BLT, (500, 50, 10))
        independent = best(FactorisationName.INDEPENDENT_ROUNDS, (500, 50, 10))
        assert plan.sensitivity() == pytest.approx(5.967, abs=0.001)
        assert (plan.prefix_rmse() / independent.prefix_rmse()) ** 2 <= 0.054
        assert plan.decays == pytest.approx((0.96370, 0.34897), abs=1e-4)
        assert plan.weights == pytest.approx((0.34366, 0.17547), abs=1e-4)

    @pytest.mark.parametrize("run", [run for run, _ in TABLE], ids=str)
    def test_blt_is_no_worse_than_jax_privacys(self, run: tuple[int, int, int]) -> None:
        """Two optimisers, one optimum: to a part in a thousand."""
        ours, theirs = best(FactorisationName.BLT, run).prefix_rmse(), oracle(run)["blt"]["rmse"]
        assert ours <= 1.0001 * theirs
        assert ours >= 0.99 * theirs

    @settings(max_examples=15, deadline=None)
    @given(n=st.integers(1, 300), b=st.integers(1, 60), k=st.integers(1, 12))
    def test_blt_is_never_worse_than_independent_rounds(self, n: int, b: int, k: int) -> None:
        """Weights near 0 are independent rounds; the search must not end above them."""
        run = (n, b, k)
        independent = best(FactorisationName.INDEPENDENT_ROUNDS, run).prefix_rmse()
        assert best(FactorisationName.BLT, run).prefix_rmse() <= independent * (1 + 1e-6)

    def test_no_buffers_are_refused(self) -> None:
        """That is independent rounds, by another name."""
        with pytest.raises(ValueError, match="buffers"):
            optimise_blt(rounds=10, min_separation=2, max_participations=2, buffers=0)


class TestBanded:
    """For those who have the memory."""

    @pytest.mark.parametrize("run", [run for run, _ in TABLE], ids=str)
    def test_banded_is_no_worse_than_jax_privacys(self, run: tuple[int, int, int]) -> None:
        """Where the bands are as many as the separation, both solve the same problem."""
        plan, theirs = best(FactorisationName.BANDED_TOEPLITZ, run), oracle(run)["banded"]
        assert plan.prefix_rmse() == pytest.approx(theirs["rmse"], rel=2e-3)
        assert plan.prefix_rmse() <= theirs["rmse"] * (1 + 1e-4)
        np.testing.assert_allclose(plan.coefficients[:5], theirs["first_coefficients"], rtol=0.02)

    @pytest.mark.parametrize(
        ("n", "b", "k", "bands"), [(20, 5, 3, 5), (33, 4, 9, 12), (9, 9, 1, 9)]
    )
    def test_gradient_equals_finite_differences(self, n: int, b: int, k: int, bands: int) -> None:
        """Also where bands overlap from one participation to the next."""
        run = _Run(rounds=n, separation=b, participations=k)
        falls = np.random.default_rng(0).random(bands - 1) / bands
        wrong = check_grad(lambda x: run.banded_loss(x)[0], lambda x: run.banded_loss(x)[1], falls)
        assert wrong < 1e-6 * np.linalg.norm(run.banded_loss(falls)[1])

    @pytest.mark.parametrize(("n", "b", "k"), [(1, 1, 1), (2, 1, 2), (7, 100, 3), (20, 1, 20)])
    def test_runs_of_no_size_have_a_strategy(self, n: int, b: int, k: int) -> None:
        """Nothing to gain is no error."""
        plan = optimise_banded(rounds=n, min_separation=b, max_participations=k)
        independent = best(FactorisationName.INDEPENDENT_ROUNDS, (n, b, k)).prefix_rmse()
        assert plan.prefix_rmse() <= independent * (1 + 1e-9)

    def test_no_bands_are_refused(self) -> None:
        """One band is independent rounds; fewer is nothing."""
        with pytest.raises(ValueError, match="bands"):
            optimise_banded(rounds=10, min_separation=2, max_participations=2, bands=0)


def test_a_run_that_is_none_is_refused() -> None:
    """Before any search begins."""
    with pytest.raises(ValueError, match="rounds"):
        factorisation_for(FactorisationName.BLT, rounds=0, min_separation=1, max_participations=1)
