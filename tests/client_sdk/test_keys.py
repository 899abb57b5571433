"""One contract for every key store, and the device's key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk import VaultError
from client_sdk.keys import DeviceKey, FileKeyStore, MemoryKeyStore
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
