"""A policy that somebody answers for: signed, and verified before anything is run under it.

Guarantee: a `VerifiedPolicy` exists only where a key that the caller trusts signed exactly this
policy, by this person, on this day, and the day on which it is used lies within what was signed.
Everything else is a refusal (`PolicyUntrustedError`): fail closed. What it allows costs at most its
ε at its δ (`privacy.policy`).

Neighbouring relation: that of the policy, `privacy.events.ADJACENCY`.

What is signed: canonical JSON of the policy's digest, the sign-off, the key and the last valid day,
behind a name that no other message of Homebody begins with. So a signature can't be moved to
another policy, person, day or key, nor be one that was made for something else.

Edge cases:

| policy | outcome |
|---|---|
| unsigned | refused |
| anything but a comment changed after it was signed | refused |
| signed by a key that the caller did not name | refused, also where the signature itself is right |
| after the last valid day, or before the day of signing (UTC) | refused |
| no trusted key at all, or one that is no key | `ValueError`: the caller's mistake |
| already signed | `sign` replaces the signature; the command asks for ``--renew`` |
| valid for less than a day or over ten years | `ValueError` |

Test: tests/privacy/test_signed_policy.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from client_sdk.wire import Signer, canonical_json, verify_signature
from privacy.budget import Budget
from privacy.clipping import ClippingPolicy
from privacy.errors import PolicyUntrustedError
from privacy.policy import Policy, Signature, SignOff, read_policy

DEFAULT_VALID_DAYS: Final = 365
MAX_VALID_DAYS: Final = 3_660
_CONTEXT: Final = b"homebody privacy policy, signed, version 1\n"
_KEY: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class VerifiedPolicy:
    """A policy whose signature and dates were checked when this was made.

    Attributes:
        policy: What was signed.
        trusted_keys: Public keys, hexadecimal, of those who may approve.
        now_s: When it was checked, seconds since 1970 (UTC).

    Raises:
        PolicyUntrustedError: see the module's table.
        ValueError: no key to trust, or one that is none.
    """

    policy: Policy
    trusted_keys: frozenset[str]
    now_s: float

    def __post_init__(self) -> None:
        signature = _require_signed(self.policy, self.trusted_keys)
        self._require_day(signature, self.now_s)

    def require_valid(self, now_s: float) -> None:
        """Refuse to go on after the last day that was signed; ask again before each use.

        Raises:
            PolicyUntrustedError: the policy is expired, or the clock stands before its signing.
        """
        self._require_day(_require_signed(self.policy, self.trusted_keys), now_s)

    def _require_day(self, signature: Signature, now_s: float) -> None:
        today = datetime.fromtimestamp(now_s, tz=UTC).date()
        signed_on, last_day = self.policy.sign_off.approved_on, signature.valid_until
        if today > _day(last_day):
            raise PolicyUntrustedError(
                f"the policy held until {last_day}, today is {today}: sign it again"
            )
        if today < _day(signed_on):
            raise PolicyUntrustedError(
                f"the policy was signed on {signed_on}, today is {today}: check the clock"
            )

    @property
    def budget(self) -> Budget:
        """What the population may spend, for the ledger."""
        return Budget(epsilon=self.policy.epsilon, delta=self.policy.delta)

    @property
    def clipping(self) -> ClippingPolicy:
        """How contributions are clipped."""
        return ClippingPolicy(clip_norm=self.policy.clip_norm)


def sign_policy(
    policy: Policy,
    *,
    signer: Signer,
    by: str,
    now_s: float,
    valid_days: int = DEFAULT_VALID_DAYS,
) -> Policy:
    """Put a name, a day and a signature under a policy; replaces those that were there.

    Args:
        policy: What was read and checked.
        signer: Whoever holds the key.
        by: Who approves, 1 to 200 printable characters.
        now_s: Seconds since 1970 (UTC).
        valid_days: For how many days from today, 1 to 3,660.

    Raises:
        ValueError: the name or the number of days makes no sense.
    """
    if not by.strip() or not by.isprintable() or len(by) > 200:
        raise ValueError("the name of who signs has 1 to 200 printable characters")
    if not 1 <= valid_days <= MAX_VALID_DAYS:
        raise ValueError(f"a policy is valid for 1 to {MAX_VALID_DAYS:,} days; got {valid_days}")
    today = datetime.fromtimestamp(now_s, tz=UTC).date()
    sign_off = SignOff(
        planned_by=policy.sign_off.planned_by, approved_by=by, approved_on=today.isoformat()
    )
    draft = Signature(
        key=signer.public_key_hex,
        valid_until=(today + timedelta(days=valid_days)).isoformat(),
        signature="",
    )
    signed = replace(policy, sign_off=sign_off, signature=draft)
    signature = replace(draft, signature=signer.sign(_message(signed, draft)).hex())
    return replace(signed, signature=signature)


def verify_policy(policy: Policy, *, trusted_keys: Collection[str], now_s: float) -> VerifiedPolicy:
    """Check who stands for a policy, and until when.

    Args:
        policy: As it was read.
        trusted_keys: Ed25519 public keys, 64 hexadecimal digits each, of those who may approve.
        now_s: Seconds since 1970 (UTC).

    Raises:
        PolicyUntrustedError: see the module's table.
        ValueError: no key to trust, or one that is none.
    """
    return VerifiedPolicy(policy=policy, trusted_keys=frozenset(trusted_keys), now_s=now_s)


def load_policy(data: bytes, *, trusted_keys: Collection[str], now_s: float) -> VerifiedPolicy:
    """Read a signed policy file; the only way from a file to a campaign.

    Raises:
        PolicyFormatError: it is no policy; the message names the line.
        PolicyUntrustedError: see the module's table.
        ValueError: no key to trust, or one that is none.
    """
    return verify_policy(read_policy(data), trusted_keys=trusted_keys, now_s=now_s)


def _require_signed(policy: Policy, trusted_keys: frozenset[str]) -> Signature:
    if not trusted_keys or not all(_KEY.fullmatch(key) for key in trusted_keys):
        raise ValueError("name the keys to trust: 64 hexadecimal digits each, at least one")
    signature = policy.signature
    if signature is None:
        raise PolicyUntrustedError(
            "nobody signed the policy: homebody privacy sign FILE --key KEY.pem --by NAME"
        )
    if signature.key not in trusted_keys:
        raise PolicyUntrustedError(
            f"the policy was signed with the key {signature.key[:16]}…, which isn't trusted here"
        )
    try:
        raw = bytes.fromhex(signature.signature)
    except ValueError:
        raw = b""
    if not verify_signature(
        public_key_hex=signature.key, signature=raw, message=_message(policy, signature)
    ):
        raise PolicyUntrustedError(
            "the signature is of another policy, person or day: it was changed after it was signed"
        )
    return signature


def _message(policy: Policy, signature: Signature) -> bytes:
    terms = {
        "digest": policy.digest,
        "sign_off": vars(policy.sign_off),
        "key": signature.key,
        "valid_until": signature.valid_until,
    }
    return _CONTEXT + canonical_json(terms)


def _day(text: str) -> date:
    # Only what was signed comes here, so this is a key holder's own mistake.
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise PolicyUntrustedError(f"{text[:20]!r} in the policy is no day") from error
