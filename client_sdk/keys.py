"""Keys: where secrets lie, and the device's own signing key.

Which key store to use:

================== =================================== ============================================
key store          where                               keeps the key from
================== =================================== ============================================
`KeyringKeyStore`  a desktop's own (needs the extra    whoever has the disk, but not the person's
                   ``homebody[keyring]``)              password
`FileKeyStore`     one file a secret, for the owner    whoever has a copy of the vault; not from
                   only: servers, tests, the default   whoever reads the whole disk
`MemoryKeyStore`   nowhere: tests and simulations      everybody, once the process ends
================== =================================== ============================================

An app on a phone plugs in the platform's key store through `client_sdk.ports.KeyStore`.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

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
        partial = self._partial(path)
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
        # The second one is there if the process ended in the middle of `store`.
        for each in (path, self._partial(path)):
            try:
                with each.open("r+b") as file:
                    file.write(secrets.token_bytes(each.stat().st_size))
                    file.flush()
                    os.fsync(file.fileno())
                each.unlink()
                self._sync()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise VaultError(_UNUSABLE) from error

    def problems(self) -> list[str]:
        """Say which files others than the owner may use, and what to do."""
        if not self._directory.is_dir():
            return ["the key store's directory is gone: restore it"]
        wanted = [(self._directory, 0o700), *((path, 0o600) for path in self._directory.iterdir())]
        return [
            f"{path.name}: expected the permissions {mode:o}: run chmod {mode:o} on it"
            for path, mode in wanted
            if path.stat().st_mode & 0o077
        ]

    def _file(self, name: str) -> Path:
        return self._directory / _checked(name)

    def _partial(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.partial")

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


class KeyringKeyStore:
    """Secrets in the desktop's own key store: Keychain, Credential Locker, Secret Service.

    Args:
        service: Under which the secrets are listed there.
        backend: One of the `keyring` library's, or its own choice for this machine.

    Raises:
        VaultError: the library is not installed, or this machine has no key store that it can use.
    """

    def __init__(self, service: str = "homebody", *, backend: Any = None) -> None:
        try:
            import keyring
            from keyring.backends import fail, null
        except ImportError as error:
            raise VaultError(
                "the keyring library is not installed: install homebody[keyring], or use "
                "FileKeyStore"
            ) from error
        self._service = service
        self._backend = keyring.get_keyring() if backend is None else backend
        # Both are what the library gives where there is nothing; one of them forgets in silence.
        if isinstance(self._backend, fail.Keyring | null.Keyring):
            raise VaultError(
                "this machine has no key store that the keyring library can use: unlock or install "
                "one, or use FileKeyStore"
            )

    def load(self, name: str) -> bytes | None:
        """Return the secret, or None where there is none.

        Raises:
            VaultError: the key store is locked, does not answer, or holds something else there.
        """
        with self._asking() as backend:
            text = backend.get_password(self._service, _checked(name))
        try:
            return None if text is None else base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise VaultError(
                "what the key store holds was not written by this class: restore the secret"
            ) from error

    def store(self, name: str, secret: bytes) -> None:
        """Keep the secret in place of an older one, and read it again to be sure.

        Raises:
            VaultError: the key store is locked, does not answer, or did not keep it.
        """
        with self._asking() as backend:
            backend.set_password(self._service, _checked(name), base64.b64encode(secret).decode())
        if self.load(name) != secret:
            raise VaultError("the key store did not keep a secret: use another one")

    def destroy(self, name: str) -> None:
        """Delete the secret; nothing happens where there is none.

        Raises:
            VaultError: the key store is locked, does not answer, or still has it.
        """
        with self._asking() as backend:
            if backend.get_password(self._service, _checked(name)) is not None:
                backend.delete_password(self._service, name)
        if self.load(name) is not None:
            raise VaultError("the key store did not delete a secret: delete it by hand")

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        from keyring.errors import KeyringError

        try:
            yield self._backend
        except (KeyringError, OSError) as error:
            raise VaultError(
                "the desktop's key store did not answer: unlock it, then try again"
            ) from error


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError("a secret's name is 1 to 100 letters, digits, '-' or '_'")
    return name


_UNUSABLE: Final = "the key store's directory cannot be used: check its permissions and free space"
