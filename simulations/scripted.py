"""Devices that do as they are told, the hostile ones included: for tests, the demo and benchmarks.

They speak the protocol with a key of their own and hold nothing about anyone. `EXPECTED` says
under which reason the aggregator has to count each kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client_sdk.wire import (
    Acceptance,
    ConsentReceipt,
    Contribution,
    Declined,
    FrameKind,
    Order,
    Purpose,
    Refusal,
    Signer,
    SparseVector,
    read_frame,
    sha256_hex,
)

EARLIER_TASK: Final = "e" * 32
_SOMEONE_ELSE: Final = "ab" * 32


class Behaviour(StrEnum):
    """What a scripted device does when it is asked."""

    HONEST = "honest"
    EXAGGERATES = "exaggerates a million times"
    OPPOSES = "sends the opposite of what it learned"
    REFUSES_CONSENT = "refuses consent"
    WITHDRAWS = "withdraws between acceptance and upload"
    CONSENT_RAN_OUT = "shows a consent that has run out"
    OTHER_POLICY = "shows a consent to another policy text"
    OTHER_PURPOSE = "shows a consent to another purpose"
    BORROWED_RECEIPT = "shows somebody else's consent"
    NOT_A_NUMBER = "sends NaN"
    OVERSIZED = "sends far too many bytes"
    WRONG_DIMENSION = "sends a vector of another length"
    GARBAGE = "sends garbage"
    REPLAYS = "sends the bytes of an earlier round again"
    OTHER_TASK = "sends a vector for a task that never was"
    FORGES = "signs in somebody else's name"
    IMPERSONATES = "sends what somebody else signed"
    SILENT = "accepts, then stays silent"
    IGNORES = "never answers at all"


EXPECTED: Final[Mapping[Behaviour, Refusal | None]] = {
    Behaviour.HONEST: None,
    Behaviour.EXAGGERATES: None,
    Behaviour.OPPOSES: None,
    Behaviour.REFUSES_CONSENT: Refusal.NO_CONSENT,
    Behaviour.WITHDRAWS: Refusal.CONSENT_WITHDRAWN,
    Behaviour.CONSENT_RAN_OUT: Refusal.CONSENT_EXPIRED,
    Behaviour.OTHER_POLICY: Refusal.BAD_RECEIPT,
    Behaviour.OTHER_PURPOSE: Refusal.BAD_RECEIPT,
    Behaviour.BORROWED_RECEIPT: Refusal.BAD_RECEIPT,
    Behaviour.NOT_A_NUMBER: Refusal.NOT_FINITE,
    Behaviour.OVERSIZED: Refusal.OVERSIZED,
    Behaviour.WRONG_DIMENSION: Refusal.WRONG_SHAPE,
    Behaviour.GARBAGE: Refusal.MALFORMED,
    Behaviour.REPLAYS: Refusal.REPLAYED,
    Behaviour.OTHER_TASK: Refusal.WRONG_TASK,
    Behaviour.FORGES: Refusal.BAD_SIGNATURE,
    Behaviour.IMPERSONATES: Refusal.UNKNOWN_DEVICE,
    Behaviour.SILENT: Refusal.NO_ANSWER,
    Behaviour.IGNORES: Refusal.NO_ANSWER,
}


class SoftwareKey:
    """An Ed25519 key in memory.

    >>> len(SoftwareKey().public_key_hex)
    64
    """

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    @property
    def public_key_hex(self) -> str:
        """64 hexadecimal digits."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Sign ``message``."""
        return self._key.sign(message)


@dataclass(frozen=True, kw_only=True)
class ScriptedDevice:
    """A device with a key, a vector to give, and a behaviour.

    Attributes:
        vector: What it gives; its dimension is the order's.
        consented_at_s: When the person said yes, seconds since 1970 (UTC).
        behaviour: What it does.
        signer: Its key.
        other: Whose key it abuses where the behaviour needs one.
    """

    vector: SparseVector
    consented_at_s: int
    behaviour: Behaviour = Behaviour.HONEST
    signer: Signer = field(default_factory=SoftwareKey)
    other: Signer = field(default_factory=SoftwareKey)

    @property
    def public_key_hex(self) -> str:
        """The key under which it is enrolled."""
        return self.signer.public_key_hex

    def answer(self, frame: bytes) -> bytes | None:
        """Answer an invitation or an order; None is silence."""
        asked = read_frame(frame)
        order = Order.from_frame(asked)
        if self.behaviour is Behaviour.IGNORES:
            return None
        if asked.kind is FrameKind.INVITATION:
            if self.behaviour is Behaviour.REFUSES_CONSENT:
                return self._decline(order, Refusal.NO_CONSENT)
            return Acceptance(
                task_id=order.task_id, device=self.public_key_hex, receipt=self._receipt(order)
            ).to_bytes(self.signer)
        return self._answer_order(order)

    def _answer_order(self, order: Order) -> bytes | None:
        match self.behaviour:
            case Behaviour.SILENT:
                return None
            case Behaviour.GARBAGE:
                return b"\x00garbage" * 64
            case Behaviour.WITHDRAWS:
                withdrawal = self._receipt(order, granted=False, later_s=1)
                return self._decline(order, Refusal.CONSENT_WITHDRAWN, withdrawal)
            case Behaviour.FORGES:
                forged = self._contribution(order)
                return replace(forged, device=self.other.public_key_hex).to_bytes(self.signer)
            case Behaviour.IMPERSONATES:
                victim = replace(self, signer=self.other, behaviour=Behaviour.HONEST)
                return victim.answer(order.to_bytes(self.other))
            case _:
                return self._contribution(order).to_bytes(self.signer)

    def _contribution(self, order: Order) -> Contribution:
        vector, task_id = self.vector, order.task_id
        match self.behaviour:
            case Behaviour.EXAGGERATES:
                vector = replace(vector, values=vector.values * np.float32(1e6))
            case Behaviour.OPPOSES:
                vector = replace(vector, values=-vector.values)
            case Behaviour.NOT_A_NUMBER:
                values = vector.values.copy()
                values[:1] = np.nan
                vector = replace(vector, values=values)
            case Behaviour.OVERSIZED:
                much = np.ones(3 * order.dimension + 50_000, dtype=np.float32)
                vector = SparseVector.from_dense(much)
            case Behaviour.WRONG_DIMENSION:
                vector = replace(vector, dimension=order.dimension + 1)
            case Behaviour.REPLAYS:
                task_id = EARLIER_TASK
            case Behaviour.OTHER_TASK:
                task_id = "0" * 32
            case _:
                pass
        return Contribution(
            task_id=task_id,
            device=self.public_key_hex,
            vector=vector,
            receipt=self._receipt(order),
        )

    def _decline(self, order: Order, reason: Refusal, receipt: bytes = b"") -> bytes:
        return Declined(
            task_id=order.task_id, device=self.public_key_hex, reason=reason, receipt=receipt
        ).to_bytes(self.signer)

    def _receipt(self, order: Order, *, granted: bool = True, later_s: int = 0) -> bytes:
        signer, purpose, policy = self.signer, order.purpose, order.policy_sha256
        issued_at_s, expires_at_s = self.consented_at_s + later_s, order.closes_at_s + 86_400
        match self.behaviour:
            case Behaviour.CONSENT_RAN_OUT:
                expires_at_s = issued_at_s
            case Behaviour.OTHER_POLICY:
                policy = _SOMEONE_ELSE
            case Behaviour.OTHER_PURPOSE:
                purpose = Purpose.PERSONALISE
            case Behaviour.BORROWED_RECEIPT:
                signer = self.other
            case _:
                pass
        seed = f"{signer.public_key_hex}{issued_at_s}{granted}"
        return ConsentReceipt(
            receipt_id=sha256_hex(seed.encode())[:32],
            device=signer.public_key_hex,
            purpose=purpose,
            granted=granted,
            policy_version="1",
            policy_sha256=policy,
            issued_at_s=issued_at_s,
            expires_at_s=expires_at_s,
        ).to_bytes(signer)
