"""The release's table and its bytes."""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.intelligence import RankerSettings, RankerTable, ReleaseFormatError

ARRAYS = ("factors", "self_weight", "scale", "bias", "popularity")


def _small() -> RankerTable:
    return RankerTable.from_arrays(
        factors=[[0.5, 0.1], [0.0, 0.0], [-0.2, 0.3]],
        self_weight=[0.26, 0.0, 0.13],
        scale=[1.35, 1.0, 1.15],
        popularity=[1.0, 0.5, 0.0],
        settings=RankerSettings(half_life_days=float("inf")),
    )


def _resealed(body: bytes) -> bytes:
    """Give a forged body the hash it needs, so that what is behind the hash is tested."""
    return body + hashlib.sha256(body).digest()


def test_to_bytes_and_back_is_the_same_table(make_table: Callable[..., RankerTable]) -> None:
    """Every array bit for bit, every setting, infinity included."""
    for table in (make_table(), _small(), RankerTable.without_model(5)):
        again = RankerTable.from_bytes(table.to_bytes())
        assert again.settings == table.settings
        for name in ARRAYS:
            assert np.array_equal(getattr(again, name), getattr(table, name))


def test_to_bytes_items_without_factors_cost_twelve_bytes() -> None:
    """Items outside the top K are not shipped as rows of zeros."""
    n, rank = 1000, 64
    empty = RankerTable.from_arrays(factors=np.zeros((n, rank), np.float32))
    assert len(empty.to_bytes()) < 12 * n + 1000


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_from_bytes_one_changed_byte_is_refused(at: int, change: int) -> None:
    """No single damaged byte gets through, wherever it is."""
    data = bytearray(_small().to_bytes())
    data[at % len(data)] ^= change
    with pytest.raises(ReleaseFormatError):
        RankerTable.from_bytes(bytes(data))


@given(st.integers(0, 10_000))
def test_from_bytes_cut_or_extended_is_refused(at: int) -> None:
    """A download that stopped early, or has something behind it, is refused."""
    data = _small().to_bytes()
    with pytest.raises(ReleaseFormatError):
        RankerTable.from_bytes(data[: at % len(data)])
    with pytest.raises(ReleaseFormatError):
        RankerTable.from_bytes(data + bytes(1 + at % 7))


@given(st.binary(max_size=200))
def test_from_bytes_random_bytes_are_refused(data: bytes) -> None:
    """Anything else is refused with the same error."""
    with pytest.raises(ReleaseFormatError):
        RankerTable.from_bytes(data)
    with pytest.raises(ReleaseFormatError):
        RankerTable.from_bytes(_resealed(b"HBRT" + data))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_from_bytes_forged_with_a_right_hash_is_a_valid_table_or_refused(
    at: int, change: int
) -> None:
    """Behind the hash every value is checked again: a forger gets a table or a refusal."""
    data = bytearray(_small().to_bytes()[:-32])
    data[at % len(data)] ^= change
    try:
        table = RankerTable.from_bytes(_resealed(bytes(data)))
    except ReleaseFormatError:
        return
    assert all(np.isfinite(getattr(table, name)).all() for name in ARRAYS)
    assert (table.self_weight < 1).all()


def test_from_bytes_huge_header_allocates_nothing() -> None:
    """A header that promises a huge table is refused by its length."""
    head = struct.pack("<4sHHIIII", b"HBRT", 1, 0, 5_000_000, 1024, 5_000_000, 10)
    with pytest.raises(ReleaseFormatError, match="needs"):
        RankerTable.from_bytes(_resealed(head + bytes(64)))
    head = struct.pack("<4sHHIIII", b"HBRT", 1, 0, 2**32 - 1, 2**32 - 1, 0, 10)
    with pytest.raises(ReleaseFormatError, match="out of range"):
        RankerTable.from_bytes(_resealed(head + bytes(64)))


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_from_bytes_other_version_asks_for_an_update(version: int) -> None:
    """A later format is refused with what to do about it."""
    body = bytearray(_small().to_bytes()[:-32])
    body[4:6] = struct.pack("<H", version)
    with pytest.raises(ReleaseFormatError, match="update the SDK"):
        RankerTable.from_bytes(_resealed(bytes(body)))


@pytest.mark.parametrize(
    "text", [b"[]", b"{}", b"nul", b'{"form":"project"}', b"\xff\xfe", b"[" * 3000]
)
def test_from_bytes_settings_that_are_not_settings_are_refused(text: bytes) -> None:
    """Settings are read strictly: an object with exactly the known names."""
    head = struct.pack("<4sHHIIII", b"HBRT", 1, 0, 0, 0, 0, len(text))
    with pytest.raises(ReleaseFormatError, match="forbidden value"):
        RankerTable.from_bytes(_resealed(head + text))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("self_weight", 1.0),
        ("self_weight", -0.1),
        ("scale", 0.0),
        ("popularity", 1.5),
        ("popularity", -0.5),
        ("bias", np.inf),
        ("scale", np.nan),
        ("factors", np.nan),
    ],
)
def test_table_forbidden_value_is_refused(name: str, value: float) -> None:
    """A table with a value out of its range can't be made."""
    table = _small()
    array = np.array(getattr(table, name))
    array.reshape(-1)[0] = value
    with pytest.raises(ValueError, match=name):
        replace(table, **{name: array})


def test_table_wrong_shape_or_kind_is_refused() -> None:
    """One value for each item, in float32."""
    table = _small()
    with pytest.raises(ValueError, match="one value for each"):
        replace(table, bias=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="float32"):
        replace(table, bias=np.zeros(3))
    with pytest.raises(ValueError, match="dimension"):
        replace(table, factors=np.zeros(3, np.float32))


def test_table_arrays_are_read_only() -> None:
    """A table in use cannot be changed."""
    with pytest.raises(ValueError, match="read-only"):
        _small().factors[0, 0] = 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("form", "other"),
        ("weighting", "cube"),
        ("ridge", 0.0),
        ("ridge", float("inf")),
        ("half_life_days", float("nan")),
        ("half_life_days", -1.0),
        ("own_weight", -0.1),
        ("word_weight", "1"),
        ("together_weight", True),
        ("category_size_power", 2.0),
        ("popularity_weight", 1e9),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    """Settings are checked when they are made, whoever makes them."""
    with pytest.raises(ValueError, match=name):
        replace(RankerSettings(), **{name: value})  # type: ignore[arg-type]


def test_settings_json_is_plain_and_comes_back() -> None:
    """Settings travel as JSON without infinities."""
    settings = RankerSettings(half_life_days=float("inf"), own_weight=2)
    text = json.dumps(settings.to_json(), allow_nan=False)
    assert RankerSettings.from_json(json.loads(text)) == settings
