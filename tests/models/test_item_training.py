"""The server half of item training: explicit state, and a table that learns."""

import subprocess
import sys

import numpy as np
import pytest

from models.item_training import (
    ServerOptimizer,
    apply_sum,
    decode_trained,
    gathered_noise_std,
    initial_state,
    remove_noise,
    state_from_factors,
)


def test_initial_state_same_seed_gives_the_same_small_table() -> None:
    """The start is public and repeatable, and its rows are about as long as asked."""
    one, same, other = (initial_state(n_items=500, rank=8, seed=s, std=0.2) for s in (1, 1, 2))
    assert np.array_equal(one.factors, same.factors)
    assert not np.array_equal(one.factors, other.factors)
    assert np.sqrt((one.factors**2).sum(axis=1).mean()) == pytest.approx(0.2, rel=0.1)
    assert one.rounds == 0


def test_apply_sum_momentum_adds_what_it_remembers() -> None:
    """Two equal deltas move 1 and then 1 + momentum."""
    state = state_from_factors(np.zeros((2, 1), np.float32))
    delta = np.array([[1.0], [-2.0]], np.float32)
    optimizer = ServerOptimizer(learning_rate=0.5, momentum=0.9)
    first = apply_sum(state, delta, optimizer)
    second = apply_sum(first, delta, optimizer)
    assert np.allclose(first.factors, 0.5 * delta)
    assert np.allclose(second.factors, 0.5 * delta + 0.5 * 1.9 * delta)
    assert second.rounds == 2
    assert not state.factors.any()


def test_apply_sum_wrong_shape_or_nan_is_refused() -> None:
    """A sum of another table, or a poisoned one, never becomes a state."""
    state = initial_state(n_items=3, rank=2, seed=0)
    for delta in (np.zeros((2, 3), np.float32), np.full((3, 2), np.nan, np.float32)):
        with pytest.raises(ValueError, match="the delta must be finite"):
            apply_sum(state, delta)


def test_gathered_noise_std_is_what_the_optimizer_gathers() -> None:
    """Rounds of pure noise leave exactly the stated deviation; 5 % off either way would show."""
    rng = np.random.default_rng(0)
    optimizer = ServerOptimizer(learning_rate=3.0, momentum=0.8)
    state = state_from_factors(np.zeros((4_000, 8), np.float32))
    for _ in range(7):
        noise = (rng.standard_normal(state.factors.shape) * 0.1).astype(np.float32)
        state = apply_sum(state, noise, optimizer)
    stated = gathered_noise_std(noise_std=0.1, rounds=7, optimizer=optimizer)
    assert float(state.factors.std()) == pytest.approx(stated, rel=0.02)
    assert gathered_noise_std(noise_std=0.1, rounds=0) == 0.0


def test_gathered_noise_std_of_correlated_rounds_is_that_of_every_noise_applied() -> None:
    """Each white noise, put through the column and the optimiser alone, adds its own variance."""
    optimizer = ServerOptimizer(learning_rate=0.7, momentum=0.6)
    column = np.array([1.0, -0.4, -0.2, -0.1, -0.05])
    variance = 0.0
    for start in range(5):
        state = state_from_factors(np.zeros((1, 1), np.float32))
        for number in range(5):
            noise = column[number - start] if number >= start else 0.0
            state = apply_sum(state, np.full((1, 1), noise, np.float32), optimizer)
        variance += float(state.factors[0, 0]) ** 2
    stated = gathered_noise_std(noise_std=0.3, rounds=5, optimizer=optimizer, noise_column=column)
    assert stated == pytest.approx(0.3 * np.sqrt(variance), rel=1e-5)


def test_remove_noise_keeps_signal_and_drops_noise() -> None:
    """A strong direction stays nearly whole, all others become 0; without noise nothing changes."""
    rng = np.random.default_rng(1)
    signal = np.outer(rng.standard_normal(900), [1.0, 0.0, 0.0, 0.0]) * 3.0
    noisy = signal + rng.standard_normal(signal.shape) * 0.3
    cleaned = remove_noise(noisy, 0.3)
    assert np.linalg.matrix_rank(cleaned) == 1
    assert np.linalg.norm(cleaned - signal) < 0.6 * np.linalg.norm(noisy - signal)
    assert not remove_noise(noisy - signal, 0.33).any()
    assert remove_noise(noisy, 0.0) is noisy


def test_decode_trained_gives_the_neutral_form() -> None:
    """The trained form has no self weight and scale 1; popularity comes from the counts."""
    state = initial_state(n_items=3, rank=2, seed=0)
    decoded = decode_trained(state, np.array([2.0, -1.0, 1.0]))
    assert np.array_equal(decoded.factors, state.factors)
    assert decoded.self_weight.tolist() == [0.0] * 3
    assert decoded.scale.tolist() == [1.0] * 3
    assert decoded.popularity.tolist() == [1.0, 0.0, 0.5]
    assert decode_trained(state).popularity.tolist() == [0.0] * 3
    with pytest.raises(ValueError, match="noisy_counts"):
        decode_trained(state, np.zeros(2))


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": 0.0}, {"momentum": 1.0}, {"momentum": -0.1}],
)
def test_optimizer_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    """What can't step is refused when it is made."""
    with pytest.raises(ValueError, match="must be"):
        ServerOptimizer(**wrong)


@pytest.mark.parametrize("wrong", [{"n_items": 0}, {"rank": 0}, {"std": 0.0}])
def test_initial_state_without_size_is_refused(wrong: dict[str, float]) -> None:
    """A table has items and factors."""
    with pytest.raises(ValueError, match="must be"):
        initial_state(**{"n_items": 2, "rank": 2, "seed": 0, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="factors must be"):
        state_from_factors(np.zeros(3, np.float32))


def test_models_import_loads_no_tensorflow() -> None:
    """The server's decoders, card and gate cost no TensorFlow until a graph is made."""
    code = (
        "import sys, models, models.card, models.item_statistics, models.item_training, "
        "models.parity; print('tensorflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
