"""Priors of bandits: what is decoded of a noisy sum, and that it helps who is new."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence.bandit import LinearBandit
from client_sdk.intelligence.exploration import draw, ucb_policy
from client_sdk.wire.bandit import ArmEvidence, contribution_length
from models.bandit_priors import decode_bandit_priors

D = 4
ARMS = [f"arm-{n}" for n in range(6)]


def moment(rng: np.random.Generator) -> np.ndarray:
    """A moment with a constant, of norm 1."""
    x = np.append(rng.standard_normal(D - 1), 1.0)
    return np.asarray(x / np.linalg.norm(x))


def test_decode_counts_as_at_most_its_weight_and_says_the_same() -> None:
    """Ten thousand answers of others count as twenty, and the estimate is theirs."""
    rows = np.array([moment(np.random.default_rng(n)) for n in range(500)]) * math.sqrt(20)
    truth = [0.1, 0.2, 0.3, 0.4]
    seen = ArmEvidence(
        arms=("a",), precision=(rows.T @ rows)[None], response=(rows.T @ (rows @ truth))[None]
    )
    total = seen.pack(["a"], clip_norm=1e9).astype(np.float64)
    prior = decode_bandit_priors(total, arms=["a"], n_features=D, noise_std=0.0)
    assert np.trace(prior.precision[0]) == pytest.approx(20.0)
    found = np.linalg.solve(prior.precision[0], prior.response[0])
    assert found == pytest.approx(truth, abs=1e-4)


def test_decode_of_noise_alone_is_nothing() -> None:
    """Almost all of it lies under the noise's edge; without the edge it would count as evidence."""
    d, arms = 24, [str(n) for n in range(20)]
    noise = np.random.default_rng(3).standard_normal(contribution_length(n_arms=20, n_features=d))
    weights = [
        np.trace(
            decode_bandit_priors(
                noise * 5.0, arms=arms, n_features=d, noise_std=std, max_weight=1e9
            ).precision.sum(axis=0)
        )
        for std in (5.0, 0.0)
    ]
    assert weights[0] < 0.01 * weights[1]


@pytest.mark.parametrize(("eigenvalue", "std"), [(400.0, 0.0), (400.0, 10.0), (100.0, 10.0)])
def test_decode_shrinks_a_direction_to_the_answers_that_its_error_is_worth(
    eigenvalue: float, std: float
) -> None:
    """Variance 1 / (4 e) of the rewards and (s / e)² of the noise make one number of answers."""
    seen = ArmEvidence(
        arms=("a",), precision=np.array([[[eigenvalue]]]), response=np.array([[eigenvalue / 2]])
    )
    total = seen.pack(["a"], clip_norm=1e9).astype(np.float64)
    prior = decode_bandit_priors(total, arms=["a"], n_features=1, noise_std=std, max_weight=1e9)
    error = 0.25 / eigenvalue + (std / eigenvalue) ** 2
    assert prior.precision.item() == pytest.approx(0.25 / error, rel=1e-6)
    assert prior.response.item() / prior.precision.item() == pytest.approx(0.5, rel=1e-6)


@given(
    std=st.floats(0, 1e6),
    size=st.floats(0, 1e6),
    weight=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
)
def test_decode_of_anything_is_sound_evidence(
    std: float, size: float, weight: float, seed: int
) -> None:
    """Whatever the noise made of the sum: positive semidefinite, finite, and at most the weight."""
    total = np.random.default_rng(seed).standard_normal(contribution_length(n_arms=3, n_features=D))
    prior = decode_bandit_priors(
        total * size, arms=ARMS[:3], n_features=D, noise_std=std, max_weight=weight
    )
    for matrix in prior.precision:
        assert np.linalg.eigvalsh(matrix).min() >= -1e-9 * max(weight, 1.0)
        assert np.trace(matrix) <= weight * (1 + 1e-9)
    bandit = LinearBandit(n_features=D, priors=prior)
    assert np.isfinite(bandit.estimate(ARMS, np.ones(D)).mean).all()


@pytest.mark.parametrize(
    "change",
    [
        {"noisy_sum": np.zeros(13)},
        {"noisy_sum": np.full(14, np.nan)},
        {"noise_std": -1.0},
        {"noise_std": math.inf},
        {"max_weight": 0.0},
        {"arms": ["a", "b"]},
        {"arms": [""]},
    ],
)
def test_decode_nonsense_is_refused(change: dict[str, Any]) -> None:
    """Each is the caller's mistake."""
    good: dict[str, Any] = {
        "noisy_sum": np.zeros(14), "arms": ["a"], "n_features": 4, "noise_std": 0.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="expected"):
        decode_bandit_priors(**{**good, **change})


def test_regret_of_who_is_new_is_lower_with_priors_of_others() -> None:
    """Priors from 200 devices' clipped, noised sum save most of the first mistakes."""
    weights = np.random.default_rng(100).standard_normal((6, D)) * 2.0

    def chances(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(weights @ x))))

    total = np.zeros(contribution_length(n_arms=6, n_features=D))
    for device in range(200):
        rng = np.random.default_rng(1_000 + device)
        bandit = LinearBandit(n_features=D)
        for _ in range(30):
            x, place = moment(rng), int(rng.integers(6))
            bandit.update(ARMS[place], x, reward=float(rng.random() < chances(x)[place]))
        total += bandit.evidence().pack(ARMS, clip_norm=4.0)
    total += np.random.default_rng(7).standard_normal(len(total)) * 4.0
    priors = decode_bandit_priors(total, arms=ARMS, n_features=D, noise_std=4.0)

    def missed(given: ArmEvidence | None) -> float:
        rng, bandit = np.random.default_rng(0), LinearBandit(n_features=D, priors=given)
        lost = 0.0
        for turn in range(60):
            x = moment(rng)
            chance = chances(x)
            policy = ucb_policy(bandit.estimate(ARMS, x), alpha=0.5)
            place = draw(policy, seed=turn).place
            bandit.update(ARMS[place], x, reward=float(rng.random() < chance[place]))
            lost += float(chance.max() - chance[place])
        return lost

    assert missed(priors) < 0.6 * missed(None)
