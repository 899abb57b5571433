"""Frames: round trip, total reading, one encoding a value, and what the signature covers."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.keys import DeviceKey
from client_sdk.wire import (
    FrameKind,
    Order,
    TaskKind,
    WireFormatError,
    canonical_json,
    read_answer,
    read_frame,
    verify_signature,
)
from client_sdk.wire.frame import MAX_HEADER_BYTES, Fields, write_frame

KEY = DeviceKey(bytes(32))
HEADERS = st.dictionaries(
    st.text(max_size=8),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    max_size=4,
)


def raw_frame(header: bytes, body: bytes = b"", *, kind: int = 1, version: int = 1) -> bytes:
    """A frame with any header bytes, signed well."""
    prefix = struct.pack(">2sBBI", b"HB", version, kind, len(header))
    signed = prefix + header + struct.pack(">I", len(body)) + body
    return signed + KEY.sign(signed)


@given(kind=st.sampled_from(FrameKind), header=HEADERS, body=st.binary(max_size=64))
def test_frame_written_and_read_is_the_same(
    kind: FrameKind, header: dict[str, object], body: bytes
) -> None:
    """What is written is what is read, and its signature holds."""
    frame = read_frame(write_frame(kind, header, body, KEY.sign), expect=kind)
    assert (frame.kind, frame.header, frame.body) == (kind, header, body)
    assert frame.verify(KEY.public_key_hex)


@given(
    data=st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: b"HB\x01\x02" + tail)
)
def test_frame_any_bytes_give_a_frame_or_a_format_error(data: bytes) -> None:
    """Reading is total: nothing but `WireFormatError` comes out of arbitrary bytes."""
    try:
        read_frame(data)
    except WireFormatError:
        return


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_frame_one_bit_changed_is_not_verified(at: int, bit: int) -> None:
    """Every single bit of a frame is covered: a change is refused or not signed."""
    good = write_frame(FrameKind.ORDER, {"a": 1, "b": "tea"}, b"body", KEY.sign)
    changed = bytearray(good)
    changed[at % len(good)] ^= 1 << bit
    try:
        frame = read_frame(bytes(changed))
    except WireFormatError:
        return
    assert not frame.verify(KEY.public_key_hex)


@pytest.mark.parametrize(
    "header",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1.0e0}',
        b'{"a":1,"a":1}',
        b'"text"',
        b"[]",
        b"{",
        b'{"a":NaN}',
        b'{"a":1e999}',
        '{"a":"ü"}'.encode(),
        b"\xff\xfe",
        b"[" * 5_000,
    ],
)
def test_frame_header_not_canonical_is_refused(header: bytes) -> None:
    """One value has one encoding; every other one is refused."""
    with pytest.raises(WireFormatError):
        read_frame(raw_frame(header))


def test_frame_of_another_version_or_kind_is_refused() -> None:
    """Unknown versions and kinds are refused, and so is a kind that was not expected."""
    for data in (raw_frame(b"{}", version=2), raw_frame(b"{}", kind=7), raw_frame(b"{}", kind=0)):
        with pytest.raises(WireFormatError):
            read_frame(data)
    with pytest.raises(WireFormatError, match="expected a frame of kind order"):
        read_frame(raw_frame(b"{}"), expect=FrameKind.ORDER)


def test_frame_cut_or_extended_is_refused() -> None:
    """A frame is exactly as long as it says."""
    good = raw_frame(b"{}", b"body")
    for data in (good[:-1], good + b"\x00", good[:40], b""):
        with pytest.raises(WireFormatError):
            read_frame(data)


def test_frame_too_large_is_not_written() -> None:
    """A header above the limit is the writer's mistake."""
    with pytest.raises(ValueError, match="at most"):
        write_frame(FrameKind.ORDER, {"a": "x" * MAX_HEADER_BYTES}, b"", KEY.sign)


@pytest.mark.parametrize(
    ("key", "signature"),
    [("", b""), ("00" * 32, bytes(64)), ("zz" * 32, bytes(64)), (KEY.public_key_hex, bytes(63))],
)
def test_signature_malformed_is_false(key: str, signature: bytes) -> None:
    """A malformed key or signature is no signature, and no error."""
    assert not verify_signature(public_key_hex=key, signature=signature, message=b"m")


def test_fields_number_too_large_is_refused() -> None:
    """A whole number that no float holds is a format error, not an overflow."""
    with pytest.raises(WireFormatError, match="too large"):
        Fields({"clip_norm": 10**400}).take("clip_norm", float)


@given(header=HEADERS)
def test_message_any_header_gives_a_message_or_a_format_error(header: dict[str, object]) -> None:
    """A well-signed frame with an arbitrary header never raises another error either."""
    for kind in (FrameKind.ORDER, FrameKind.CONTRIBUTION, FrameKind.REFUSAL):
        frame = read_frame(write_frame(kind, header, b"", KEY.sign))
        with pytest.raises(WireFormatError):
            Order.from_frame(frame) if kind is FrameKind.ORDER else read_answer(frame)


def test_canonical_json_nan_is_refused() -> None:
    """NaN is not JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan"), "kind": TaskKind.ITEM_COUNTS})
