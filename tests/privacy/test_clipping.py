"""Clipping policies: one sensitivity, the right direction, one test for each row of the table."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.federation.guard import guard
from client_sdk.wire import ClippingTerms, Layer, SparseVector
from privacy.bounded_sum import STEPS, BoundedSum
from privacy.clipping import MAX_CLIP_NORM, Adaptation, ClippingPolicy, ClipState
from privacy.mechanisms import UnsafeNoNoise

ADAPTIVE = ClippingPolicy.adaptive(clip_norm=1.0)
PEOPLE = 50


def collected(state: ClipState, norms: list[float], *, dimension: int = 4) -> np.ndarray:
    """Let devices with updates of these norms take part; give the exact sum."""
    terms = state.policy.terms
    total = BoundedSum(dimension=dimension + terms.extra_entries, clip_norm=state.clip_norm)
    for norm in norms:
        update = np.full(dimension, norm / math.sqrt(dimension), np.float32)
        total.add(
            guard(
                SparseVector.from_dense(update),
                dimension=dimension + terms.extra_entries,
                clip_norm=state.clip_norm,
                clipping=terms,
            )
        )
    return total.release(UnsafeNoNoise())


def moved(state: ClipState, norms: list[float], *, report_goal: int = PEOPLE) -> ClipState:
    """Give the state after a round of these people, without noise."""
    _, balance = state.split(collected(state, norms))
    return state.after(balance, report_goal=report_goal)


@given(
    update=st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3),
    clip_norm=st.floats(0.01, 10.0),
    share=st.floats(0.001, 0.9),
)
def test_adaptive_contribution_has_one_sensitivity(
    update: list[float], clip_norm: float, share: float
) -> None:
    """Update and count together move the sum by at most the clip norm, in whole lattice steps."""
    policy = ClippingPolicy.adaptive(clip_norm=clip_norm, adaptation=Adaptation(count_share=share))
    sent = guard(
        SparseVector.from_dense(np.array(update, np.float32)),
        dimension=4,
        clip_norm=clip_norm,
        clipping=policy.terms,
    )
    total = BoundedSum(dimension=4, clip_norm=clip_norm)
    total.add(sent)
    steps = total.release(UnsafeNoNoise()) / (clip_norm / STEPS)
    assert float(np.square(steps).sum()) <= STEPS**2 * (1 + 1e-12)
    assert policy.start().sensitivity == clip_norm


def test_adaptive_too_many_clipped_rises() -> None:
    """The direction: a clip that cuts everybody must grow; Flower's own moves the other way."""
    state = ADAPTIVE.start()
    after = moved(state, [5.0] * PEOPLE)
    assert after.clip_norm == pytest.approx(math.exp(0.2 * 0.5), rel=1e-6)
    assert after.sensitivity == after.clip_norm > state.clip_norm


def test_adaptive_nobody_clipped_falls() -> None:
    """A clip that cuts nobody pays for noise that nothing needs."""
    after = moved(ADAPTIVE.start(), [0.1] * PEOPLE)
    assert after.clip_norm == pytest.approx(math.exp(-0.2 * 0.5), rel=1e-6)


@pytest.mark.parametrize("first", [0.05, 8.0])
@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_adaptive_finds_the_quantile_from_either_side(first: float, quantile: float) -> None:
    """After enough rounds the clip lies where that fraction of updates fits."""
    rng = np.random.default_rng(3)
    norms = rng.lognormal(0.0, 0.5, PEOPLE).tolist()
    state = ClippingPolicy.adaptive(
        clip_norm=first, adaptation=Adaptation(quantile=quantile)
    ).start()
    for _ in range(120):
        state = moved(state, norms)
    assert state.clip_norm == pytest.approx(float(np.quantile(norms, quantile)), rel=0.15)


def test_adaptive_noise_is_bounded() -> None:
    """A fraction that noise pushed outside [0, 1] is 0 or 1: one round moves by no more than η."""
    state = ADAPTIVE.start()
    assert state.after(1e9, report_goal=PEOPLE).clip_norm == pytest.approx(math.exp(-0.1))
    assert state.after(-1e9, report_goal=PEOPLE).clip_norm == pytest.approx(math.exp(0.1))


def test_adaptive_stays_in_bounds() -> None:
    """Neither above what a device accepts, nor down to nothing."""
    adaptation = Adaptation(learning_rate=50.0, least=0.5, most=2.0)
    state = ClippingPolicy.adaptive(clip_norm=1.0, adaptation=adaptation).start()
    assert moved(state, [9.0] * PEOPLE).clip_norm == 2.0
    assert moved(state, [0.1] * PEOPLE).clip_norm == 0.5


def test_adaptive_missing_people_count_as_half_fitted() -> None:
    """The denominator is fixed: who does not come draws the fraction to a half, at no cost."""
    state = ADAPTIVE.start()
    assert moved(state, []).clip_norm == pytest.approx(1.0)
    half = moved(state, [5.0] * (PEOPLE // 2)).clip_norm
    assert half == pytest.approx(math.exp(0.2 * 0.25), rel=1e-6)


def test_adaptive_split_gives_the_update_as_if_nothing_was_counted() -> None:
    """Post-processing undoes √(1-q); what it costs is the noise, by `update_noise_factor`."""
    norms = [0.5, 0.2, 3.0]
    flat = collected(ClippingPolicy(clip_norm=1.0).start(), norms)
    update, balance = ADAPTIVE.start().split(collected(ADAPTIVE.start(), norms))
    np.testing.assert_allclose(update, flat, rtol=1e-6)
    assert balance == pytest.approx(1.0, rel=1e-6)
    assert ADAPTIVE.update_noise_factor == pytest.approx(1 / math.sqrt(0.99))
    assert ADAPTIVE.count_rho(2.0) == pytest.approx(0.01 * 0.125)


@given(share=st.floats(0.001, 0.9), sigma=st.floats(0.5, 50.0))
def test_adaptive_booked_cost_is_split_not_added(share: float, sigma: float) -> None:
    """ρ of the update's Gaussian and ρ of the count's are together the ρ that is booked."""
    policy = ClippingPolicy.adaptive(clip_norm=1.0, adaptation=Adaptation(count_share=share))
    of_update = 0.5 / (sigma * policy.update_noise_factor) ** 2
    assert of_update + policy.count_rho(sigma) == pytest.approx(0.5 / sigma**2, rel=1e-12)


def test_flat_and_layered_keep_their_clip() -> None:
    """Without adaptation nothing moves, and nothing is taken off the sum."""
    layers = ClippingTerms(layers=(Layer(entries=1, share=0.6), Layer(entries=3, share=0.8)))
    for policy in (ClippingPolicy(clip_norm=2.0), ClippingPolicy(clip_norm=2.0, terms=layers)):
        state = policy.start()
        update, balance = state.split(collected(state, [9.0, 9.0]))
        assert balance is None
        assert update.shape == (4,)
        assert state.after(balance, report_goal=PEOPLE) is state
        assert np.linalg.norm(update) <= 4.0
        assert policy.update_noise_factor == 1.0
        assert policy.count_rho(1.0) == 0.0


@pytest.mark.parametrize(
    "policy",
    [
        ClippingPolicy(clip_norm=0.3),
        ADAPTIVE,
        ClippingPolicy(clip_norm=1.0, terms=ClippingTerms(layers=(Layer(entries=2, share=1.0),))),
    ],
)
def test_policy_survives_storage(policy: ClippingPolicy) -> None:
    """A run that is resumed clips as it did."""
    assert ClippingPolicy.from_values(json.loads(json.dumps(policy.to_values()))) == policy


@pytest.mark.parametrize(
    "changes",
    [
        {"quantile": 0.0},
        {"quantile": 1.0},
        {"count_share": 0.0},
        {"count_share": 1.0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"least": 0.0},
        {"least": 3.0, "most": 2.0},
        {"most": MAX_CLIP_NORM * 2},
    ],
)
def test_policy_refuses_what_cannot_adapt(changes: dict[str, Any]) -> None:
    """Bad numbers are a mistake before anyone is asked."""
    with pytest.raises(ValueError, match=r"."):
        Adaptation(**changes)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan, math.inf, 10.1])
def test_policy_refuses_a_clip_that_no_device_accepts(clip_norm: float) -> None:
    """Zero, not a number, or above the protocol's bound."""
    with pytest.raises(ValueError, match="clip_norm"):
        ClippingPolicy(clip_norm=clip_norm)


def test_policy_refuses_a_count_that_nothing_uses() -> None:
    """A counted entry without adaptation would cost accuracy for nothing; and the reverse."""
    with pytest.raises(ValueError, match="count"):
        ClippingPolicy(clip_norm=1.0, terms=ClippingTerms(count_share=0.1))
    with pytest.raises(ValueError, match="count"):
        replace(ADAPTIVE, terms=ClippingTerms(count_share=0.5))


@pytest.mark.parametrize("values", [[], [0.5], [math.nan, 1.0], [math.inf, 0.0]])
def test_split_refuses_what_is_no_sum(values: list[float]) -> None:
    """Too short to hold an update and a count, or not finite."""
    with pytest.raises(ValueError, match="finite"):
        ADAPTIVE.start().split(np.array(values))
