"""Signed policies: what a campaign may trust, and everything else that is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.keys import DeviceKey
from client_sdk.wire import TaskKind
from privacy.budget import Budget
from privacy.errors import PolicyFormatError, PolicyUntrustedError
from privacy.events import MechanismName
from privacy.gaussian import noise_multiplier_for
from privacy.policy import Policy, Signature, SignOff
from privacy.signed_policy import VerifiedPolicy, load_policy, sign_policy, verify_policy

OFFICER = DeviceKey(bytes([1]) * 32)
STRANGER = DeviceKey(bytes([2]) * 32)
TRUSTED = [OFFICER.public_key_hex]
NOW_S = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400.0

POLICY = Policy(
    population="shop",
    people=1_000,
    report_goal=100,
    rounds=1,
    task=TaskKind.ITEM_COUNTS,
    epsilon=2.0,
    delta=1e-6,
    mechanism=MechanismName.GAUSSIAN,
    noise_multiplier=noise_multiplier_for(epsilon=2.0, delta=1e-6),
    clip_norm=0.5,
    sign_off=SignOff(planned_by="P. Lanner"),
)


def signed(policy: Policy = POLICY, **changes: Any) -> Policy:
    """Sign for 30 days."""
    terms: dict[str, Any] = {"signer": OFFICER, "by": "A. Officer", "valid_days": 30}
    return sign_policy(policy, now_s=NOW_S, **{**terms, **changes})


def test_verify_signed_policy_gives_what_a_campaign_needs() -> None:
    """Through the file: budget, clip, who, and until when."""
    verified = load_policy(signed().to_toml().encode(), trusted_keys=TRUSTED, now_s=NOW_S)
    assert verified.policy == signed()
    assert verified.budget == Budget(epsilon=2.0, delta=1e-6)
    assert verified.clipping.clip_norm == 0.5
    assert verified.policy.sign_off == SignOff(
        planned_by="P. Lanner", approved_by="A. Officer", approved_on="2026-11-22"
    )
    assert verified.policy.signature is not None
    assert verified.policy.signature.valid_until == "2026-12-22"


def test_verify_unsigned_policy_refuses() -> None:
    """A name under it is no signature."""
    named = replace(POLICY, sign_off=SignOff(approved_by="A", approved_on="2026-11-22"))
    for policy in (POLICY, named):
        with pytest.raises(PolicyUntrustedError, match="nobody signed"):
            verify_policy(policy, trusted_keys=TRUSTED, now_s=NOW_S)


@pytest.mark.parametrize(
    "changes",
    [
        {"population": "bank"},
        {"people": 999},
        {"report_goal": 99},
        {"epsilon": 3.0},
        {"delta": 1e-5},
        {"noise_multiplier": POLICY.noise_multiplier * 1.5},
        {"clip_norm": 1.0},
        {"window": "2026-Q4"},
        {"task": TaskKind.ITEM_STATISTICS},
        {"sign_off": SignOff(approved_by="A. Officer", approved_on="2026-11-22")},
        {
            "sign_off": SignOff(
                planned_by="P. Lanner", approved_by="B", approved_on=signed().sign_off.approved_on
            )
        },
    ],
)
def test_verify_altered_policy_refuses(changes: dict[str, Any]) -> None:
    """Each term alone, made consistent again (digest and all) by whoever altered it."""
    altered = replace(signed(), **changes).to_toml().encode()
    with pytest.raises(PolicyUntrustedError, match="changed after it was signed"):
        load_policy(altered, trusted_keys=TRUSTED, now_s=NOW_S)


@pytest.mark.parametrize(
    "changes",
    [{"valid_until": "2036-01-01"}, {"signature": "00" * 64}, {"signature": "no hex"}],
)
def test_verify_altered_signature_refuses(changes: dict[str, str]) -> None:
    """A later last day, another signature, or none at all."""
    policy = signed()
    assert policy.signature is not None
    altered = replace(policy, signature=replace(policy.signature, **changes))
    with pytest.raises(PolicyUntrustedError, match="changed after it was signed"):
        verify_policy(altered, trusted_keys=TRUSTED, now_s=NOW_S)


def test_verify_right_signature_of_an_untrusted_key_refuses() -> None:
    """Anybody can sign; the caller says whom to believe."""
    with pytest.raises(PolicyUntrustedError, match="isn't trusted"):
        verify_policy(signed(signer=STRANGER), trusted_keys=TRUSTED, now_s=NOW_S)
    both = [*TRUSTED, STRANGER.public_key_hex]
    assert (
        verify_policy(signed(signer=STRANGER), trusted_keys=both, now_s=NOW_S).budget.epsilon == 2
    )


def test_verify_signature_under_another_trusted_key_refuses() -> None:
    """The key is part of what is signed, so a signature can't be claimed by somebody else."""
    policy = signed()
    assert policy.signature is not None
    claimed = replace(policy.signature, key=STRANGER.public_key_hex)
    with pytest.raises(PolicyUntrustedError, match="changed after it was signed"):
        verify_policy(
            replace(policy, signature=claimed),
            trusted_keys=[STRANGER.public_key_hex],
            now_s=NOW_S,
        )


def test_verify_before_and_after_the_days_that_were_signed_refuses() -> None:
    """The last day still counts, the next one doesn't; a clock before the signing is wrong."""
    policy = signed()
    last = NOW_S + 30 * DAY_S
    assert verify_policy(policy, trusted_keys=TRUSTED, now_s=last).policy == policy
    with pytest.raises(PolicyUntrustedError, match="held until 2026-12-22, today is 2026-12-23"):
        verify_policy(policy, trusted_keys=TRUSTED, now_s=last + DAY_S)
    with pytest.raises(PolicyUntrustedError, match="check the clock"):
        verify_policy(policy, trusted_keys=TRUSTED, now_s=NOW_S - DAY_S)


def test_verified_policy_that_expires_is_refused_at_its_next_use() -> None:
    """An aggregator runs for months; the policy's last day comes meanwhile."""
    verified = verify_policy(signed(), trusted_keys=TRUSTED, now_s=NOW_S)
    verified.require_valid(NOW_S + 30 * DAY_S)
    with pytest.raises(PolicyUntrustedError, match="sign it again"):
        verified.require_valid(NOW_S + 31 * DAY_S)


def test_verified_policy_cannot_be_made_by_hand() -> None:
    """Not even by whoever skips `verify_policy`."""
    with pytest.raises(PolicyUntrustedError):
        VerifiedPolicy(policy=POLICY, trusted_keys=frozenset(TRUSTED), now_s=NOW_S)


@pytest.mark.parametrize("keys", [[], ["0" * 63], [OFFICER.public_key_hex.upper()]])
def test_verify_without_a_key_to_trust_is_the_callers_mistake(keys: list[str]) -> None:
    """No key trusts nobody; it never means everybody."""
    with pytest.raises(ValueError, match="name the keys"):
        verify_policy(signed(), trusted_keys=keys, now_s=NOW_S)


def test_sign_again_replaces_the_signature() -> None:
    """A renewal: another day, the same terms."""
    again = sign_policy(signed(), signer=OFFICER, by="B", now_s=NOW_S + 20 * DAY_S, valid_days=30)
    assert again.digest == POLICY.digest
    verified = verify_policy(again, trusted_keys=TRUSTED, now_s=NOW_S + 50 * DAY_S)
    assert verified.policy.sign_off.approved_by == "B"


@pytest.mark.parametrize(
    "changes",
    [{"by": ""}, {"by": " "}, {"by": "A\nB"}, {"by": "x" * 201}, {"valid_days": 0},
     {"valid_days": 3_661}],
)  # fmt: skip
def test_sign_nonsense_is_the_callers_mistake(changes: dict[str, Any]) -> None:
    """Nobody, or no day at all."""
    with pytest.raises(ValueError, match=r"the name of|is valid for"):
        signed(**changes)


def test_load_policy_with_a_key_holders_nonsense_day_refuses() -> None:
    """Whoever holds the key can sign anything; it is still no day."""
    policy = replace(signed(), signature=None)
    draft = Signature(key=OFFICER.public_key_hex, valid_until="for ever", signature="")
    from privacy.signed_policy import _message

    right = OFFICER.sign(_message(policy, draft)).hex()
    with pytest.raises(PolicyUntrustedError, match="is no day"):
        verify_policy(
            replace(policy, signature=replace(draft, signature=right)),
            trusted_keys=TRUSTED,
            now_s=NOW_S,
        )


@given(at=st.integers(0, 5_000), by=st.integers(1, 255))
def test_load_signed_file_with_one_byte_changed_is_refused_or_means_the_same(
    at: int, by: int
) -> None:
    """Only a comment can be changed; every number, name, day and key is held."""
    data = bytearray(signed().to_toml().encode())
    data[at % len(data)] = (data[at % len(data)] + by) % 256
    try:
        verified = load_policy(bytes(data), trusted_keys=TRUSTED, now_s=NOW_S)
    except (PolicyFormatError, PolicyUntrustedError):
        return
    read, told = verified.policy, verified.policy.signature
    assert told is not None
    # Hexadecimal digits may be written large.
    same = replace(told, signature=told.signature.lower())
    assert replace(read, signature=same) == signed()
