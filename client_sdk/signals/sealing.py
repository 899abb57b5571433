"""How what the vault keeps is sealed: authenticated encryption, padding, keyed names.

Rules a reader can check line by line:

1. Envelope: a random 32-byte *data key* seals everything; it is itself sealed by the
   *key-encryption key*, which only the key store holds. Destroying that one key makes every copy
   unreadable.
2. The cipher is AES-256-GCM (NIST SP 800-38D) with a fresh random 96-bit nonce for each sealing, so
   equal values give different bytes. Sealing fewer than 2^32 values keeps nonces apart.
3. Before sealing, a value is padded to a multiple of 64 bytes: a length says no more than that.
4. The associated data names the place of a value; one that was moved to another does not open.
5. Names are keyed BLAKE2b (RFC 7693), each kind of name for itself: an event id gives 64 bits, a
   record 64 bits for its stream and 128 bits for itself. Who has no key learns nothing from a name
   and can't make two ids meet. By chance, two of 200,000 ids meet in one store of a billion.
6. A key of its own is derived for each use, and for each format of the vault, by HMAC-SHA256.

What sealing does not hide: how many values there are, their lengths, the order in which they came,
and which records are of one stream. What it does not detect: a value that was deleted, and a whole
file replaced by an older copy of itself.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION: Final = 2
"""Of the vault. Raised with a migration, and a store of the format before as its test."""
KEY_BYTES: Final = 32
BUCKET_BYTES: Final = 64
STREAM_NAME_BYTES: Final = 8
_EVENT_NAME_BYTES: Final = 8
_RECORD_NAME_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_LENGTH_BYTES: Final = 4


class SealBrokenError(ValueError):
    """The bytes were not sealed by this key for this place."""


def pad(value: bytes) -> bytes:
    """Pad to a multiple of 64 bytes: a 4-byte length, the value, zeros.

    >>> len(pad(b"a" * 60)), len(pad(b"a" * 61))
    (64, 128)
    """
    body = len(value).to_bytes(_LENGTH_BYTES, "big") + value
    return body + bytes(-len(body) % BUCKET_BYTES)


def unpad(padded: bytes) -> bytes:
    """Undo `pad`.

    Raises:
        SealBrokenError: the bytes are not what `pad` gives.
    """
    length = int.from_bytes(padded[:_LENGTH_BYTES], "big")
    value = padded[_LENGTH_BYTES : _LENGTH_BYTES + length]
    if pad(value) != padded:
        raise SealBrokenError("the padding is not as promised")
    return value


class Sealer:
    """Seals and names under one data key.

    Args:
        data_key: 32 secret bytes.
        format_version: The format of the vault; the keys of two formats have nothing in common.

    >>> sealer = Sealer(bytes(32))
    >>> sealer.open(sealer.seal(b"tea", b"page 1"), b"page 1")
    b'tea'
    >>> sealer.open(sealer.seal(b"tea", b"page 1"), b"page 2")
    Traceback (most recent call last):
    client_sdk.signals.sealing.SealBrokenError: not sealed by this key for this place
    """

    def __init__(self, data_key: bytes, *, format_version: int = FORMAT_VERSION) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(data_key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes; got {len(data_key)}")
        label = f"homebody vault {format_version}: ".encode()
        name_key = hmac.digest(data_key, label + b"name", "sha256")
        self._cipher = AESGCM(hmac.digest(data_key, label + b"seal", "sha256"))
        self._event_hash = _keyed_hash(name_key, b"event", _EVENT_NAME_BYTES)
        self._stream_hash = _keyed_hash(name_key, b"stream", STREAM_NAME_BYTES)
        self._record_hash = _keyed_hash(name_key, b"record", _RECORD_NAME_BYTES)

    def event_names(self, event_ids: Iterable[str]) -> NDArray[np.int64]:
        """Give the name of each event id.

        Returns:
            Whole numbers, shape (number of ids,), in the ids' order.
        """
        # The time of an ingest is made of loops like this one: local names, nothing else.
        copy = self._event_hash.copy
        digests = []
        for event_id in event_ids:
            named = copy()
            named.update(event_id.encode())
            digests.append(named.digest())
        return np.frombuffer(b"".join(digests), "<i8").astype(np.int64, copy=False)

    def stream_name(self, stream: str) -> bytes:
        """Give the 8 bytes with which the name of each record of a stream begins."""
        named = self._stream_hash.copy()
        named.update(stream.encode())
        return named.digest()

    def record_name(self, stream: str, key: str) -> bytes:
        """Give the 24 bytes that stand for a record."""
        named = self._record_hash.copy()
        encoded = stream.encode()
        named.update(len(encoded).to_bytes(4, "big") + encoded + key.encode())
        return self.stream_name(stream) + named.digest()

    def seal(self, value: bytes, place: bytes) -> bytes:
        """Pad and seal a value for one place."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, pad(value), place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Undo `seal`.

        Raises:
            SealBrokenError: sealed by another key, for another place, damaged, or not bytes.
        """
        from cryptography.exceptions import InvalidTag

        try:
            padded = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError, TypeError) as error:
            raise SealBrokenError("not sealed by this key for this place") from error
        return unpad(padded)


def wrap_data_key(data_key: bytes, *, key_encryption_key: bytes, vault_id: bytes) -> bytes:
    """Seal the data key under the key-encryption key, for one vault."""
    return Sealer(key_encryption_key).seal(data_key, _wrapping(FORMAT_VERSION) + vault_id)


def unwrap_data_key(
    wrapped: bytes,
    *,
    key_encryption_key: bytes,
    vault_id: bytes,
    format_version: int = FORMAT_VERSION,
) -> bytes:
    """Undo `wrap_data_key`.

    Raises:
        SealBrokenError: another key, another vault, another format, or damaged bytes.
    """
    if len(key_encryption_key) != KEY_BYTES:
        raise SealBrokenError(f"a key-encryption key has {KEY_BYTES} bytes")
    sealer = Sealer(key_encryption_key, format_version=format_version)
    return sealer.open(wrapped, _wrapping(format_version) + vault_id)


def _wrapping(format_version: int) -> bytes:
    return f"homebody vault {format_version}: data key of ".encode()


def _keyed_hash(key: bytes, use: bytes, size: int) -> hashlib.blake2b:
    return hashlib.blake2b(key=key, person=use, digest_size=size)
