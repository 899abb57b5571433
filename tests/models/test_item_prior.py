"""The prior of item statistics, against its optimality conditions and independent formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.item_prior import ItemPrior, PriorSettings, strength_of
from models.item_statistics import (
    StatisticsSettings,
    decode_item_statistics,
    denoise_gram,
    noise_edge,
    suggest_top_items,
    unpack_gram,
)


def _kinds(size: int, groups: int) -> np.ndarray:
    """Give each item one of some kinds in turn, as a unit-norm row."""
    return np.eye(groups)[np.arange(size) % groups]


def _noise(size: int, std: float, seed: int = 0) -> np.ndarray:
    """Draw what the aggregator adds, unpacked."""
    packed = np.random.default_rng(seed).standard_normal(size * (size + 1) // 2) * std
    return unpack_gram(packed, size)


def _rebuilt(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.asarray((vectors * values) @ vectors.T)


def test_clean_satisfies_the_conditions_of_the_minimum() -> None:
    """The residual after the penalty is negative semi-definite and orthogonal to the estimate.

    These are the Karush-Kuhn-Tucker conditions of |G - M|^2 / 2 + t tr(S^-1 M) over M >= 0, with S
    written out here as the module's first rule says.
    """
    rng = np.random.default_rng(3)
    attributes, rows = rng.standard_normal((9, 4)), np.array([0, 2, 3, 5, 6, 8], np.int32)
    strength = rng.uniform(0.1, 1.0, 9)
    chosen = PriorSettings(penalty_edges=0.7, common=1.5, own=0.1, popularity_power=0.5, added=0.0)
    gram = (g := rng.standard_normal((6, 6))) + g.T + 4 * np.eye(6)
    found = _rebuilt(
        *ItemPrior(attributes=attributes, settings=chosen).clean(gram, rows, strength, 2.0)
    )
    part, d = attributes[rows], strength[rows] ** 0.5
    prior = np.diag(d) @ (1.5 + part @ part.T + np.eye(6)) @ np.diag(d)
    prior = prior * 6 / np.trace(prior) + 0.1 * np.eye(6)
    residual = gram - 0.7 * 2.0 * np.linalg.inv(prior) - found
    assert np.linalg.eigvalsh(found).min() > -1e-9
    assert np.linalg.eigvalsh(residual).max() < 1e-9
    assert np.abs(residual @ found).max() < 1e-8
    assert np.abs(found).max() > 0.1


def test_clean_without_noise_is_the_gram_matrix() -> None:
    """Attributes hold noise down; without noise they take nothing away."""
    x = np.random.default_rng(0).random((20, 5))
    prior = ItemPrior(attributes=_kinds(5, 2), settings=PriorSettings(added=0.0))
    values, vectors = prior.clean(x.T @ x, np.arange(5, dtype=np.int32), np.ones(5), 0.0)
    assert np.abs(_rebuilt(values, vectors) - x.T @ x).max() < 1e-9
    assert (np.diff(values) <= 0).all()


def test_clean_added_attributes_bring_alike_items_together_and_no_others() -> None:
    """Rule 3 adds to pairs that share an attribute, in mean eigenvalues."""
    prior = ItemPrior(attributes=_kinds(4, 2), settings=PriorSettings(added=0.5))
    found = _rebuilt(*prior.clean(3 * np.eye(4), np.arange(4, dtype=np.int32), np.ones(4), 0.0))
    assert found[0, 2] == pytest.approx(0.5 * 3.0)
    assert found[0, 0] == pytest.approx(3.0 + 0.5 * 3.0)
    assert abs(found[0, 1]) < 1e-9


def test_clean_true_attributes_find_more_than_noise_allows_without() -> None:
    """Tastes that follow kinds, far below the noise edge, are found with the kinds only."""
    size, std = 200, 3.0
    kinds = _kinds(size, 8)
    truth = 40.0 * (kinds @ kinds.T) / (size / 8)
    assert np.linalg.eigvalsh(truth).max() < 0.75 * noise_edge(std, size)
    rows, strength = np.arange(size, dtype=np.int32), np.ones(size)
    for seed in range(3):
        gram = truth + _noise(size, std, seed)
        prior = ItemPrior(attributes=kinds, settings=PriorSettings(added=0.0))
        known = _rebuilt(*prior.clean(gram, rows, strength, noise_edge(std, size)))
        bare = denoise_gram(gram, std)
        error = np.linalg.norm(known - truth)
        assert error < 0.7 * np.linalg.norm(truth)
        assert error < 0.7 * np.linalg.norm(_rebuilt(bare.values, bare.vectors) - truth)


def test_expected_is_the_conditional_mean_of_a_gaussian() -> None:
    """What an item without statistics gets is what the joint covariance says, halved."""
    rng = np.random.default_rng(1)
    attributes, rows = rng.standard_normal((7, 3)), np.array([1, 2, 4, 6])
    strength, factors = rng.uniform(0.1, 1.0, 7), rng.standard_normal((4, 2))
    chosen = PriorSettings(common=0.7, popularity_power=0.3, outside=0.5)
    found = ItemPrior(attributes=attributes, settings=chosen).expected(
        factors, rows.astype(np.int32), strength
    )
    d = strength**0.3
    joint = d[:, None] * (0.7 + attributes @ attributes.T + np.eye(7)) * d
    outside = [0, 3, 5]
    mean = joint[np.ix_(outside, rows)] @ np.linalg.inv(joint[np.ix_(rows, rows)]) @ factors
    assert np.abs(found[outside] - 0.5 * mean).max() < 1e-9


def test_decode_with_a_prior_gives_items_without_statistics_their_kind() -> None:
    """An item outside the top K stands with those of its kind; without a prior it has nothing."""
    rng = np.random.default_rng(5)
    kinds = _kinds(12, 2)
    taste = rng.integers(0, 2, 400)
    likes = (np.arange(10) % 2)[None, :] == taste[:, None]
    x = (rng.random((400, 10)) < np.where(likes, 0.6, 0.05)).astype(float)
    x = x[x.any(axis=1)]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows, columns = np.triu_indices(10)
    packed = (x.T @ x)[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    decoded = decode_item_statistics(
        packed,
        top_items=np.arange(10, dtype=np.int32),
        n_items=12,
        noise_std=0.5,
        noisy_counts=np.r_[x.sum(axis=0), 1.0, 1.0],
        settings=StatisticsSettings(rank=12, ridge_edges=0.3, ridge_mean=1.0),
        prior=ItemPrior(attributes=kinds),
    )
    together = decoded.factors @ decoded.factors.T * decoded.scale
    assert together[0, 10] > 2 * abs(together[1, 10])
    assert together[1, 11] > 2 * abs(together[0, 11])


def test_decode_prior_of_another_catalogue_is_refused() -> None:
    """Attributes must name every item of the catalogue."""
    with pytest.raises(ValueError, match="must name 5 items, got 4"):
        decode_item_statistics(
            np.zeros(3),
            top_items=np.array([0, 1], np.int32),
            n_items=5,
            noise_std=0.0,
            prior=ItemPrior(attributes=np.ones((4, 1))),
        )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 8),
    std=st.floats(0, 100),
    width=st.integers(0, 5),
)
def test_decode_with_any_prior_gives_a_table_that_can_be_shipped(
    seed: int, size: int, std: float, width: int
) -> None:
    """Whatever noise and attributes are, the arrays keep the promises of a release."""
    rng = np.random.default_rng(seed)
    decoded = decode_item_statistics(
        rng.standard_normal(size * (size + 1) // 2) * (std + 0.1),
        top_items=np.arange(size, dtype=np.int32),
        n_items=size + 3,
        noise_std=std,
        noisy_counts=rng.standard_normal(size + 3),
        settings=StatisticsSettings(rank=4, popularity_power=0.5, diagonal_power=0.9),
        prior=ItemPrior(attributes=rng.standard_normal((size + 3, width))),
    )
    for array in vars(decoded).values():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert (decoded.self_weight >= 0).all()
    assert (decoded.self_weight < 1).all()
    assert (decoded.scale > 0).all()


def test_decode_diagonal_power_0_is_ridge_regression() -> None:
    """Without the division by the diagonal the weights are (G + l)^-1 G, off the diagonal."""
    x = np.random.default_rng(2).random((50, 6))
    gram = x.T @ x
    rows, columns = np.triu_indices(6)
    decoded = decode_item_statistics(
        gram[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0)),
        top_items=np.arange(6, dtype=np.int32),
        n_items=6,
        noise_std=0.0,
        settings=StatisticsSettings(rank=6, ridge_edges=0, ridge_mean=0.5, diagonal_power=0.0),
    )
    ridge = 0.5 * np.trace(gram) / 6
    expected = np.linalg.solve(gram + ridge * np.eye(6), gram)
    found = decoded.factors @ decoded.factors.T * decoded.scale
    assert np.abs(found - expected).max() < 1e-5


def test_suggest_top_items_with_a_prior_grows_slowly_from_a_higher_start() -> None:
    """A prior lets rare items in where there is noise, and changes less with it."""
    noisy, clean = ({"people": 6_040, "noise_std": std, "n_items": 100_000} for std in (4.5, 0.01))
    assert suggest_top_items(**noisy, prior=True) > suggest_top_items(**noisy)
    assert suggest_top_items(**clean, prior=True) < suggest_top_items(**clean)
    assert suggest_top_items(people=1, noise_std=0.0, n_items=77, prior=True) == 77


def test_strength_of_nothing_but_noise_is_even() -> None:
    """Counts that are all negative make every item alike."""
    assert strength_of(np.array([-1.0, -2.0])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"penalty_edges": -0.1},
        {"common": float("nan")},
        {"added": -1.0},
        {"own": 0.0},
        {"popularity_power": 1.5},
        {"outside": -0.5},
    ],
)
def test_prior_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """Settings that cannot be are refused when they are made."""
    with pytest.raises(ValueError, match="must be"):
        PriorSettings(**wrong)


def test_item_prior_attributes_that_are_no_finite_matrix_are_refused() -> None:
    """NaN would spread to every item."""
    for wrong in (np.ones(3), np.array([[np.nan]])):
        with pytest.raises(ValueError, match="finite"):
            ItemPrior(attributes=wrong)
    with pytest.raises(ValueError, match="strength"):
        ItemPrior(attributes=np.ones((3, 1))).expected(
            np.ones((1, 1)), np.array([0], np.int32), np.ones(2)
        )
