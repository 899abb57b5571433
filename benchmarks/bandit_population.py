"""A synthetic town for bandits: what a federated prior saves somebody who is new.

It is made up: no real logs hold moments, actions and answers of the same people. Everybody answers
by a logistic model whose weights are the town's plus their own (`OWN` of the town's deviation), so
that a prior helps and is never the whole truth. `PEOPLE` devices saw `ANSWERS` answers each, to
actions drawn at random, and each sends one vector of norm at most 1; the noise is that of the
stated ε at δ = 1e-6, added to this very sum. Nothing stands for a larger town.

Regret is the chance of a yes that was missed, added up over the first `ROUNDS` questions of people
who were not in the sum, with LinUCB.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.intelligence.bandit import LinearBandit
from client_sdk.intelligence.exploration import draw, ucb_policy
from client_sdk.wire import SparseVector
from client_sdk.wire.bandit import ArmEvidence, contribution_length
from models.bandit_priors import decode_bandit_priors
from privacy.bounded_sum import BoundedSum
from privacy.gaussian import noise_multiplier_for
from privacy.mechanisms import GaussianMechanism
from privacy.noise import GaussianNoise

PEOPLE: Final = (200, 5_000)
NEWCOMERS: Final = 100
ARMS: Final = 10
FEATURES: Final = 6
ANSWERS: Final = (5, 40)
ROUNDS: Final = 50
OWN: Final = 0.3
DELTA: Final = 1e-6
EPSILONS: Final = (2.0, 8.0)
CLIP_NORM: Final = 1.0
_ALPHA: Final = 0.5
_BASE: Final = -1.0
_SIZE: Final = 1.5

Row = dict[str, Any]


class BanditTown:
    """People who answer by a model of their own, near the town's.

    Args:
        seed: Of the town.
        stream: Of who lives there and what happens to them; another one gives other people.
    """

    def __init__(self, seed: int, *, stream: int) -> None:
        self._town = np.random.default_rng(seed).standard_normal((ARMS, FEATURES)) * _SIZE
        self._rng = np.random.default_rng([seed, stream])
        self.arms = [f"arm {place}" for place in range(ARMS)]

    def contribution(self) -> NDArray[np.float32]:
        """Let one person answer random actions at random moments; give what their device sends."""
        weights, n = self._person(), int(self._rng.integers(*ANSWERS))
        moments, places = self._moments(n), self._rng.integers(ARMS, size=n)
        chances = _chances(np.einsum("nd,nd->n", weights[places], moments))
        rewards = (self._rng.random(n) < chances).astype(np.float64)
        precision, response = np.zeros((ARMS, FEATURES, FEATURES)), np.zeros((ARMS, FEATURES))
        np.add.at(precision, places, moments[:, :, None] * moments[:, None, :])
        np.add.at(response, places, rewards[:, None] * moments)
        seen = ArmEvidence(arms=tuple(self.arms), precision=precision, response=response)
        return seen.pack(self.arms, clip_norm=CLIP_NORM)

    def regret(self, priors: ArmEvidence | None, *, seed: int) -> float:
        """Let somebody new use LinUCB for `ROUNDS` questions; give what they missed."""
        weights, missed = self._person(), 0.0
        bandit = LinearBandit(n_features=FEATURES, priors=priors)
        for turn, x in enumerate(self._moments(ROUNDS)):
            chances = _chances(weights @ x)
            policy = ucb_policy(bandit.estimate(self.arms, x), alpha=_ALPHA)
            place = draw(policy, seed=seed * ROUNDS + turn).place
            bandit.update(self.arms[place], x, reward=float(self._rng.random() < chances[place]))
            missed += float(chances.max() - chances[place])
        return missed

    def _person(self) -> NDArray[np.float64]:
        own: NDArray[np.float64] = self._rng.standard_normal((ARMS, FEATURES)) * _SIZE * OWN
        return self._town + own

    def _moments(self, n: int) -> NDArray[np.float64]:
        x = np.column_stack([self._rng.standard_normal((n, FEATURES - 1)), np.ones(n)])
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def prior_rows(
    *, seeds: int, people: Sequence[int] = PEOPLE, newcomers: int = NEWCOMERS
) -> list[Row]:
    """Measure newcomers' regret without a prior, and with one of each town and ε.

    Args:
        seeds: How many towns.
        people: How many send a vector; each one's noise is as it is.
        newcomers: How many are new; the same ones each time.
    """
    rows = []
    for seed in range(seeds):
        rows.append(_row(seed, None, newcomers, people=0, epsilon=None))
        town = BanditTown(seed, stream=0)
        vectors = [town.contribution() for _ in range(max(people))]
        for n_people in people:
            for epsilon in EPSILONS:
                priors = noisy_priors(vectors[:n_people], epsilon=epsilon, seed=seed)
                rows.append(_row(seed, priors, newcomers, people=n_people, epsilon=epsilon))
    return rows


def noisy_priors(
    vectors: Sequence[NDArray[np.float32]], *, epsilon: float, seed: int
) -> ArmEvidence:
    """Add vectors up, add the noise of one release, decode.

    Args:
        vectors: What the devices sent.
        epsilon: Of the release at `DELTA`.
        seed: Of the noise.
    """
    length = contribution_length(n_arms=ARMS, n_features=FEATURES)
    total = BoundedSum(dimension=length, clip_norm=CLIP_NORM)
    for vector in vectors:
        total.add(SparseVector.from_dense(vector))
    sigma = noise_multiplier_for(epsilon=epsilon, delta=DELTA)
    noise = GaussianNoise.from_seed_for_simulation(seed)
    return decode_bandit_priors(
        total.release(GaussianMechanism(noise_multiplier=sigma, noise=noise)),
        arms=[f"arm {place}" for place in range(ARMS)],
        n_features=FEATURES,
        noise_std=sigma * CLIP_NORM,
    )


def _row(
    seed: int, priors: ArmEvidence | None, newcomers: int, *, people: int, epsilon: float | None
) -> Row:
    # The same newcomers, moments and luck, whatever was sent before.
    town = BanditTown(seed, stream=1)
    regrets = [town.regret(priors, seed=number) for number in range(newcomers)]
    return {
        "seed": seed, "people": people, "epsilon": epsilon, "regret": statistics.fmean(regrets),
    }  # fmt: skip


def _chances(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-(_BASE + logits))))
