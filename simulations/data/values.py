"""Text of one field to its value: times, amounts, kinds and names. Pure; `ValueError` says why."""

from __future__ import annotations

import difflib
import math
from datetime import UTC, datetime
from typing import Final

from simulations.data.interactions import EVENT_KINDS
from simulations.data.table import shown

# Seconds up to here (year 5138); larger numbers are milliseconds, larger ones still are refused.
_MILLISECONDS_FROM: Final = 1e11
_MILLISECONDS_TO: Final = 2.5e14
_LONGEST_NAME: Final = 256
_NUMBER_CHARACTERS: Final = frozenset("0123456789.+-eE")


def read_time_s(text: str) -> float:
    """Read a moment: ISO 8601, or a number of seconds or milliseconds since 1970.

    Args:
        text: ``2010-12-01``, ``2010-12-01T08:45``, ``2010-12-01 08:45:00+01:00``, ``1291193100`` or
            ``1291193100000``. Without an offset the time is UTC. A bare number is never a date.

    Returns:
        Seconds since 1970 (UTC).

    Raises:
        ValueError: anything else.

    Example:
        >>> read_time_s("2010-12-01T08:45") == read_time_s("1291193100000") == 1291193100.0
        True
    """
    if text and _NUMBER_CHARACTERS.issuperset(text) and not text.count("-", 1):
        number = _read_finite(text)
        if number is not None and 0 <= number < _MILLISECONDS_TO:
            return number if number < _MILLISECONDS_FROM else number / 1000
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected ISO 8601 or seconds or milliseconds since 1970, got {shown(text)}"
        ) from None


def read_amount(text: str) -> float:
    """Read a quantity or a price: a finite number that is not negative.

    Raises:
        ValueError: anything else, also an underscore or a thousands separator.
    """
    number = _read_finite(text) if _NUMBER_CHARACTERS.issuperset(text) else None
    if number is None:
        raise ValueError(f"expected a finite number >= 0, got {shown(text)}")
    if number < 0:
        raise ValueError(
            f"expected a number >= 0, got {shown(text)} "
            "(write a return as event 'return' with a positive quantity)"
        )
    return number + 0.0


def read_kind(text: str) -> int:
    """Read the kind of an event, in any case, to its position in `EVENT_KINDS`.

    Raises:
        ValueError: a kind that is not in the list.
    """
    kind = text.lower()
    if kind in EVENT_KINDS:
        return EVENT_KINDS.index(kind)
    near = difflib.get_close_matches(kind, EVENT_KINDS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"expected one of {', '.join(EVENT_KINDS)}; got {shown(text)}{hint}")


def read_name(text: str) -> str:
    """Read the id of a person, an item or a session: 1 to 256 printable characters.

    Raises:
        ValueError: empty, too long, or with control characters; what came is not repeated.
    """
    if not text:
        raise ValueError("expected an id, got nothing")
    if len(text) > _LONGEST_NAME:
        raise ValueError(f"expected at most {_LONGEST_NAME} characters, got {len(text)}")
    if not text.isprintable():
        raise ValueError("expected printable text, got control characters")
    return text


def _read_finite(text: str) -> float | None:
    """Give the finite number in the text, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
