"""Keys: where secrets lie, and the device's own signing key.

`FileKeyStore` is the default on a plain operating system: one file a secret, for the owner only.
It keeps the key apart from a copied vault, not from somebody who reads the whole disk: an app on a
phone plugs in the platform's key store through `client_sdk.ports.KeyStore` instead.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from client_sdk.errors import VaultError

SEED_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")


class DeviceKey:
    """The device's Ed25519 key: its public half is the pseudonym under which the device answers.

    Args:
        seed: 32 secret bytes (RFC 8032).

    >>> len(DeviceKey(bytes(32)).sign(b"hello"))
    64
    """

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes; got {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public_key_hex = self._key.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> DeviceKey:
        """Make a key from the operating system's randomness."""
        return cls(secrets.token_bytes(SEED_BYTES))

    @property
    def public_key_hex(self) -> str:
        """The raw public key as 64 lower-case hexadecimal digits."""
        return self._public_key_hex

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes; only an encrypted vault may keep them."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message``."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"DeviceKey(public_key_hex={self._public_key_hex!r})"


class FileKeyStore:
    """Secrets as files of one directory, readable by their owner only.

    Args:
        directory: Made on the first `store`. Never put it where the vault's backups go.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, name: str) -> bytes | None:
        """Return the secret, or None where there is none.

        Raises:
            VaultError: the file is there and cannot be read.
        """
        try:
            return self._file(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VaultError(_UNUSABLE) from error

    def store(self, name: str, secret: bytes) -> None:
        """Keep the secret, durably, in place of an older one: all of it, or nothing.

        Raises:
            VaultError: the directory cannot be written.
        """
        path = self._file(name)
        partial = path.with_name(f".{name}.partial")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            self._sync()
        except OSError as error:
            raise VaultError(_UNUSABLE) from error

    def destroy(self, name: str) -> None:
        """Overwrite the secret and delete it; nothing happens where there is none.

        Raises:
            VaultError: the file cannot be overwritten or deleted; the secret may still be there.
        """
        path = self._file(name)
        try:
            with path.open("r+b") as file:
                file.write(secrets.token_bytes(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            self._sync()
        except FileNotFoundError:
            return
        except OSError as error:
            raise VaultError(_UNUSABLE) from error

    def _file(self, name: str) -> Path:
        return self._directory / _checked(name)

    def _sync(self) -> None:
        handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class MemoryKeyStore:
    """Secrets in memory: for tests and simulations, or under a key store of the app's own.

    >>> store = MemoryKeyStore()
    >>> store.store("a", b"secret")
    >>> store.destroy("a")
    >>> store.load("a") is None
    True
    """

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        """Return the secret, or None where there is none."""
        return self._secrets.get(_checked(name))

    def store(self, name: str, secret: bytes) -> None:
        """Keep the secret in place of an older one."""
        self._secrets[_checked(name)] = bytes(secret)

    def destroy(self, name: str) -> None:
        """Forget the secret; nothing happens where there is none."""
        self._secrets.pop(_checked(name), None)


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError("a secret's name is 1 to 100 letters, digits, '-' or '_'")
    return name


_UNUSABLE: Final = "the key store's directory cannot be used: check its permissions and free space"
