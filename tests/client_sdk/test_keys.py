"""One contract for every key store, and the device's key."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import VaultError
from client_sdk.keys import DeviceKey, FileKeyStore, KeyringKeyStore, MemoryKeyStore
from client_sdk.ports import KeyStore
from client_sdk.wire import verify_signature


class KeyStoreContract:
    """What every key store promises; a port's implementation inherits these tests."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> KeyStore:
        """The store under test."""
        raise AssertionError("each subclass of the contract says this")

    def test_key_store_without_a_secret_gives_none(self, store: KeyStore) -> None:
        """Asking for what is not there is no error."""
        assert store.load("a") is None

    def test_key_store_gives_back_what_was_kept(self, store: KeyStore) -> None:
        """The latest secret under a name is the one that is there."""
        store.store("a", b"one")
        store.store("b", bytes(range(256)))
        store.store("a", b"two")
        assert store.load("a") == b"two"
        assert store.load("b") == bytes(range(256))

    def test_key_store_destroyed_secret_is_gone(self, store: KeyStore) -> None:
        """Destroying one secret leaves the others; destroying nothing is fine."""
        store.store("a", b"one")
        store.store("b", b"two")
        store.destroy("a")
        store.destroy("a")
        assert store.load("a") is None
        assert store.load("b") == b"two"

    @pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a" * 101, "a\n", "a\x00"])
    def test_key_store_name_that_could_be_a_path_raises(self, store: KeyStore, name: str) -> None:
        """A name is letters, digits, '-' and '_': it can't lead elsewhere."""
        with pytest.raises(ValueError, match="name"):
            store.store(name, b"x")
        with pytest.raises(ValueError, match="name"):
            store.load(name)
        with pytest.raises(ValueError, match="name"):
            store.destroy(name)


class TestMemoryKeyStore(KeyStoreContract):
    """The store in memory keeps the contract."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> KeyStore:
        """Give a new one."""
        return MemoryKeyStore()


class TestFileKeyStore(KeyStoreContract):
    """The store of files keeps the contract, and more."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> KeyStore:
        """Give a new one."""
        return FileKeyStore(tmp_path / "keys")

    def test_file_key_store_is_for_its_owner_only(self, store: KeyStore, tmp_path: Path) -> None:
        """Nobody else can read the files or list the directory."""
        store.store("a", b"one")
        assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
        assert [p.stat().st_mode & 0o777 for p in (tmp_path / "keys").iterdir()] == [0o600]

    def test_file_key_store_opened_again_has_its_secrets(
        self, store: KeyStore, tmp_path: Path
    ) -> None:
        """Secrets outlive the object."""
        store.store("a", b"one")
        assert FileKeyStore(tmp_path / "keys").load("a") == b"one"

    def test_file_key_store_without_a_usable_directory_raises(self, tmp_path: Path) -> None:
        """A file in the directory's place is an error that says what to check."""
        (tmp_path / "file").write_text("")
        store = FileKeyStore(tmp_path / "file")
        with pytest.raises(VaultError, match="permissions"):
            store.store("a", b"x")
        with pytest.raises(VaultError, match="permissions"):
            store.load("a")

    def test_file_key_store_destroys_what_a_killed_process_left(
        self, store: KeyStore, tmp_path: Path
    ) -> None:
        """Half of a `store` is destroyed with the rest: no byte of a secret stays."""
        store.store("a", b"one")
        (tmp_path / "keys" / ".a.partial").write_bytes(b"two")
        store.destroy("a")
        assert list((tmp_path / "keys").iterdir()) == []

    def test_file_key_store_says_who_else_may_read(self, tmp_path: Path) -> None:
        """Each file and the directory; nothing where all is well."""
        store = FileKeyStore(tmp_path / "keys")
        assert store.problems() == ["the key store's directory is gone: restore it"]
        store.store("a", b"one")
        assert store.problems() == []
        (tmp_path / "keys" / "a").chmod(0o604)
        (tmp_path / "keys").chmod(0o750)
        assert [problem.rpartition(":")[2] for problem in store.problems()] == [
            " run chmod 700 on it",
            " run chmod 600 on it",
        ]


class TestKeyringKeyStore(KeyStoreContract):
    """The store of the desktop keeps the contract, on a real backend that needs no desktop."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> KeyStore:
        """Give a new one, in a file of its own."""
        return KeyringKeyStore(backend=self.backend(tmp_path))

    def backend(self, tmp_path: Path) -> Any:
        """A backend that keeps what it is given."""
        keyrings = pytest.importorskip("keyrings.alt.file", reason="needs keyrings.alt")
        backend = keyrings.PlaintextKeyring()
        backend.file_path = str(tmp_path / "keyring.cfg")
        return backend

    def test_keyring_key_store_keeps_services_apart(self, tmp_path: Path) -> None:
        """Two apps on one desktop don't see each other's secrets."""
        backend = self.backend(tmp_path)
        KeyringKeyStore("one", backend=backend).store("a", b"1")
        assert KeyringKeyStore("two", backend=backend).load("a") is None
        assert KeyringKeyStore("one", backend=backend).load("a") == b"1"

    @pytest.mark.parametrize("module", ["fail", "null"])
    def test_keyring_key_store_without_a_desktop_says_what_to_do(self, module: str) -> None:
        """What the library gives on a machine without a key store would lose the key: refused."""
        backends = pytest.importorskip(f"keyring.backends.{module}", reason="needs keyring")
        with pytest.raises(VaultError, match="unlock or install one, or use FileKeyStore"):
            KeyringKeyStore(backend=backends.Keyring())

    def test_keyring_key_store_that_fails_says_what_to_do(self, store: KeyStore) -> None:
        """A locked key store, one that forgets, one that does not delete, one with other text."""
        errors = pytest.importorskip("keyring.errors", reason="needs keyring")
        locked = KeyringKeyStore(backend=OddBackend(error=errors.KeyringLocked()))
        for call in (locked.load, locked.destroy, lambda name: locked.store(name, b"x")):
            with pytest.raises(VaultError, match="unlock it"):
                call("a")
        with pytest.raises(VaultError, match="did not keep"):
            KeyringKeyStore(backend=OddBackend()).store("a", b"x")
        with pytest.raises(VaultError, match="did not delete"):
            KeyringKeyStore(backend=OddBackend(kept="YQ==")).destroy("a")
        with pytest.raises(VaultError, match="not written by this class"):
            KeyringKeyStore(backend=OddBackend(kept="no base64!")).load("a")


class OddBackend:
    """A key store of a desktop that does not do as it is told."""

    def __init__(self, kept: str | None = None, error: Exception | None = None) -> None:
        self._kept = kept
        self._error = error

    def get_password(self, service: str, name: str) -> str | None:
        """Give the same for every name."""
        self._fail()
        return self._kept

    def set_password(self, service: str, name: str, text: str) -> None:
        """Forget it."""
        self._fail()

    def delete_password(self, service: str, name: str) -> None:
        """Keep it."""
        self._fail()

    def _fail(self) -> None:
        if self._error is not None:
            raise self._error


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=50))
def test_device_key_signature_is_verified_by_its_public_key(seed: bytes, message: bytes) -> None:
    """What the device signs holds for it, and for no other message."""
    key = DeviceKey(seed)
    signature = key.sign(message)
    assert verify_signature(public_key_hex=key.public_key_hex, signature=signature, message=message)
    assert not verify_signature(
        public_key_hex=key.public_key_hex, signature=signature, message=message + b"."
    )
    assert DeviceKey(key.seed).public_key_hex == key.public_key_hex


def test_device_key_does_not_show_its_seed() -> None:
    """A key that is printed by mistake shows its public half."""
    key = DeviceKey.generate()
    assert key.seed.hex() not in repr(key)
    with pytest.raises(ValueError, match="32 bytes"):
        DeviceKey(b"short")
