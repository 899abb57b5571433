"""How a row of the vault is sealed: authenticated encryption, padding, keyed names.

Rules a reader can check line by line:

1. Envelope: a random 32-byte *data key* seals every row; it is itself sealed by the *key-encryption
   key*, which only the key store holds. Destroying that one key makes every copy unreadable.
2. The cipher is AES-256-GCM (NIST SP 800-38D) with a fresh random 96-bit nonce for each sealing, so
   equal values give different bytes. Sealing fewer than 2^32 rows keeps nonces apart.
3. Before sealing, a value is padded to a multiple of 64 bytes: a length says no more than that.
4. The associated data names the place of a row; a row moved to another place does not open.
5. Names (event ids, names of records) are stored as HMAC-SHA256 under a key of their own.

What sealing does not hide: how many rows there are, and the order in which they came. What it does
not detect: a row that was deleted, and a whole file replaced by an older copy of itself.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

KEY_BYTES: Final = 32
BUCKET_BYTES: Final = 64
_NONCE_BYTES: Final = 12
_LENGTH_BYTES: Final = 4
_WRAPPING: Final = b"homebody vault 1: data key of "


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

    >>> sealer = Sealer(bytes(32))
    >>> sealer.open(sealer.seal(b"tea", b"row 1"), b"row 1")
    b'tea'
    >>> sealer.open(sealer.seal(b"tea", b"row 1"), b"row 2")
    Traceback (most recent call last):
    client_sdk.signals.sealing.SealBrokenError: a row was not sealed by this key for this place
    """

    def __init__(self, data_key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(data_key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes; got {len(data_key)}")
        self._cipher = AESGCM(hmac.digest(data_key, b"homebody vault 1: seal", "sha256"))
        self._name_key = hmac.digest(data_key, b"homebody vault 1: name", "sha256")

    def name(self, *parts: str) -> bytes:
        """Give 32 bytes that stand for the parts and say nothing without the key."""
        encoded = [part.encode() for part in parts]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
        return hmac.digest(self._name_key, message, "sha256")

    def seal(self, value: bytes, place: bytes) -> bytes:
        """Pad and seal a value for one place."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, pad(value), place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Undo `seal`.

        Raises:
            SealBrokenError: sealed by another key, for another place, or damaged.
        """
        from cryptography.exceptions import InvalidTag

        try:
            padded = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError("a row was not sealed by this key for this place") from error
        return unpad(padded)


def wrap_data_key(data_key: bytes, *, key_encryption_key: bytes, vault_id: bytes) -> bytes:
    """Seal the data key under the key-encryption key, for one vault."""
    return Sealer(key_encryption_key).seal(data_key, _WRAPPING + vault_id)


def unwrap_data_key(wrapped: bytes, *, key_encryption_key: bytes, vault_id: bytes) -> bytes:
    """Undo `wrap_data_key`.

    Raises:
        SealBrokenError: another key, another vault, or damaged bytes.
    """
    if len(key_encryption_key) != KEY_BYTES:
        raise SealBrokenError(f"a key-encryption key has {KEY_BYTES} bytes")
    return Sealer(key_encryption_key).open(wrapped, _WRAPPING + vault_id)
