"""Sealing: round trip, places, padding, and that nothing opens with the wrong key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.sealing import (
    BUCKET_BYTES,
    SealBrokenError,
    Sealer,
    pad,
    unpad,
    unwrap_data_key,
    wrap_data_key,
)

SEALER = Sealer(bytes(32))


@given(value=st.binary(max_size=300), place=st.binary(max_size=20))
def test_seal_opened_in_its_place_is_the_same(value: bytes, place: bytes) -> None:
    """What was sealed is what opens."""
    assert SEALER.open(SEALER.seal(value, place), place) == value


@given(value=st.binary(max_size=300))
def test_pad_hides_the_length_within_a_bucket(value: bytes) -> None:
    """A padded value is a multiple of 64 bytes, and the padding comes off exactly."""
    padded = pad(value)
    assert len(padded) % BUCKET_BYTES == 0
    assert unpad(padded) == value


@pytest.mark.parametrize("padded", [b"", bytes(63), b"\xff" * 64, bytes(63) + b"\x01", bytes(128)])
def test_unpad_of_other_bytes_is_refused(padded: bytes) -> None:
    """Only what `pad` gives is unpadded."""
    with pytest.raises(SealBrokenError):
        unpad(padded)


def test_seal_twice_gives_different_bytes() -> None:
    """Equal values can't be told to be equal."""
    assert SEALER.seal(b"tea", b"") != SEALER.seal(b"tea", b"")


@given(at=st.integers(0, 200), bit=st.integers(0, 7))
def test_seal_one_bit_changed_does_not_open(at: int, bit: int) -> None:
    """Every bit is authenticated."""
    sealed = bytearray(SEALER.seal(b"tea", b"row"))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(SealBrokenError):
        SEALER.open(bytes(sealed), b"row")


def test_seal_in_another_place_or_under_another_key_does_not_open() -> None:
    """The place and the key are both part of the seal."""
    sealed = SEALER.seal(b"tea", b"row 1")
    for sealer, place in ((SEALER, b"row 2"), (Sealer(b"\x01" * 32), b"row 1")):
        with pytest.raises(SealBrokenError):
            sealer.open(sealed, place)
    with pytest.raises(SealBrokenError):
        SEALER.open(b"short", b"row 1")


def test_name_depends_on_key_and_on_where_parts_end() -> None:
    """Names of one vault say nothing about another, and parts don't run together."""
    assert SEALER.name("a", "bc") != SEALER.name("ab", "c")
    assert SEALER.name("a") != Sealer(b"\x01" * 32).name("a")


def test_data_key_unwraps_for_its_vault_only() -> None:
    """A wrapped key belongs to one vault and one key-encryption key."""
    key, data_key = b"k" * 32, b"d" * 32
    wrapped = wrap_data_key(data_key, key_encryption_key=key, vault_id=b"one")
    assert unwrap_data_key(wrapped, key_encryption_key=key, vault_id=b"one") == data_key
    for other_key, vault_id in ((b"x" * 32, b"one"), (key, b"two"), (b"short", b"one")):
        with pytest.raises(SealBrokenError):
            unwrap_data_key(wrapped, key_encryption_key=other_key, vault_id=vault_id)
