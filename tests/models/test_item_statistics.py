"""The decoder of one-shot item statistics, against independent formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.wire.vectors import pack_outer_product
from models.decoded import popularity_from_counts
from models.item_statistics import (
    StatisticsSettings,
    decode_item_statistics,
    denoise_gram,
    noise_edge,
    select_top_items,
    suggest_top_items,
    unpack_gram,
)


def _packed_sum(vectors: np.ndarray) -> np.ndarray:
    """Add up what devices would send, one packed x x' each."""
    _people, size = vectors.shape
    total = np.zeros(size * (size + 1) // 2)
    for x in vectors:
        positions = np.flatnonzero(x).astype(np.int32)
        total += pack_outer_product(
            positions=positions, values=x[positions].astype(np.float32), size=size
        ).to_dense()
    return total


def _histories(people: int, size: int, seed: int = 0) -> np.ndarray:
    """Draw unit-norm binary histories in two tastes, so that there is something to find."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, 2, people)
    likes = np.where((np.arange(size) % 2)[None, :] == taste[:, None], 0.5, 0.05)
    x = (rng.random((people, size)) < likes).astype(float)
    x[np.arange(people), rng.integers(0, size, people)] = 1.0
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _ease(gram: np.ndarray, ridge: float) -> np.ndarray:
    """Solve EASE as its paper writes it (Steck 2019, equation 8)."""
    inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    weights = inverse / (-np.diag(inverse))
    np.fill_diagonal(weights, 0.0)
    return weights


def test_unpack_gram_sum_of_devices_gives_the_gram_matrix() -> None:
    """What devices pack, the server unpacks to X'X."""
    x = _histories(40, 7)
    assert np.allclose(unpack_gram(_packed_sum(x), 7), x.T @ x, atol=1e-6)


def test_unpack_gram_wrong_length_or_nan_is_refused() -> None:
    """A sum that cannot be a packed matrix never reaches the decoder."""
    with pytest.raises(ValueError, match="expected 6 entries"):
        unpack_gram(np.zeros(5), 3)
    with pytest.raises(ValueError, match="finite"):
        unpack_gram(np.array([1.0, np.nan, 1.0]), 2)


def test_decode_without_noise_equals_ease_in_closed_form() -> None:
    """At full rank and without noise the factored scores are EASE's, item for item."""
    x = _histories(200, 12)
    ridge_mean = 0.5
    decoded = decode_item_statistics(
        _packed_sum(x),
        top_items=np.arange(12, dtype=np.int32),
        n_items=12,
        noise_std=0.0,
        settings=StatisticsSettings(rank=12, ridge_edges=0.0, ridge_mean=ridge_mean),
    )
    factors = decoded.factors.astype(float)
    scores = decoded.scale * ((x @ factors) @ factors.T - x * decoded.self_weight)
    expected = x @ _ease(x.T @ x, ridge_mean * len(x) / 12)
    assert np.abs(scores - expected).max() < 1e-5


def test_decode_with_a_popularity_power_equals_ease_on_balanced_items() -> None:
    """EASE on D G D, with the balance taken back out of the weights, in closed form."""
    x = _histories(200, 12)
    power, ridge_mean = 0.6, 0.5
    decoded = decode_item_statistics(
        _packed_sum(x),
        top_items=np.arange(12, dtype=np.int32),
        n_items=12,
        noise_std=0.0,
        settings=StatisticsSettings(
            rank=12, ridge_edges=0.0, ridge_mean=ridge_mean, popularity_power=power
        ),
    )
    factors = decoded.factors.astype(float)
    scores = decoded.scale * ((x @ factors) @ factors.T - x * decoded.self_weight)
    gram = x.T @ x
    strength = np.diag(gram)
    d = (strength / strength.min()) ** (-power / 2)
    balanced = gram * d[:, None] * d
    expected = (x * d) @ _ease(balanced, ridge_mean * np.trace(balanced) / 12) / d
    assert np.abs(scores - expected).max() < 1e-5
    assert decoded.self_weight.max() < 1


def test_decode_items_outside_the_top_have_no_factors_and_keep_popularity() -> None:
    """An item that the statistics do not cover falls back to the released counts."""
    x = _histories(60, 3)
    decoded = decode_item_statistics(
        _packed_sum(x),
        top_items=np.array([1, 4, 6], np.int32),
        n_items=8,
        noise_std=0.0,
        noisy_counts=np.array([8.0, 1, -3, 2, 1, 0, 4, 1]),
        settings=StatisticsSettings(rank=5),
    )
    outside = [0, 2, 3, 5, 7]
    assert decoded.factors.shape == (8, 5)
    assert not decoded.factors[outside].any()
    assert decoded.factors[[1, 4, 6]].any(axis=1).all()
    assert (decoded.self_weight[outside] == 0).all()
    assert (decoded.scale[outside] == 1).all()
    assert decoded.popularity.tolist() == [1.0, 0.125, 0.0, 0.25, 0.125, 0.0, 0.5, 0.125]


def test_decode_without_counts_takes_popularity_from_the_diagonal() -> None:
    """The diagonal of the Gram matrix counts how much of people's norm an item holds."""
    decoded = decode_item_statistics(
        np.array([2.0, 0.0, 1.0]),
        top_items=np.array([0, 2], np.int32),
        n_items=3,
        noise_std=0.0,
    )
    assert decoded.popularity.tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("top", [[1, 0], [0, 0], [-1, 1], [0, 9]])
def test_decode_top_items_out_of_order_or_range_are_refused(top: list[int]) -> None:
    """Items in another order than the packing would mix up the catalogue."""
    with pytest.raises(ValueError, match="top_items"):
        decode_item_statistics(
            np.zeros(3), top_items=np.array(top, np.int32), n_items=5, noise_std=0.0
        )


def test_decode_counts_of_another_catalogue_are_refused() -> None:
    """Counts must name every item of the catalogue."""
    with pytest.raises(ValueError, match="noisy_counts"):
        decode_item_statistics(
            np.zeros(3),
            top_items=np.array([0, 1], np.int32),
            n_items=5,
            noise_std=0.0,
            noisy_counts=np.zeros(4),
        )


@pytest.mark.parametrize("seed", range(3))
def test_noise_edge_pure_noise_reaches_it_and_not_beyond(seed: int) -> None:
    """The edge fits noise of the stated deviation, and neither half nor twice of it."""
    size, std = 300, 0.7
    packed = np.random.default_rng(seed).standard_normal(size * (size + 1) // 2) * std
    largest = np.linalg.eigvalsh(unpack_gram(packed, size)).max()
    assert 0.93 * noise_edge(std, size) < largest < 1.05 * noise_edge(std, size)


def test_denoise_gram_pure_noise_leaves_almost_nothing() -> None:
    """Noise alone must not become factors."""
    size = 200
    packed = np.random.default_rng(1).standard_normal(size * (size + 1) // 2)
    assert denoise_gram(unpack_gram(packed, size), 1.0).values.sum() < 0.2 * noise_edge(1.0, size)


def test_denoise_gram_spike_is_brought_back_to_its_size() -> None:
    """A spike of known size is found again, without the part that noise added to it."""
    size, spike, std = 400, 60.0, 1.0
    rng = np.random.default_rng(2)
    v = rng.standard_normal(size)
    v /= np.linalg.norm(v)
    noise = unpack_gram(rng.standard_normal(size * (size + 1) // 2) * std, size)
    spectrum = denoise_gram(spike * np.outer(v, v) + noise, std)
    cosine_squared = float(v @ spectrum.vectors[:, 0]) ** 2
    # What minimises the error of value * vector vector' is the spike times the squared cosine.
    assert spectrum.values[0] == pytest.approx(spike * cosine_squared, rel=0.05)


def test_denoise_gram_without_noise_keeps_every_positive_eigenvalue() -> None:
    """Without noise nothing is shrunk and only rounding is dropped."""
    x = _histories(5, 9)
    spectrum = denoise_gram(x.T @ x, 0.0)
    assert len(spectrum.values) == np.linalg.matrix_rank(x)
    assert spectrum.values.sum() == pytest.approx(5.0)


def test_denoise_gram_negative_noise_is_refused() -> None:
    """A negative deviation is a caller's mistake."""
    with pytest.raises(ValueError, match="noise_std"):
        denoise_gram(np.eye(2), -1.0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12), std=st.floats(0, 100))
def test_decode_any_finite_sum_gives_a_table_that_can_be_shipped(
    seed: int, size: int, std: float
) -> None:
    """Whatever the noise did, the arrays keep the promises of a release."""
    packed = np.random.default_rng(seed).standard_normal(size * (size + 1) // 2) * (std + 0.1)
    decoded = decode_item_statistics(
        packed, top_items=np.arange(size, dtype=np.int32), n_items=size + 1, noise_std=std
    )
    for array in vars(decoded).values():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert (decoded.self_weight >= 0).all()
    assert (decoded.self_weight < 1).all()
    assert (decoded.scale > 0).all()
    assert (decoded.popularity >= 0).all()
    assert (decoded.popularity <= 1).all()


def test_decode_empty_list_of_items_gives_popularity_only() -> None:
    """With no item to cover there are no factors, and nothing breaks."""
    decoded = decode_item_statistics(
        np.zeros(0),
        top_items=np.zeros(0, np.int32),
        n_items=2,
        noise_std=1.0,
        noisy_counts=np.array([1.0, 2.0]),
    )
    assert not decoded.factors.any()
    assert decoded.popularity.tolist() == [0.5, 1.0]


def test_select_top_items_ties_fall_to_the_lower_index() -> None:
    """Every server that sees the same counts chooses the same items."""
    assert select_top_items(np.array([1.0, 3.0, 1.0, 1.0]), 3).tolist() == [0, 1, 2]
    assert select_top_items(np.array([1.0, 3.0]), 9).tolist() == [0, 1]
    with pytest.raises(ValueError, match="k must"):
        select_top_items(np.zeros(2), -1)


def test_suggest_top_items_more_people_or_less_noise_gives_more() -> None:
    """K grows with people and shrinks with noise, within the catalogue."""
    few = suggest_top_items(people=800, noise_std=1.0, n_items=5000)
    assert few < suggest_top_items(people=8000, noise_std=1.0, n_items=5000)
    assert few > suggest_top_items(people=800, noise_std=4.0, n_items=5000)
    assert suggest_top_items(people=1, noise_std=0.0, n_items=77) == 77
    assert suggest_top_items(people=1, noise_std=1e9, n_items=77) == 1
    with pytest.raises(ValueError, match="people"):
        suggest_top_items(people=0, noise_std=1.0, n_items=5)


def test_popularity_from_counts_all_noise_is_zero() -> None:
    """Counts that are all negative say nothing, and divide nothing by zero."""
    assert popularity_from_counts(np.array([-1.0, -2.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0},
        {"ridge_edges": -1.0},
        {"ridge_edges": 0.0, "ridge_mean": 0.0},
        {"popularity_power": 1.5},
    ],
)
def test_statistics_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """Settings that cannot decode are refused when they are made."""
    with pytest.raises(ValueError, match="must be"):
        StatisticsSettings(**wrong)  # type: ignore[arg-type]
