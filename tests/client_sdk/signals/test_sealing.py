"""Sealing: round trip, places, padding, and that nothing opens with the wrong key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.sealing import (
    BUCKET_BYTES,
    STREAM_NAME_BYTES,
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
    for other in (b"short", b"", None, "text", 5):
        with pytest.raises(SealBrokenError):
            SEALER.open(other, b"row 1")  # type: ignore[arg-type]


@given(ids=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=20))
def test_event_name_is_of_its_id_alone(ids: list[str]) -> None:
    """One id has one name, in any company; two ids have two, and another vault has others."""
    names = SEALER.event_names(ids)
    assert names.tolist() == [SEALER.event_names([each])[0] for each in ids]
    assert len(set(names.tolist())) == len(set(ids))
    assert not set(names.tolist()) & set(Sealer(b"\x01" * 32).event_names(ids).tolist())


def test_record_name_depends_on_key_and_on_where_parts_end() -> None:
    """Parts don't run together; names of a stream begin alike, and say nothing else."""
    names = {SEALER.record_name(*parts) for parts in (("a", "bc"), ("ab", "c"), ("a", "b"))}
    assert len({name[STREAM_NAME_BYTES:] for name in names}) == 3
    assert len({name[:STREAM_NAME_BYTES] for name in names}) == 2
    assert SEALER.record_name("a", "b").startswith(SEALER.stream_name("a"))
    assert SEALER.record_name("a", "b") != Sealer(b"\x01" * 32).record_name("a", "b")


def test_sealer_of_another_format_opens_nothing() -> None:
    """The keys of two formats have nothing in common."""
    older = Sealer(bytes(32), format_version=1)
    with pytest.raises(SealBrokenError):
        SEALER.open(older.seal(b"tea", b""), b"")
    assert older.event_names(["a"]) != SEALER.event_names(["a"])


def test_sealer_key_of_another_length_raises() -> None:
    """A key that is too short is a mistake, not a weaker key."""
    with pytest.raises(ValueError, match="32 bytes; got 16"):
        Sealer(bytes(16))


def test_data_key_unwraps_for_its_vault_only() -> None:
    """A wrapped key belongs to one vault and one key-encryption key."""
    key, data_key = b"k" * 32, b"d" * 32
    wrapped = wrap_data_key(data_key, key_encryption_key=key, vault_id=b"one")
    assert unwrap_data_key(wrapped, key_encryption_key=key, vault_id=b"one") == data_key
    for other_key, vault_id in ((b"x" * 32, b"one"), (key, b"two"), (b"short", b"one")):
        with pytest.raises(SealBrokenError):
            unwrap_data_key(wrapped, key_encryption_key=other_key, vault_id=vault_id)
