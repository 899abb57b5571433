"""Membership inference against a published model: seen where there is a leak, and judged."""

from __future__ import annotations

import numpy as np
import pytest

from client_sdk.intelligence import History
from client_sdk.wire import sha256_hex
from privacy.membership import most_auc
from privacy.noise import GaussianNoise
from simulations.audit.aggregation import AuditedMechanism, Claim, Ports
from simulations.audit.membership import audit_membership, compare

N_ITEMS = 60


def histories() -> tuple[History, ...]:
    """Give 160 people with tastes of their own: eight items each, out of sixty."""
    rng = np.random.default_rng(3)
    return tuple(
        History.from_events(
            items=rng.choice(N_ITEMS, size=8, replace=False).tolist(),
            times_s=[0.0] * 8,
            now_s=1.0,
        )
        for _ in range(160)
    )


def ports() -> Ports:
    """Give the real pipeline on seeded noise."""
    noise = GaussianNoise.from_seed_for_simulation(1)
    return Ports(new_noise=lambda: noise)


def claim_of(epsilon: float) -> Claim:
    """Give a claim."""
    return Claim(mechanism=AuditedMechanism.GAUSSIAN, epsilon=epsilon, delta=1e-6)


def test_membership_of_a_model_without_noise_is_found() -> None:
    """The attack works where nothing protects: it would see a leak."""
    result = audit_membership(None, histories=histories(), n_items=N_ITEMS, seed=1)
    assert result.auc.low > 0.6
    assert result.members + result.others == 160
    assert not result.contradicts


def test_membership_of_a_private_model_stays_below_what_is_claimed() -> None:
    """With ε 1 the attack is as good as a coin, within its limits."""
    result = audit_membership(
        claim_of(1.0), histories=histories(), n_items=N_ITEMS, seed=1, ports=ports()
    )
    assert not result.contradicts
    assert result.auc.low <= result.most_auc < 0.6
    assert result.true_positives.low <= result.most_true_positives
    assert not result.look.contradicts


def test_compare_an_attack_that_beats_the_claim_contradicts() -> None:
    """Scores farther apart than the claim allows refute it; as far as it allows do not."""
    rng = np.random.default_rng(4)
    others = rng.standard_normal(400)
    for mu, contradicts in ((0.25, False), (1.5, True)):
        result = compare(rng.standard_normal(400) + mu, others, mu=0.25)
        assert result.contradicts is contradicts
        assert result.most_auc == most_auc(0.25)
        assert result.look.contradicts is contradicts


@pytest.mark.parametrize("seed", [1, 2])
def test_membership_is_repeatable(seed: int) -> None:
    """A seed names who was in, and with seeded noise the result."""
    found = [
        audit_membership(
            claim_of(8.0), histories=histories(), n_items=N_ITEMS, seed=seed, ports=ports()
        )
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert len({sha256_hex(repr(each).encode()) for each in found}) == 1
