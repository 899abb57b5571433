"""One frame: how a message looks in bytes, and what its signature covers.

Rules a reader can check line by line:

1. Every message is one *frame*: ``b"HB" | version | kind | header length | header | body length
   | body | Ed25519 signature``. Integers are big-endian. The header is canonical JSON (sorted keys,
   no white space, ASCII), so one value has one encoding.
2. The signature covers every byte before it. Reading a frame does not verify it: ``Frame.verify``
   does, against a key that the caller trusts for a reason of its own.
3. Reading is total: any bytes give a message or `WireFormatError`, never another exception.
4. Unknown versions, kinds, purposes, tasks and header fields are refused.
5. Each kind has a version of its own, so that a change of one leaves the signed bytes of the others
   readable. Orders and invitations are at version 2: they name their run and how to clip. One of
   version 1 is refused, for it does not say how often a person may be in its run.

Only `verify_signature` loads `cryptography`; the rest is the standard library.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

WIRE_VERSION: Final = 1
ORDER_VERSION: Final = 2
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
SIGNATURE_BYTES: Final = 64
KEY_HEX_DIGITS: Final = 64

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)

_MAGIC: Final = b"HB"
_PREFIX: Final = struct.Struct(">2sBBI")
_LENGTH: Final = struct.Struct(">I")


class WireFormatError(ValueError):
    """The bytes are not a message of this protocol version."""


class WireSignatureError(WireFormatError):
    """The bytes are a message, but not signed by the key that they name."""


class FrameKind(StrEnum):
    """The kinds of frame; the order of declaration is the number on the wire."""

    RECEIPT = "receipt"
    INVITATION = "invitation"
    ORDER = "order"
    ACCEPTANCE = "acceptance"
    CONTRIBUTION = "contribution"
    REFUSAL = "refusal"


_KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(FrameKind, start=1)}
_KINDS_BY_NUMBER: Final = {number: kind for kind, number in _KIND_NUMBERS.items()}
_VERSIONS: Final = dict.fromkeys(FrameKind, WIRE_VERSION) | {
    FrameKind.INVITATION: ORDER_VERSION,
    FrameKind.ORDER: ORDER_VERSION,
}


class Signer(Protocol):
    """Whoever holds a private Ed25519 key."""

    @property
    def public_key_hex(self) -> str:
        """The raw 32-byte public key as 64 lower-case hexadecimal digits."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of ``message``."""
        ...


def verify_signature(*, public_key_hex: str, signature: bytes, message: bytes) -> bool:
    """Say whether ``signature`` is an Ed25519 signature of ``message`` (RFC 8032).

    Args:
        public_key_hex: Raw public key, 64 hexadecimal digits.
        signature: 64 bytes.
        message: The signed bytes.

    Returns:
        True only for a valid signature; a malformed key or signature is False, never an error.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key_hex))
        key.verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def canonical_json(value: Mapping[str, Any]) -> bytes:
    r"""Encode ``value`` so that equal values give equal bytes.

    >>> canonical_json({"b": 1, "a": "ü"})
    b'{"a":"\\u00fc","b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One framed message: what was read, and the bytes that its signature covers."""

    kind: FrameKind
    header: Mapping[str, Any]
    body: bytes
    signed: bytes
    signature: bytes

    def verify(self, public_key_hex: str) -> bool:
        """Say whether the holder of ``public_key_hex`` signed this frame."""
        return verify_signature(
            public_key_hex=public_key_hex, signature=self.signature, message=self.signed
        )


def write_frame(
    kind: FrameKind, header: Mapping[str, Any], body: bytes, sign: Callable[[bytes], bytes]
) -> bytes:
    """Frame and sign a message.

    Raises:
        ValueError: the header or the body is larger than the protocol allows.
    """
    encoded = canonical_json(header)
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(encoded)} bytes; at most {MAX_HEADER_BYTES}")
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"body of {len(body)} bytes; at most {MAX_BODY_BYTES}")
    signed = b"".join(
        (
            _PREFIX.pack(_MAGIC, _VERSIONS[kind], _KIND_NUMBERS[kind], len(encoded)),
            encoded,
            _LENGTH.pack(len(body)),
            body,
        )
    )
    return signed + sign(signed)


def read_frame(data: bytes, *, expect: FrameKind | None = None) -> Frame:
    """Read one frame; nothing is verified yet.

    Args:
        data: A whole frame, no more and no less.
        expect: The only kind to accept, or None for any.

    Raises:
        WireFormatError: the bytes are not exactly one frame (of the expected kind).
    """
    if len(data) < _PREFIX.size:
        raise WireFormatError(f"a frame has at least {_PREFIX.size} bytes; got {len(data)}")
    magic, version, number, header_bytes = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise WireFormatError("not a Homebody frame")
    kind = _KINDS_BY_NUMBER.get(number)
    if kind is None:
        raise WireFormatError(f"unknown frame kind {number}")
    if version != _VERSIONS[kind]:
        raise WireFormatError(f"expected version {_VERSIONS[kind]} of kind {kind}; got {version}")
    if expect is not None and kind is not expect:
        raise WireFormatError(f"expected a frame of kind {expect}; got {kind}")
    body_start = _PREFIX.size + header_bytes + _LENGTH.size
    if header_bytes > MAX_HEADER_BYTES or body_start > len(data):
        raise WireFormatError(f"header length {header_bytes} does not fit the frame")
    (body_bytes,) = _LENGTH.unpack_from(data, body_start - _LENGTH.size)
    end = body_start + body_bytes
    if body_bytes > MAX_BODY_BYTES or end + SIGNATURE_BYTES != len(data):
        raise WireFormatError(f"body length {body_bytes} does not fit the frame")
    encoded = bytes(data[_PREFIX.size : body_start - _LENGTH.size])
    return Frame(
        kind=kind,
        header=_read_header(encoded),
        body=bytes(data[body_start:end]),
        signed=bytes(data[:end]),
        signature=bytes(data[end:]),
    )


def _read_header(encoded: bytes) -> dict[str, Any]:
    try:
        header = json.loads(encoded)
        canonical = isinstance(header, dict) and canonical_json(header) == encoded
    except (ValueError, RecursionError) as error:
        raise WireFormatError("the header is not JSON") from error
    if not canonical:
        raise WireFormatError("the header is not a canonical JSON object")
    return dict(header)


class Fields:
    """Typed reading of a header; every field must be taken, and nothing may be left over."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self._left = dict(header)

    def take(self, name: str, kind: type[_T]) -> _T:
        """Take a field of exactly this type; a whole number will do for a float."""
        if name not in self._left:
            raise WireFormatError(f"field {name!r} is missing")
        value = self._left.pop(name)
        if kind is float and type(value) is int:
            try:
                value = float(value)
            except OverflowError as error:
                raise WireFormatError(f"field {name!r} is too large") from error
        if type(value) is not kind:
            raise WireFormatError(
                f"field {name!r} must be {kind.__name__}; got {type(value).__name__}"
            )
        return value

    def take_enum(self, name: str, kind: type[_E]) -> _E:
        """Take a field that holds a word of a closed list."""
        value = self.take(name, str)
        try:
            return kind(value)
        except ValueError as error:
            raise WireFormatError(f"field {name!r} has an unknown value") from error

    def take_hex(self, name: str, length: int) -> str:
        """Take a field of exactly ``length`` lower-case hexadecimal digits."""
        value = self.take(name, str)
        if len(value) != length or any(digit not in "0123456789abcdef" for digit in value):
            raise WireFormatError(f"field {name!r} must be {length} hexadecimal digits")
        return value

    def done(self) -> None:
        """Refuse what is left over."""
        if self._left:
            raise WireFormatError(f"unknown field {min(self._left)!r}")
