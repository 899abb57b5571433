"""Text of a field to its value: what is read, and what is refused in which words."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.data.interactions import EVENT_KINDS
from simulations.data.values import read_amount, read_kind, read_name, read_time_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2010-12-01", 1291161600.0),
        ("2010-12-01T08:45", 1291193100.0),
        ("2010-12-01 08:45:00", 1291193100.0),
        ("2010-12-01T08:45:00Z", 1291193100.0),
        ("2010-12-01T09:45:00+01:00", 1291193100.0),
        ("2010-12-01T08:45:00.500", 1291193100.5),
        ("1969-12-31T23:59:59", -1.0),
        ("0", 0.0),
        ("1291193100", 1291193100.0),
        ("1291193100.25", 1291193100.25),
        ("1291193100250", 1291193100.25),
        ("1.2911931e9", 1291193100.0),
        ("20101201", 20101201.0),
    ],
)
def test_read_time_s_each_documented_form_gives_utc_seconds(text: str, seconds: float) -> None:
    """ISO 8601 with and without an offset, seconds and milliseconds; a bare number is no date."""
    assert read_time_s(text) == seconds


def test_read_time_s_without_an_offset_is_utc_on_every_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the machine stands must not move anyone's history."""
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert read_time_s("2010-12-01T08:45") == 1291193100.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2010-13-01", "2010-02-30", "01/12/2010", "-5", "nan", "inf", "1e400"),
        *("1291193100000000", "2010-12-01T25:00", "1_000", "0001-01-01T00:00+14:00x", "١٢"),
    ],
)
def test_read_time_s_anything_else_says_what_was_expected(text: str) -> None:
    """Impossible dates, other orders, negative and infinite numbers, microseconds."""
    with pytest.raises(ValueError, match="expected ISO 8601 or seconds or milliseconds"):
        read_time_s(text)


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_read_time_s_seconds_and_milliseconds_agree_from_1973(seconds: int) -> None:
    """The unit is told by size alone: from 1973 on, both forms of a moment mean the same."""
    assert read_time_s(str(seconds)) == seconds
    if seconds * 1000 >= 100_000_000_000:
        assert read_time_s(str(seconds * 1000)) == seconds


@given(st.datetimes(timezones=st.just(None) | st.timezones()))
def test_read_time_s_any_iso_text_of_python_is_read(moment: object) -> None:
    """Whatever `isoformat` writes comes back as a finite number."""
    assert math.isfinite(read_time_s(str(moment)))


@pytest.mark.parametrize(("text", "amount"), [("0", 0.0), ("2", 2.0), ("2.50", 2.5), ("1e3", 1e3)])
def test_read_amount_a_number_gives_it(text: str, amount: float) -> None:
    """Whole, decimal and with an exponent."""
    assert read_amount(text) == amount


def test_read_amount_minus_zero_gives_zero() -> None:
    """A sign on nothing does not survive."""
    assert math.copysign(1.0, read_amount("-0")) == 1.0


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "1_000", "1,5", "two", "", "٣"])
def test_read_amount_what_is_no_finite_number_is_refused(text: str) -> None:
    """Also what Python's float would take: an underscore, another script's digits."""
    with pytest.raises(ValueError, match="expected a finite number >= 0"):
        read_amount(text)


def test_read_amount_negative_says_how_to_write_a_return() -> None:
    """Shops write returns as negative quantities; here they are events of their own."""
    with pytest.raises(ValueError, match="write a return as event 'return'"):
        read_amount("-1")


def test_read_kind_any_case_gives_its_position() -> None:
    """Every word of the taxonomy is known."""
    assert [read_kind(kind.upper()) for kind in EVENT_KINDS] == list(range(len(EVENT_KINDS)))


def test_read_kind_near_miss_offers_the_right_word() -> None:
    """A typing mistake is answered with what was probably meant."""
    with pytest.raises(ValueError, match="did you mean 'purchase'"):
        read_kind("purchases")


@pytest.mark.parametrize("text", ["", "a" * 257, "a\0b", "a\nb", "\x1b[31m"])
def test_read_name_unusable_id_is_refused_without_repeating_it(text: str) -> None:
    """An id may be a person's: the message never holds it."""
    with pytest.raises(ValueError, match="expected") as caught:
        read_name(text)
    assert not text or text not in str(caught.value)
