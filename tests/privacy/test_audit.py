"""The audit's statistics: against independent derivations, and by simulation both ways."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from privacy.audit import (
    MOST_EPSILON,
    MOST_SEPARATION,
    guess,
    guesses_for,
    matched_filter,
    noise_shortfall,
    one_run_epsilon,
    one_run_p_value,
    separation,
)
from privacy.gaussian import epsilon_of, noise_multiplier_for


def tails(guesses: int, chance: Fraction) -> list[Fraction]:
    """Give P[W >= v] for v = 0 to guesses + 1, W binomial, in exact fractions."""
    masses = [
        math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k)
        for k in range(guesses + 1)
    ]
    return [sum(masses[v:], Fraction(0)) for v in range(guesses + 2)]


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "odds", "delta"),
    [
        (40, 12, 11, Fraction(3, 2), 1e-3),
        (100, 20, 18, Fraction(2), 1e-4),
        (60, 60, 45, Fraction(3, 2), 1e-3),
        (10, 4, 4, Fraction(5), 1e-2),
        (1000, 30, 20, Fraction(1), 1e-6),
    ],
)
def test_one_run_p_value_equals_the_best_of_all_shifts(
    canaries: int, guesses: int, right: int, odds: Fraction, delta: float
) -> None:
    """An independent derivation of theorem 5.2, as a linear programme over all shifts.

    The proof bounds the right guesses by W + F with W binomial and F >= 0 independent, of mean at
    most 2mδ. The worst F maximises Σ π_f P[W >= v - f] over all distributions π; the closed form
    puts all its mass on one shift, so it is at least the programme's value, and equals it unless
    two shifts together do better. W's tails are exact fractions here.
    """
    exact = [float(each) for each in tails(guesses, odds / (1 + odds))]
    shifts = list(range(right + 1))
    gains = [exact[right - shift] for shift in shifts]
    found = linprog(
        [-gain for gain in gains],
        A_ub=[[float(shift) for shift in shifts]],
        b_ub=[2.0 * canaries * delta],
        A_eq=[[1.0] * len(shifts)],
        b_eq=[1.0],
    )
    p_value = one_run_p_value(
        canaries=canaries,
        guesses=guesses,
        right=right,
        epsilon=math.log(odds),
        delta=delta,
    )
    assert p_value == pytest.approx(min(1.0, -found.fun), rel=1e-6)


def test_one_run_p_value_of_pure_privacy_counts_outcomes_of_randomised_response() -> None:
    """δ 0 is tight: randomised response is that mechanism, and all its outcomes can be listed."""
    odds, guesses = 3, 6
    total = (odds + 1) ** guesses
    for right in range(guesses + 1):
        weight = sum(
            odds ** sum(outcome)
            for outcome in product((0, 1), repeat=guesses)
            if sum(outcome) >= right
        )
        p_value = one_run_p_value(
            canaries=guesses, guesses=guesses, right=right, epsilon=math.log(odds), delta=0.0
        )
        assert p_value == pytest.approx(weight / total, rel=1e-12)


def test_one_run_epsilon_of_gaussian_releases_is_seldom_above_the_truth() -> None:
    """Valid: over 400 releases of a known ε, a bound at 95 % is above it at most as often.

    The bound is far below the truth, so any excess at all would show a wrong tail. And it is not
    idle: with strong leakage it exceeds a third of ε.
    """
    rng, delta = np.random.default_rng(5), 1e-5
    for epsilon in (1.0, 8.0):
        mu = 1.0 / noise_multiplier_for(epsilon=epsilon, delta=delta)
        guesses = guesses_for(canaries=1000, mu=mu, delta=delta, confidence=0.95)
        right = []
        for _ in range(400):
            inside = rng.random(1000) < 0.5
            guessed = guess(rng.standard_normal(1000) + mu * inside, guesses=guesses)
            right.append(int(np.count_nonzero(guessed == np.where(inside, 1, -1))))
        bound_of = {
            value: one_run_epsilon(
                canaries=1000, guesses=guesses, right=value, delta=delta, confidence=0.95
            )
            for value in set(right)
        }
        bounds = [bound_of[value] for value in right]
        assert np.mean(np.array(bounds) > epsilon) <= 0.05
        if epsilon == 8.0:
            assert np.median(bounds) > epsilon / 4.0


def test_one_run_epsilon_of_the_worst_mechanism_covers_as_stated() -> None:
    """Randomised response at ε 1: the bound exceeds 1 about as often as it may, and no oftener.

    With 4,000 runs the share above 5 % + 5 standard errors has a probability below 1e-6; a bound
    that were never above would not be the sharp one.
    """
    rng, runs, guesses = np.random.default_rng(6), 4000, 200
    right = rng.binomial(guesses, math.e / (1.0 + math.e), size=runs)
    bounds = {
        value: one_run_epsilon(
            canaries=guesses, guesses=guesses, right=int(value), delta=0.0, confidence=0.95
        )
        for value in np.unique(right)
    }
    above = float(np.mean([bounds[value] > 1.0 for value in right]))
    assert 0.005 < above <= 0.05 + 5.0 * math.sqrt(0.05 * 0.95 / runs)


@given(st.data())
def test_one_run_epsilon_refutes_what_it_says(data: st.DataObject) -> None:
    """Just below the bound the p-value is refuting, just above it is not; more right is more."""
    guesses = data.draw(st.integers(1, 60))
    right = data.draw(st.integers(0, guesses))
    delta = data.draw(st.sampled_from([0.0, 1e-6, 1e-3]))
    canaries = data.draw(st.integers(guesses, 200))
    bound = one_run_epsilon(
        canaries=canaries, guesses=guesses, right=right, delta=delta, confidence=0.9
    )
    assert 0.0 <= bound <= MOST_EPSILON
    for epsilon, refuted in ((bound - 1e-6, True), (bound + 1e-6, False)):
        if epsilon >= 0.0 and (refuted is False or bound > 1e-6):
            p_value = one_run_p_value(
                canaries=canaries, guesses=guesses, right=right, epsilon=epsilon, delta=delta
            )
            assert (p_value <= 0.1) is refuted
    if right:
        fewer = one_run_epsilon(
            canaries=canaries, guesses=guesses, right=right - 1, delta=delta, confidence=0.9
        )
        assert fewer <= bound + 1e-9


def test_guesses_for_beats_other_numbers_of_guesses() -> None:
    """The number that is chosen from the claim gives more, on average, than guessing about all."""
    rng, mu, delta = np.random.default_rng(7), 1.5, 1e-6
    chosen = guesses_for(canaries=1000, mu=mu, delta=delta, confidence=0.95)
    assert chosen % 2 == 0
    means = {}
    for guesses in (chosen, 1000):
        bounds = []
        for _ in range(20):
            inside = rng.random(1000) < 0.5
            guessed = guess(rng.standard_normal(1000) + mu * inside, guesses=guesses)
            right = int(np.count_nonzero(guessed == np.where(inside, 1, -1)))
            bounds.append(
                one_run_epsilon(
                    canaries=1000, guesses=guesses, right=right, delta=delta, confidence=0.95
                )
            )
        means[guesses] = np.mean(bounds)
    assert means[chosen] > means[1000] + 0.5


@pytest.mark.parametrize("epsilon", [1.0, 2.0, 4.0, 8.0])
def test_separation_gives_the_epsilon_of_the_gaussian(epsilon: float) -> None:
    """The right scale is accepted, and two wrong ones are rejected, for each ε."""
    rng, delta = np.random.default_rng(8), 1e-6
    mu = 1.0 / noise_multiplier_for(epsilon=epsilon, delta=delta)
    noise = rng.standard_normal((2, 100_000))
    for scale, accepted in ((1.0, True), (0.8, False), (1.25, False)):
        found = separation(mu + scale * noise[0], scale * noise[1])
        assert found.mu == pytest.approx(mu / scale, abs=5.0 * found.standard_error)
        inside = found.p_above(mu) > 1e-5 and found.p_below(mu) > 1e-5
        assert inside is accepted
        if accepted:
            assert found.epsilon(delta) == pytest.approx(epsilon, rel=0.25)
            low, high = (found.epsilon(delta, errors=each) for each in (-2.0, 2.0))
            assert low < found.epsilon(delta) < high


def test_separation_p_values_are_uniform_under_the_claim() -> None:
    """Exact for normal scores: 4,000 p-values of small groups, Kolmogorov-Smirnov at 1e-6."""
    rng, mu, runs = np.random.default_rng(9), 0.7, 4000
    draws = rng.standard_normal((runs, 30))
    found = [separation(each[:12] + mu, each[12:]) for each in draws]
    for values in ([f.p_above(mu) for f in found], [f.p_below(mu) for f in found]):
        distance = np.abs(np.sort(values) - np.arange(1, runs + 1) / runs).max()
        assert distance < math.sqrt(math.log(2.0 / 1e-6) / (2.0 * runs))


def test_separation_without_spread_is_the_most_there_is() -> None:
    """No noise at all separates without end; no difference is none, whatever the spread."""
    assert separation(np.ones(3), np.zeros(3)).mu == MOST_SEPARATION
    assert separation(np.zeros(3), np.ones(3)).mu == -MOST_SEPARATION
    assert separation(np.ones(3), np.ones(3)).mu == 0.0
    assert math.isfinite(separation(np.ones(3), np.zeros(3)).epsilon(1e-6))
    assert separation(np.ones(300), np.zeros(300)).p_above(1.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [([1.0], [0.0, 1.0]), ([0.0, math.nan], [0.0, 1.0]), ([0.0, 1.0], [0.0, math.inf])],
)
def test_separation_of_scores_that_are_none_raises(
    inside: list[float], outside: list[float]
) -> None:
    """A NaN must not pass for a small leak."""
    with pytest.raises(ValueError, match=r"canaries|finite"):
        separation(np.array(inside), np.array(outside))


def test_matched_filter_of_white_noise_is_the_projection() -> None:
    """Where the noise is what was claimed, the filter points along the signal."""
    rng, signal = np.random.default_rng(10), np.array([1.0, 2.0, -2.0])
    found = matched_filter(signal, rng.standard_normal((3, 200_000)))
    np.testing.assert_allclose(found, signal / 3.0, atol=0.02)


@pytest.mark.parametrize("correlation", [0.9, 1.0])
def test_matched_filter_uses_shared_noise(correlation: float) -> None:
    """Noise that two rounds share is subtracted: a signal in one of them stands out more."""
    rng = np.random.default_rng(11)
    first, second = rng.standard_normal((2, 50_000))
    shared = correlation * first + math.sqrt(1.0 - correlation**2) * second
    noise, signal = np.stack([first, shared]), np.array([1.0, 0.0])
    weights = matched_filter(signal, noise)
    fresh = weights @ noise
    expected = 1.0 / math.sqrt(1.0 - correlation**2) if correlation < 1.0 else 1e3
    gain = float(weights @ signal) / max(float(fresh.std()), 1e-9)
    assert gain >= 0.98 * expected


def test_noise_shortfall_accepts_white_noise_and_rejects_what_is_less() -> None:
    """Honest noise passes 200 times at a limit of 1 %, up to chance; three wrong ones never do."""
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(200):
        noise = rng.standard_normal((6, 4096))
        smallest, allowed = noise_shortfall(noise, alpha=0.01)
        alarms += smallest < allowed
        reused, quiet = noise.copy(), noise.copy()
        reused[3], quiet[2] = noise[1], 0.8 * noise[2]
        for wrong in (reused, quiet, 0.8 * noise):
            found, limit = noise_shortfall(wrong, alpha=0.01)
            assert found < limit
    assert alarms <= 10


@pytest.mark.parametrize(
    "arguments",
    [
        {"guesses": 0, "right": 0},
        {"guesses": 11, "right": 0},
        {"right": 5},
        {"right": -1},
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"delta": 1.5},
    ],
)
def test_one_run_p_value_of_numbers_that_do_not_fit_raises(arguments: dict[str, float]) -> None:
    """Each wrong number alone is a mistake of the caller."""
    right = {"canaries": 10, "guesses": 4, "right": 4, "epsilon": 1.0, "delta": 1e-6}
    with pytest.raises(ValueError, match=r"expected 0 <=|no claim"):
        one_run_p_value(**(right | arguments))  # type: ignore[arg-type]


def test_one_run_bound_is_below_what_a_separation_says() -> None:
    """The valid bound and the estimate agree on which is the smaller."""
    rng, mu, delta = np.random.default_rng(13), 2.0, 1e-6
    inside = rng.random(2000) < 0.5
    scores = rng.standard_normal(2000) + mu * inside
    guesses = guesses_for(canaries=2000, mu=mu, delta=delta, confidence=0.95)
    right = int(np.count_nonzero(guess(scores, guesses=guesses) == np.where(inside, 1, -1)))
    bound = one_run_epsilon(
        canaries=2000, guesses=guesses, right=right, delta=delta, confidence=0.95
    )
    assert 2.0 < bound < separation(scores[inside], scores[~inside]).epsilon(delta)
    assert bound < epsilon_of(delta=delta, noise_multiplier=1.0 / mu)
