"""The bandit: its statistics, its policies, and the vector that leaves the device.

More than 400 lines: what is learned, drawn and sent is checked against one direct solution.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.intelligence.bandit import REFRESH_EVERY, LinearBandit
from client_sdk.intelligence.exploration import (
    ArmEstimates,
    _generator,
    draw,
    thompson_policy,
    ucb_policy,
)
from client_sdk.intelligence.state import LearnedState, LearnedStateError
from client_sdk.wire.bandit import ArmEvidence, contribution_length, unpack_sum

D = 4


def _unit(rng: np.random.Generator, d: int = D) -> np.ndarray:
    x = np.append(rng.standard_normal(d - 1), 1.0)
    return x / np.linalg.norm(x)


def _answered(
    n: int = 60, *, seed: int = 0, priors: ArmEvidence | None = None
) -> tuple[LinearBandit, dict[str, list[tuple[np.ndarray, float]]]]:
    rng = np.random.default_rng(seed)
    bandit = LinearBandit(n_features=D, ridge=0.7, priors=priors)
    seen: dict[str, list[tuple[np.ndarray, float]]] = {"a": [], "b": [], "c": []}
    for _ in range(n):
        arm, x, reward = rng.choice(list(seen)), _unit(rng), float(rng.random() < 0.4)
        bandit.update(arm, x, reward=reward)
        seen[arm].append((x, reward))
    return bandit, seen


def _priors() -> ArmEvidence:
    return ArmEvidence(
        arms=("b", "z"),
        precision=np.stack([np.diag([1.0, 2, 3, 4]), np.ones((D, D))]),
        response=np.array([[0.5, 0, 0, 1], [1, 1, 1, 1]]),
    )


@pytest.mark.parametrize("priors", [None, _priors()], ids=["cold", "priors"])
@pytest.mark.parametrize("n", [60, 3 * REFRESH_EVERY - 3, 3 * REFRESH_EVERY + 50])
def test_update_one_by_one_equals_the_batch_solution(n: int, priors: ArmEvidence | None) -> None:
    """Sherman and Morrison's steps give what solving all at once gives, to 1e-9."""
    bandit, seen = _answered(n, priors=priors)
    x = _unit(np.random.default_rng(9))
    found = bandit.estimate(["a", "b", "c"], x)
    for at, (arm, answers) in enumerate(seen.items()):
        a, b = 0.7 * np.eye(D), np.zeros(D)
        if priors is not None and arm in priors.arms:
            row = priors.arms.index(arm)
            a, b = a + priors.precision[row], b + priors.response[row]
        rows = np.array([features for features, _ in answers])
        a = a + rows.T @ rows
        b = b + rows.T @ np.array([reward for _, reward in answers])
        assert found.mean[at] == pytest.approx(x @ np.linalg.solve(a, b), abs=1e-9)
        assert found.deviation[at] == pytest.approx(math.sqrt(x @ np.linalg.solve(a, x)), abs=1e-9)
        assert bandit.answers(arm) == len(answers)


def test_estimate_features_for_all_or_for_each_agree() -> None:
    """Both roads to a score are the same road; a longer moment is cut to norm 1."""
    bandit, _ = _answered(priors=_priors())
    arms, x = ["c", "nobody", "a", "z"], _unit(np.random.default_rng(1))
    one = bandit.estimate(arms, x)
    for other in (bandit.estimate(arms, np.tile(x, (4, 1))), bandit.estimate(arms, 1e200 * x)):
        assert np.allclose(one.mean, other.mean, atol=1e-12)
        assert np.allclose(one.deviation, other.deviation, atol=1e-12)


def test_estimate_unknown_arm_stands_at_the_ridge() -> None:
    """Nothing known: mean 0 and deviation |x| / sqrt(ridge)."""
    found = LinearBandit(n_features=D, ridge=4.0).estimate(["new"], np.array([1.0, 0, 0, 0]))
    assert (found.mean[0], found.deviation[0]) == (0.0, 0.5)


def test_estimate_thousand_arms_takes_less_than_a_millisecond() -> None:
    """The best of several tries, so that a busy machine does not fail it."""
    bandit, rng = LinearBandit(n_features=16), np.random.default_rng(0)
    arms = [f"arm-{n}" for n in range(1_000)]
    for arm in arms:
        bandit.update(arm, rng.standard_normal(16), reward=1.0)
    x, taken = rng.standard_normal(16), []
    for _ in range(30):
        start = time.perf_counter()
        bandit.estimate(arms, x)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 1e-3


def test_update_more_arms_than_kept_forgets_the_oldest() -> None:
    """The arm answered longest ago makes room, and comes back as one never seen."""
    bandit, x = LinearBandit(n_features=D, max_arms=2), np.array([1.0, 0, 0, 0])
    for arm in ("a", "b", "a", "c"):
        bandit.update(arm, x, reward=1.0)
    assert bandit.arms == ("a", "c")
    assert bandit.estimate(["b"], x).mean[0] == 0.0
    assert bandit.estimate(["c"], x).mean[0] == 0.5
    assert bandit.estimate(["a"], x).mean[0] == pytest.approx(2 / 3)


def _world(seed: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Six arms whose rewards are logistic in the moment."""
    weights = np.random.default_rng(100 + seed).standard_normal((6, D)) * 2.0

    def chances(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(weights @ x))))

    return weights, chances


_POLICIES: dict[str, Callable[[ArmEstimates, int], np.ndarray]] = {
    "linucb": lambda e, _: ucb_policy(e, alpha=0.5),
    "thompson": lambda e, seed: thompson_policy(e, scale=0.3, seed=seed, floor=0.0),
    "greedy": lambda e, _: ucb_policy(e, alpha=0.0),
    "random": lambda e, _: np.full(len(e.mean), 1 / len(e.mean)),
}


def _regret(name: str, seed: int, *, rounds: int = 1_500) -> float:
    """Run one policy on simulated answers; give the reward that was missed, a round."""
    _, chances = _world(seed)
    moments, answers = np.random.default_rng(seed), np.random.default_rng(50 + seed)
    bandit, missed = LinearBandit(n_features=D), 0.0
    arms = [f"arm-{n}" for n in range(6)]
    for turn in range(rounds):
        x = _unit(moments)
        chance = chances(x)
        policy = _POLICIES[name](bandit.estimate(arms, x), seed * 10_000 + turn)
        place = draw(policy, seed=seed * 10_000 + turn).place
        bandit.update(arms[place], x, reward=float(answers.random() < chance[place]))
        missed += float(chance.max() - chance[place])
    return missed / rounds


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_regret_on_logistic_rewards_is_below_random_and_greedy(seed: int) -> None:
    """LinUCB and Thompson miss less than a random choice by far, and less than greed."""
    missed = {name: _regret(name, seed) for name in _POLICIES}
    for name in ("linucb", "thompson"):
        assert missed[name] < 0.4 * missed["random"]
        assert missed[name] < missed["greedy"]


@given(
    clip=st.floats(1e-6, 1e6),
    n=st.integers(0, 30),
    size=st.floats(0, 1e6),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_contribution_norm_never_exceeds_the_clip(
    clip: float, n: int, size: float, seed: int
) -> None:
    """Whatever was seen, the float32 vector's norm in float64 is at most the clip, exactly."""
    rng = np.random.default_rng(seed)
    bandit = LinearBandit(n_features=D)
    for _ in range(n):
        bandit.update(rng.choice(["a", "b"]), rng.standard_normal(D) * size, reward=rng.random())
    vector = bandit.evidence().pack(["a", "b", "c"], clip_norm=clip)
    assert vector.dtype == np.float32
    assert vector.shape == (contribution_length(n_arms=3, n_features=D),)
    assert math.sqrt(math.fsum(float(v) ** 2 for v in vector)) <= clip


def test_contribution_below_the_clip_is_isometric_and_own() -> None:
    """Its norm is that of the matrices and vectors; a prior is not in it; a round trip is exact."""
    bandit, seen = _answered(priors=_priors())
    vector = bandit.evidence().pack(["c", "a", "b"], clip_norm=1e6)
    squares, a_sum, b_sum = 0.0, {}, {}
    for arm, answers in seen.items():
        rows = np.array([x for x, _ in answers])
        a_sum[arm] = rows.T @ rows
        b_sum[arm] = rows.T @ np.array([reward for _, reward in answers])
        squares += float((a_sum[arm] ** 2).sum() + (b_sum[arm] ** 2).sum())
    assert np.linalg.norm(vector.astype(np.float64)) == pytest.approx(math.sqrt(squares), rel=1e-6)
    precision, response = unpack_sum(vector.astype(np.float64), n_arms=3, n_features=D)
    for at, arm in enumerate(("c", "a", "b")):
        assert np.allclose(precision[at], a_sum[arm], atol=1e-5)
        assert np.allclose(response[at], b_sum[arm], atol=1e-5)


def test_evidence_is_a_copy_of_the_arms_that_were_answered() -> None:
    """What is learned after it was taken is not in it, nor an arm that only has a prior."""
    bandit, _ = _answered(priors=_priors())
    before = bandit.evidence()
    kept = before.precision.copy()
    bandit.update("a", np.ones(D), reward=1.0)
    assert np.array_equal(before.precision, kept)
    assert set(before.arms) == {"a", "b", "c"}


def test_contribution_clipped_keeps_its_direction() -> None:
    """Clipping changes how much is said, not what."""
    bandit, _ = _answered()
    whole = bandit.evidence().pack(["a", "b"], clip_norm=1e6).astype(np.float64)
    clipped = bandit.evidence().pack(["a", "b"], clip_norm=0.5).astype(np.float64)
    assert clipped @ whole / np.linalg.norm(clipped) / np.linalg.norm(whole) == pytest.approx(1.0)
    assert np.linalg.norm(clipped) == pytest.approx(0.5, rel=1e-6)


def test_from_bytes_goes_on_with_the_priors_of_today() -> None:
    """The state holds what was seen; a new prior is added to it, not to the old prior."""
    bandit, _ = _answered(priors=_priors())
    x = _unit(np.random.default_rng(2))
    for priors in (_priors(), None):
        back = LinearBandit.from_bytes(bandit.to_bytes(), n_features=D, ridge=0.7, priors=priors)
        other, _ = _answered(priors=priors)
        for one in (back, other):
            one.update("a", x, reward=1.0)
        for name in ("a", "b", "c", "z"):
            first, second = (one.estimate([name], x) for one in (back, other))
            assert first.mean == pytest.approx(second.mean, abs=1e-12)
            assert first.deviation == pytest.approx(second.deviation, abs=1e-12)
        assert back.answers("b") == bandit.answers("b")


def _forged(**change: Any) -> bytes:
    facts = {"answers": [1], "arms": ["a"], "clock": 1, "latest": [1]}
    arrays = {"a": np.eye(D)[None], "b": np.zeros((1, D))}
    facts |= {name: value for name, value in change.items() if name in facts}
    arrays |= {name: value for name, value in change.items() if name in arrays}
    return LearnedState(model="bandit", facts=facts, arrays=arrays).to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _forged()[:-1],
        _forged(arms=["a", "a"], answers=[1, 1], latest=[1, 1]),
        _forged(arms=None),
        _forged(arms=[""]),
        _forged(answers=[-1]),
        _forged(answers=["x"]),
        _forged(answers=[2**70]),
        _forged(latest=[1, 2]),
        _forged(clock=0),
        _forged(a=np.zeros((1, D, 3))),
        _forged(a=np.triu(np.ones((D, D)))[None]),
        _forged(a=-9 * np.eye(D)[None]),
        _forged(b=np.zeros((2, D))),
    ],
)
def test_from_bytes_state_that_is_none_is_refused(data: bytes) -> None:
    """Damage and forgery end in one error."""
    LinearBandit.from_bytes(_forged(), n_features=D)
    with pytest.raises(LearnedStateError):
        LinearBandit.from_bytes(data, n_features=D)


def test_thompson_two_arms_is_exact() -> None:
    """The closed form agrees with four hundred thousand beliefs drawn one by one."""
    believed = ArmEstimates(mean=np.array([0.3, 0.5]), deviation=np.array([0.4, 0.2]))
    policy = thompson_policy(believed, scale=0.8, seed=0, floor=0.0)
    rng = np.random.default_rng(0)
    drawn = believed.mean + 0.8 * believed.deviation * rng.standard_normal((400_000, 2))
    assert policy[0] == pytest.approx(np.mean(drawn[:, 0] > drawn[:, 1]), abs=0.003)
    assert policy.sum() == 1.0


def test_thompson_many_arms_is_near_the_truth_and_seeded() -> None:
    """With many draws the shares are those of a simulation of another seed; a seed repeats."""
    believed = ArmEstimates(mean=np.array([0.3, 0.5, 0.4]), deviation=np.array([0.4, 0.2, 0.3]))
    policy = thompson_policy(believed, scale=1.0, seed=1, floor=0.0, draws=10_000)
    rng = np.random.default_rng(5)
    drawn = believed.mean + believed.deviation * rng.standard_normal((200_000, 3))
    truth = np.bincount(drawn.argmax(axis=1)) / 200_000
    assert np.abs(policy - truth).max() < 0.015
    again = thompson_policy(believed, scale=1.0, seed=1, floor=0.0, draws=10_000)
    other = thompson_policy(believed, scale=1.0, seed=2, floor=0.0, draws=10_000)
    assert np.array_equal(policy, again)
    assert not np.array_equal(policy, other)


def test_draw_comes_as_often_as_its_propensity_says() -> None:
    """What is logged is the chance under what was drawn from: shares agree within chance."""
    policy = np.array([0.1, 0.0, 0.6, 0.3])
    choices = [draw(policy, seed=seed) for seed in range(4_000)]
    shares = np.bincount([choice.place for choice in choices], minlength=4) / 4_000
    assert np.abs(shares - policy).max() < 0.03
    assert all(choice.propensity == policy[choice.place] > 0 for choice in choices)


def test_inverse_propensity_estimate_of_logged_choices_is_unbiased() -> None:
    """Thompson from seeds, logged, and reweighted to one arm gives that arm's value."""
    believed = ArmEstimates(mean=np.array([0.5, 0.4, 0.1]), deviation=np.full(3, 0.1))
    values, estimates = np.array([0.2, 0.7, 0.9]), []
    for seed in range(6_000):
        policy = thompson_policy(believed, scale=1.0, seed=seed, floor=0.3, draws=8)
        choice = draw(policy, seed=seed)
        hit = np.arange(3) == choice.place
        estimates.append(hit * values / choice.propensity)
    assert np.mean(estimates, axis=0) == pytest.approx(values, abs=0.08)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 5)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(0, 2**64 - 1),
)
def test_policies_are_distributions_with_a_floor(
    arms: list[tuple[float, float]], floor: float, seed: int
) -> None:
    """Chances sum to 1, none lies below the floor's share, and a draw has one above 0."""
    believed = ArmEstimates(
        mean=np.array([mean for mean, _ in arms]), deviation=np.array([dev for _, dev in arms])
    )
    for policy in (
        ucb_policy(believed, alpha=1.0, floor=floor),
        thompson_policy(believed, scale=1.0, seed=seed, floor=floor),
    ):
        assert policy.sum() == pytest.approx(1.0)
        assert policy.min() >= floor / len(arms) - 1e-12
        assert draw(policy, seed=seed).propensity > 0


def test_generator_streams_of_one_seed_have_nothing_in_common() -> None:
    """One seed serves a policy and a draw; their numbers are not each other's, shifted or not."""
    one, two = (_generator(7, stream).random(1_000) for stream in (0, 1))
    assert not set(one.tolist()) & set(two.tolist())


def test_ucb_arms_that_tie_share_the_chance() -> None:
    """Of unknown arms none is the first."""
    believed = LinearBandit(n_features=D).estimate(["a", "b", "c"], np.ones(D))
    assert ucb_policy(believed, alpha=1.0).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: LinearBandit(n_features=0),
        lambda: LinearBandit(n_features=D, ridge=0.0),
        lambda: LinearBandit(n_features=D, max_arms=0),
        lambda: LinearBandit(n_features=3, priors=_priors()),
        lambda: LinearBandit(n_features=D, priors=_priors(), max_arms=1),
        lambda: LinearBandit(n_features=D).update("", np.ones(D), reward=0.0),
        lambda: LinearBandit(n_features=D).update("a", np.ones(3), reward=0.0),
        lambda: LinearBandit(n_features=D).update("a", np.ones(D), reward=1.5),
        lambda: LinearBandit(n_features=D).update("a", np.ones(D), reward=math.nan),
        lambda: LinearBandit(n_features=D).update("a", np.full(D, np.nan), reward=0.0),
        lambda: LinearBandit(n_features=D).estimate(["a"], np.ones((2, D))),
        lambda: LinearBandit(n_features=D).evidence().pack(["a", "a"], clip_norm=1.0),
        lambda: ucb_policy(ArmEstimates(mean=np.zeros(0), deviation=np.zeros(0)), alpha=1.0),
        lambda: ucb_policy(ArmEstimates(mean=np.zeros(1), deviation=np.ones(1)), alpha=-1.0),
        lambda: ucb_policy(
            ArmEstimates(mean=np.zeros(1), deviation=np.ones(1)), alpha=1.0, floor=2.0
        ),
        lambda: thompson_policy(
            ArmEstimates(mean=np.zeros(3), deviation=np.ones(3)), scale=1.0, seed=-1
        ),
        lambda: thompson_policy(
            ArmEstimates(mean=np.zeros(3), deviation=np.ones(3)), scale=1.0, seed=0, draws=0
        ),
        lambda: draw(np.array([0.5, 0.6]), seed=0),
        lambda: draw(np.array([]), seed=0),
        lambda: draw(np.array([np.nan, 1.0]), seed=0),
    ],
)
def test_bandit_nonsense_is_refused(call: Callable[[], object]) -> None:
    """Each is the caller's mistake, named."""
    with pytest.raises(ValueError, match="expected"):
        call()
