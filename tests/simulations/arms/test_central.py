"""The arms that see everything, each against a small independent oracle."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from simulations.arms.ease import EaseSettings, ease_weights
from simulations.arms.errors import LibraryMissingError
from simulations.arms.least_squares import LeastSquaresSettings, factorise
from simulations.arms.neighbours import NeighbourSettings, similarities


@pytest.fixture(scope="module")
def held() -> Any:
    """Fifty people, twenty items, and one item that nobody has."""
    rng = np.random.default_rng(7)
    ones = rng.random((50, 20)) < np.linspace(0.05, 0.6, 20)
    ones[:, 3] = False
    return csr_matrix(ones.astype(np.float64))


def test_similarities_all_neighbours_are_sklearns_cosines(held: Any) -> None:
    """Without damping and with room for everybody: scikit-learn's cosines, but for the diagonal."""
    from sklearn.metrics.pairwise import cosine_similarity

    expected = cosine_similarity(held.toarray().T)
    np.fill_diagonal(expected, 0.0)
    found = similarities(held, NeighbourSettings(neighbours=20, shrink=0.0)).toarray()
    assert found == pytest.approx(expected, abs=1e-12)


def test_similarities_keep_the_nearest_damped(held: Any) -> None:
    """Item by item, in plain Python: the three highest n / (√n √n + shrink)."""
    found = similarities(held, NeighbourSettings(neighbours=3, shrink=4.0)).toarray()
    sets = [set(held[:, item].nonzero()[0].tolist()) for item in range(20)]
    for item, people in enumerate(sets):
        alike = {
            other: len(people & those) / ((len(people) * len(those)) ** 0.5 + 4.0)
            for other, those in enumerate(sets)
            if other != item and people & those
        }
        nearest = sorted(alike, key=lambda other: (-alike[other], other))[:3]
        expected = np.zeros(20)
        expected[nearest] = [alike[other] for other in nearest]
        assert found[:, item] == pytest.approx(expected, abs=1e-12)


def test_similarities_in_blocks_are_those_of_one_block(held: Any) -> None:
    """More items than a block holds: the neighbours of each item are its own."""
    wide = csr_matrix(np.tile(held.toarray(), (1, 30)))
    found = similarities(wide, NeighbourSettings(neighbours=600, shrink=1.0)).toarray()
    one = similarities(held, NeighbourSettings(neighbours=20, shrink=1.0)).toarray()
    apart = ~np.eye(20, dtype=bool)
    assert found.shape == (600, 600)
    assert (np.diag(found) == 0.0).all()
    assert found[580:, :20][apart] == pytest.approx(one[apart], abs=1e-12)


def test_ease_weights_solve_each_items_ridge_regression(held: Any) -> None:
    """Column by column: ridge regression of an item on all others, never on itself."""
    dense = held.toarray()
    found = ease_weights(held, EaseSettings(ridge=2.5))
    for item in range(20):
        others = np.delete(np.arange(20), item)
        left = dense[:, others].T @ dense[:, others] + 2.5 * np.eye(19)
        expected = np.linalg.solve(left, dense[:, others].T @ dense[:, item])
        assert found[others, item] == pytest.approx(expected, abs=1e-9)
    assert (np.diag(found) == 0.0).all()


def test_ease_weights_length_power_one_half_is_the_raw_matrix(held: Any) -> None:
    """Unit-norm rows at power 0.5 are the matrix of ones over the root of the longest."""
    lengths = np.diff(held.indptr)
    unit = csr_matrix(held.multiply(1.0 / np.sqrt(lengths)[:, None]))
    found = ease_weights(unit, EaseSettings(ridge=1.0, length_power=0.5))
    raw = ease_weights(held, EaseSettings(ridge=1.0 * lengths.max()))
    assert found == pytest.approx(raw, abs=1e-9)


class TestFactorise:
    """iALS by the library."""

    SETTINGS = LeastSquaresSettings(factors=3, regularisation=2.0, positive_weight=5.0, sweeps=200)

    @pytest.fixture(autouse=True)
    def library(self) -> None:
        """The library is an extra."""
        pytest.importorskip("implicit", reason="the extra 'peers' is not installed")

    def loss(self, held: Any, people: Any, items: Any) -> float:
        """What is minimised, written out (Hu, Koren and Volinsky 2008, equation 3)."""
        ones = held.toarray()
        errors = np.where(ones > 0, 5.0, 1.0) * (ones - people @ items.T) ** 2
        return float(errors.sum() + 2.0 * ((people**2).sum() + (items**2).sum()))

    def test_factorise_reaches_the_loss_of_plain_numpy(self, held: Any) -> None:
        """Exact alternating least squares from another start ends at the same loss."""
        found = factorise(held, self.SETTINGS, seed=1)
        ones = held.toarray()
        weights = np.where(ones > 0, 5.0, 1.0)
        rng = np.random.default_rng(9)
        people, items = rng.standard_normal((50, 3)), rng.standard_normal((20, 3))
        for _ in range(200):
            for mine, others, weight, wanted in (
                (people, items, weights, ones),
                (items, people, weights.T, ones.T),
            ):
                for row in range(len(mine)):
                    left = (others * weight[row][:, None]).T @ others + 2.0 * np.eye(3)
                    mine[row] = np.linalg.solve(
                        left, (others * weight[row][:, None]).T @ wanted[row]
                    )
        expected = self.loss(held, people, items)
        assert self.loss(held, found.people, found.items) == pytest.approx(expected, rel=0.01)

    def test_factorise_same_seed_same_bits(self, held: Any) -> None:
        """One thread: a seed decides."""
        first, again, other = (factorise(held, self.SETTINGS, seed=s).items for s in (1, 1, 2))
        assert (first == again).all()
        assert not (first == other).all()


def test_factorise_without_the_library_says_which_extra(
    held: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing extra is one sentence that names it."""
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(LibraryMissingError, match=r"homebody\[peers\]"):
        factorise(held, LeastSquaresSettings(), seed=0)
