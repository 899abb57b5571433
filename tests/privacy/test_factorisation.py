"""Factorisations: every participation pattern of small cases, jax-privacy's numbers, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import tree
from privacy.factorisation import MAX_ROUNDS, Factorisation, FactorisationName

ORACLE = json.loads((Path(__file__).parent / "oracles" / "jax_privacy.json").read_text())
NAMES = list(FactorisationName)


def make(name: FactorisationName, *, n: int = 6, b: int = 2, k: int = 2) -> Factorisation:
    """Give a strategy of this name with numbers of no special kind."""
    bands = (1.0, 0.7, 0.2, 0.2)[:n]
    blt = name is FactorisationName.BLT
    return Factorisation(
        name=name,
        rounds=n,
        min_separation=b,
        max_participations=k,
        coefficients=bands if name is FactorisationName.BANDED_TOEPLITZ else (),
        decays=(0.9, 0.4) if blt else (),
        weights=(0.3, 0.5) if blt else (),
    )


def patterns(n: int, b: int, k: int) -> Iterator[list[int]]:
    """Yield every set of at most k rounds that lie at least b apart."""

    def more(chosen: list[int]) -> Iterator[list[int]]:
        yield chosen
        if len(chosen) < k:
            for following in range(chosen[-1] + b if chosen else 0, n):
                yield from more([*chosen, following])

    return more([])


def brute_sensitivity(strategy: np.ndarray, *, b: int, k: int) -> float:
    """Move the same unit vector in every round of a pattern, for all patterns.

    All entries of C are at least 0, so rounds that move the sum the same way are the worst: any
    other choice of unit vectors has inner products of at most 1.
    """
    n = strategy.shape[1]
    return max(float(np.linalg.norm(strategy[:, p].sum(axis=1))) for p in patterns(n, b, k))


class TestSensitivity:
    """The one number on which the guarantee rests."""

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("k", [1, 2, 3, 5])
    def test_sensitivity_over_all_patterns_is_exact(self, name: FactorisationName, k: int) -> None:
        """For 1 to 11 rounds, every separation, and every set of rounds that they admit."""
        for n in range(1, 12):
            for b in range(1, n + 2):
                plan = make(name, n=n, b=b, k=k)
                expected = brute_sensitivity(plan.strategy_matrix(), b=b, k=k)
                assert plan.sensitivity() == pytest.approx(expected, rel=1e-12)

    def test_tree_sensitivity_by_blocks_is_exact_where_they_divide(self) -> None:
        """Separation 128 in 1024 rounds: blocks of two rounds lose nothing."""
        got = tree.squared_sensitivity(rounds=1024, min_separation=128, max_participations=4)
        assert got == tree._best(1024, separation=128, most=4)

    @settings(max_examples=25, deadline=None)
    @given(n=st.integers(65, 300), b=st.integers(65, 80), k=st.integers(1, 4))
    def test_tree_sensitivity_by_blocks_is_never_too_small(self, n: int, b: int, k: int) -> None:
        """Above separation 64 the number is a bound from above, and a close one."""
        exact = tree._best(n, separation=b, most=min(k, -(-n // b)))
        got = tree.squared_sensitivity(rounds=n, min_separation=b, max_participations=k)
        assert exact <= got <= 1.25 * exact

    @given(
        name=st.sampled_from(NAMES),
        n=st.integers(4, 40),
        b=st.integers(1, 12),
        k=st.integers(1, 8),
    )
    def test_sensitivity_grows_with_participation_and_falls_with_separation(
        self, name: FactorisationName, n: int, b: int, k: int
    ) -> None:
        """More rounds of one person, or closer ones, never cost less."""
        here = make(name, n=n, b=b, k=k).sensitivity()
        assert make(name, n=n, b=b, k=k + 1).sensitivity() >= here - 1e-12
        assert make(name, n=n, b=b + 1, k=k).sensitivity() <= here + 1e-12

    def test_participations_beyond_the_rounds_cost_nothing(self) -> None:
        """Ten rounds hold four that are three apart."""
        plan = make(FactorisationName.BLT, n=10, b=3, k=100)
        assert plan.participations == 4
        assert plan.sensitivity() == make(FactorisationName.BLT, n=10, b=3, k=4).sensitivity()


class TestErrors:
    """What the noise costs."""

    @pytest.mark.parametrize("name", NAMES)
    def test_prefix_errors_equal_those_of_the_dense_matrices(self, name: FactorisationName) -> None:
        """B = A·C⁻¹ for Toeplitz strategies; for trees, the rows of their decoding."""
        plan = make(name, n=13)
        if name is FactorisationName.TREE:
            expected = [t.bit_count() for t in range(1, 14)]
        elif name is FactorisationName.TREE_HONAKER:
            # The best unbiased estimate of each complete node from the nodes below it alone.
            expected = []
            for t in range(1, 14):
                variance = 0.0
                for height, _ in tree.expansion(t):
                    nodes = tree.node_matrix(1 << height)
                    variance += float((np.linalg.pinv(nodes).sum(axis=0) ** 2).sum())
                expected.append(variance)
        else:
            b = np.tril(np.ones((13, 13))) @ np.linalg.inv(plan.strategy_matrix())
            expected = (b**2).sum(axis=1).tolist()
        np.testing.assert_allclose(plan.prefix_errors(), expected, rtol=1e-12)

    @pytest.mark.parametrize("name", NAMES)
    def test_inverse_column_times_strategy_is_one(self, name: FactorisationName) -> None:
        """C⁻¹ is what the streamed noise applies."""
        plan = make(name, n=30)
        if name in (FactorisationName.TREE, FactorisationName.TREE_HONAKER):
            with pytest.raises(ValueError, match="tree"):
                plan.inverse_column()
            return
        product = np.convolve(plan.strategy_column(), plan.inverse_column())[:30]
        np.testing.assert_allclose(product, np.eye(30)[0], atol=1e-13)


class TestAgainstJaxPrivacy:
    """An independent implementation (recorded by tests/privacy/oracles/make_jax_privacy.py)."""

    @pytest.mark.parametrize("case", ORACLE["fixed"], ids=lambda case: str(case["rounds"]))
    def test_blt_numbers_equal_jax_privacys(self, case: dict[str, Any]) -> None:
        """Sensitivity, mean error and inverse of given decays and weights."""
        plan = Factorisation(
            name=FactorisationName.BLT,
            rounds=case["rounds"],
            min_separation=case["min_separation"],
            max_participations=case["max_participations"],
            decays=tuple(case["decays"]),
            weights=tuple(case["weights"]),
        )
        assert plan.sensitivity() == pytest.approx(case["sensitivity"], rel=1e-10)
        assert plan.prefix_errors().mean() == pytest.approx(case["mean_error"], rel=1e-10)
        np.testing.assert_allclose(plan.inverse_column()[:8], case["inverse_column"], rtol=1e-9)

    @pytest.mark.parametrize("case", ORACLE["runs"], ids=lambda case: str(case["rounds"]))
    def test_tree_sensitivity_is_within_jax_privacys_bound(self, case: dict[str, Any]) -> None:
        """Theirs is a bound from above, over patterns nobody can have; ours is the maximum."""
        plan = make(
            FactorisationName.TREE,
            n=case["rounds"],
            b=case["min_separation"],
            k=case["max_participations"],
        )
        bound = case["tree"]["sensitivity_upper_bound"]
        assert 0.97 * bound <= plan.sensitivity() <= bound


class TestRefusals:
    """What is no strategy is not made."""

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"rounds": 0}, "rounds"),
            ({"rounds": MAX_ROUNDS + 1}, "rounds"),
            ({"rounds": 5.0}, "rounds"),
            ({"rounds": True}, "rounds"),
            ({"min_separation": 0}, "min_separation"),
            ({"max_participations": -1}, "max_participations"),
            ({"decays": (1.0, 0.4)}, "decays"),
            ({"decays": (0.9, 0.0)}, "decays"),
            ({"decays": (math.nan, 0.4)}, "decays"),
            ({"decays": (0.9,)}, "equally many"),
            ({"decays": (0.9,) * 9, "weights": (0.1,) * 9}, "at most 8"),
            ({"weights": (0.6, 0.5)}, "weights"),
            ({"weights": (0.3, -0.1)}, "weights"),
            ({"weights": [0.3, 0.5]}, "tuple"),
            ({"decays": (), "weights": ()}, "belong to blt"),
            ({"coefficients": (1.0, 0.5)}, "banded"),
            ({"name": FactorisationName.TREE}, "belong to blt"),
        ],
    )
    def test_blt_that_is_none_is_refused(self, changes: dict[str, Any], match: str) -> None:
        """A rising or negative column would make the sensitivity formula too small."""
        values: dict[str, Any] = {
            "name": FactorisationName.BLT,
            "rounds": 6,
            "min_separation": 2,
            "max_participations": 2,
            "decays": (0.9, 0.4),
            "weights": (0.3, 0.5),
        }
        with pytest.raises(ValueError, match=match):
            Factorisation(**{**values, **changes})

    @pytest.mark.parametrize(
        "coefficients",
        [(), (0.9, 0.5), (1.0, 0.5, 0.6), (1.0, -0.1), (1.0,) * 7, (1.0, math.inf), (1.0, "a")],
    )
    def test_bands_that_are_none_are_refused(self, coefficients: Any) -> None:
        """They start with 1, never rise, never fall below 0, and fit into the rounds."""
        with pytest.raises(ValueError, match="coefficients"):
            Factorisation(
                name=FactorisationName.BANDED_TOEPLITZ,
                rounds=6,
                min_separation=2,
                max_participations=2,
                coefficients=coefficients,
            )

    def test_column_of_a_tree_is_refused(self) -> None:
        """Its strategy is no square matrix."""
        with pytest.raises(ValueError, match="Toeplitz"):
            make(FactorisationName.TREE).strategy_column()

    def test_dense_matrix_of_many_rounds_is_refused(self) -> None:
        """A gigabyte by mistake."""
        with pytest.raises(ValueError, match="dense"):
            make(FactorisationName.BLT, n=5000).strategy_matrix()


class TestStored:
    """In events and in states."""

    @pytest.mark.parametrize("name", NAMES)
    def test_values_read_back_are_equal(self, name: FactorisationName) -> None:
        """Through JSON, to the last bit."""
        plan = make(name)
        assert Factorisation.from_values(json.loads(json.dumps(plan.to_values()))) == plan

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "other"},
            {"rounds": "6"},
            {"decays": 3},
            {"decays": ["x", 0.4]},
            {"extra": 1},
            {"weights": None},
        ],
    )
    def test_values_of_anything_else_are_refused(self, change: dict[str, Any]) -> None:
        """Stored bytes may be damaged or of another version."""
        with pytest.raises(ValueError, match=r"\w"):
            Factorisation.from_values({**make(FactorisationName.BLT).to_values(), **change})

    def test_values_with_a_field_missing_are_refused(self) -> None:
        """Nothing is guessed."""
        values = make(FactorisationName.BLT).to_values()
        del values["weights"]
        with pytest.raises(ValueError, match="fields"):
            Factorisation.from_values(values)
