"""The messages of federation: consent receipts, orders, and what a device answers.

An aggregator first *invites* a device to a task (an order without its payload). The device answers
with an acceptance that carries its consent receipt, or with a refusal. Only a device that accepted
gets the order; it answers with one contribution or a refusal. Each answer is signed by the device,
each invitation and order by the aggregator.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from client_sdk.wire.frame import (
    KEY_HEX_DIGITS,
    Fields,
    Frame,
    FrameKind,
    Signer,
    WireFormatError,
    WireSignatureError,
    read_frame,
    write_frame,
)
from client_sdk.wire.run_terms import FLAT, ClippingTerms, RunTerms
from client_sdk.wire.vectors import SparseVector, decode_vector, encode_vector
from client_sdk.wire.vocabulary import PURPOSE_OF, Purpose, Refusal, TaskKind

_ID_HEX_DIGITS = 32


@dataclass(frozen=True, kw_only=True)
class ConsentReceipt:
    """A person's answer for one purpose, signed by the device that asked.

    Attributes:
        receipt_id: 32 hexadecimal digits.
        device: The device's raw Ed25519 public key in hexadecimal; a pseudonym, nothing else.
        purpose: What the answer is about.
        granted: True for consent; False for a withdrawal.
        policy_version: Version of the text that the person saw.
        policy_sha256: SHA-256 of that text, hexadecimal.
        issued_at_s: When the person answered, seconds since 1970 (UTC).
        expires_at_s: From when on the answer no longer counts as consent.
    """

    receipt_id: str
    device: str
    purpose: Purpose
    granted: bool
    policy_version: str
    policy_sha256: str
    issued_at_s: int
    expires_at_s: int

    def allows(self, purpose: Purpose, *, now_s: float) -> bool:
        """Say whether this receipt is consent to ``purpose`` at ``now_s``."""
        return self.granted and self.purpose is purpose and now_s < self.expires_at_s

    def to_bytes(self, signer: Signer) -> bytes:
        """Sign with the device's key and frame."""
        if signer.public_key_hex != self.device:
            raise ValueError("a receipt is signed by the device that it names")
        return write_frame(FrameKind.RECEIPT, _plain(vars(self)), b"", signer.sign)

    @classmethod
    def from_bytes(cls, data: bytes) -> ConsentReceipt:
        """Read and verify a receipt against the key that it names.

        Raises:
            WireFormatError: malformed.
            WireSignatureError: not signed by that key.
        """
        frame = read_frame(data, expect=FrameKind.RECEIPT)
        fields = Fields(frame.header)
        receipt = cls(
            receipt_id=fields.take_hex("receipt_id", _ID_HEX_DIGITS),
            device=fields.take_hex("device", KEY_HEX_DIGITS),
            purpose=fields.take_enum("purpose", Purpose),
            granted=fields.take("granted", bool),
            policy_version=fields.take("policy_version", str),
            policy_sha256=fields.take_hex("policy_sha256", 64),
            issued_at_s=fields.take("issued_at_s", int),
            expires_at_s=fields.take("expires_at_s", int),
        )
        fields.done()
        if not frame.verify(receipt.device):
            raise WireSignatureError("the receipt is not signed by the device that it names")
        return receipt


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an aggregator asks of a device: one bounded vector for one task.

    Attributes:
        task_id: 32 hexadecimal digits, fresh for each task and round.
        kind: The task; it fixes the purpose and the encoder.
        population: Name of the ledger's population.
        round: Number of the round within the task's run, from 0.
        policy_sha256: The consent text that a receipt must be about.
        catalogue_sha256: The catalogue whose order of items gives the vector its meaning.
        dimension: Length of the vector.
        clip_norm: Largest L2 norm of the vector; the server clips again.
        closes_at_s: Answers later than this are not added.
        promise: What is claimed for the release, in the words of the ledger: for the person to
            read in the transparency log (``epsilon``, ``delta``, ``adjacency``, ``trusted``).
        parameters: What the encoder of this kind needs; numbers and strings only.
        payload_sha256: SHA-256 of the payload.
        payload: Arrays that the encoder needs (item rows, top items); empty in an invitation.
        run: The training run that the round belongs to; None for a task of one round.
        clipping: How the vector is brought below ``clip_norm``; by default by its whole norm.
    """

    task_id: str
    kind: TaskKind
    population: str
    round: int
    policy_sha256: str
    catalogue_sha256: str
    dimension: int
    clip_norm: float
    closes_at_s: int
    promise: Mapping[str, Any]
    parameters: Mapping[str, Any]
    payload_sha256: str
    payload: bytes = b""
    run: RunTerms | None = None
    clipping: ClippingTerms = FLAT

    def __post_init__(self) -> None:
        if self.dimension < 1 or self.round < 0:
            raise ValueError("dimension must be at least 1 and round at least 0")
        if self.run is not None and self.round >= self.run.rounds:
            raise ValueError(f"round {self.round} of a run of {self.run.rounds}")
        if self.clipping.entries not in (None, self.dimension):
            raise ValueError("the layers must have as many entries as the vector")
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ValueError("clip_norm must be finite and above 0")

    @property
    def purpose(self) -> Purpose:
        """The consent that this task needs."""
        return PURPOSE_OF[self.kind]

    def to_bytes(self, signer: Signer) -> bytes:
        """Sign as an order, with its payload.

        Raises:
            ValueError: the payload is not the one that ``payload_sha256`` names.
        """
        if sha256_hex(self.payload) != self.payload_sha256:
            raise ValueError("payload_sha256 does not match the payload")
        return self._frame(FrameKind.ORDER, self.payload, signer)

    def to_invitation_bytes(self, signer: Signer) -> bytes:
        """Sign as an invitation, without the payload."""
        return self._frame(FrameKind.INVITATION, b"", signer)

    def _frame(self, kind: FrameKind, body: bytes, signer: Signer) -> bytes:
        header = _plain(vars(self))
        del header["payload"]
        header["run"] = {} if self.run is None else self.run.to_values()
        header["clipping"] = self.clipping.to_values()
        return write_frame(kind, header, body, signer.sign)

    @classmethod
    def from_frame(cls, frame: Frame) -> Order:
        """Read an order or an invitation; the caller has verified the frame.

        Raises:
            WireFormatError: malformed, or the payload is not the one that was signed for.
        """
        if frame.kind not in (FrameKind.ORDER, FrameKind.INVITATION):
            raise WireFormatError(f"expected an order or an invitation; got {frame.kind}")
        fields = Fields(frame.header)
        run = fields.take("run", dict)
        try:
            order = cls(
                task_id=fields.take_hex("task_id", _ID_HEX_DIGITS),
                kind=fields.take_enum("kind", TaskKind),
                population=fields.take("population", str),
                round=fields.take("round", int),
                policy_sha256=fields.take_hex("policy_sha256", 64),
                catalogue_sha256=fields.take_hex("catalogue_sha256", 64),
                dimension=fields.take("dimension", int),
                clip_norm=fields.take("clip_norm", float),
                closes_at_s=fields.take("closes_at_s", int),
                promise=fields.take("promise", dict),
                parameters=fields.take("parameters", dict),
                payload_sha256=fields.take_hex("payload_sha256", 64),
                payload=frame.body,
                run=RunTerms.from_values(run) if run else None,
                clipping=ClippingTerms.from_values(fields.take("clipping", dict)),
            )
        except WireFormatError:
            raise
        except ValueError as error:
            raise WireFormatError(str(error)) from error
        fields.done()
        if frame.kind is FrameKind.INVITATION and frame.body:
            raise WireFormatError("an invitation has no payload")
        if frame.kind is FrameKind.ORDER and sha256_hex(frame.body) != order.payload_sha256:
            raise WireFormatError("the payload is not the one that was signed for")
        return order


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """A device's yes to an invitation, with the consent receipt (bytes, as signed)."""

    task_id: str
    device: str
    receipt: bytes

    def to_bytes(self, signer: Signer) -> bytes:
        """Sign with the device's key and frame."""
        header = {"task_id": self.task_id, "device": self.device}
        return write_frame(FrameKind.ACCEPTANCE, header, self.receipt, signer.sign)


@dataclass(frozen=True, kw_only=True)
class Declined:
    """A device's no. ``receipt`` holds the signed withdrawal where there is one, else nothing."""

    task_id: str
    device: str
    reason: Refusal
    receipt: bytes = b""

    def to_bytes(self, signer: Signer) -> bytes:
        """Sign with the device's key and frame."""
        header = {"task_id": self.task_id, "device": self.device, "reason": self.reason.value}
        return write_frame(FrameKind.REFUSAL, header, self.receipt, signer.sign)


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """The one vector that a device gives to one task.

    Attributes:
        task_id: The order that it answers.
        device: The device's public key in hexadecimal.
        vector: What is to be added; the receiver checks and clips it again.
        receipt: The consent receipt, as signed bytes.
    """

    task_id: str
    device: str
    vector: SparseVector
    receipt: bytes

    def to_bytes(self, signer: Signer) -> bytes:
        """Encode the vector, sign with the device's key and frame."""
        encoding, body = encode_vector(self.vector)
        header = {
            "task_id": self.task_id,
            "device": self.device,
            "encoding": encoding,
            "dimension": self.vector.dimension,
            "receipt": self.receipt.hex(),
        }
        return write_frame(FrameKind.CONTRIBUTION, header, body, signer.sign)


Answer = Acceptance | Declined | Contribution


def read_answer(frame: Frame) -> Answer:
    """Read what a device answered; the signature is verified against the device it names.

    That the named device is enrolled, and is the one that was asked, is for the caller to check.

    Raises:
        WireFormatError: malformed.
        WireSignatureError: not signed by the device that it names.
    """
    fields = Fields(frame.header)
    task_id = fields.take_hex("task_id", _ID_HEX_DIGITS)
    device = fields.take_hex("device", KEY_HEX_DIGITS)
    answer: Answer
    if frame.kind is FrameKind.ACCEPTANCE:
        answer = Acceptance(task_id=task_id, device=device, receipt=frame.body)
    elif frame.kind is FrameKind.REFUSAL:
        reason = fields.take_enum("reason", Refusal)
        answer = Declined(task_id=task_id, device=device, reason=reason, receipt=frame.body)
    elif frame.kind is FrameKind.CONTRIBUTION:
        encoding = fields.take("encoding", str)
        dimension = fields.take("dimension", int)
        receipt = fields.take("receipt", str)
        try:
            receipt_bytes = bytes.fromhex(receipt)
        except ValueError as error:
            raise WireFormatError("field 'receipt' must be hexadecimal") from error
        if dimension < 1:
            raise WireFormatError("field 'dimension' must be at least 1")
        vector = decode_vector(encoding=encoding, dimension=dimension, body=frame.body)
        answer = Contribution(task_id=task_id, device=device, vector=vector, receipt=receipt_bytes)
    else:
        raise WireFormatError(f"expected an answer; got a frame of kind {frame.kind}")
    fields.done()
    if not frame.verify(device):
        raise WireSignatureError("the answer is not signed by the device that it names")
    return answer


def sha256_hex(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def as_invitation(order: Order) -> Order:
    """The same order without its payload."""
    return replace(order, payload=b"")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
