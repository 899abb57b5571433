"""How a standard feature is read: each function gives float64[P] for P people, NaN for not known.

Rules a reader can check line by line:

1. Nothing here knows a feature's name; the table in `standard` puts names and functions together.
2. A share is at most 1, and not known where there is nothing to have a share of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.signals.features.columns import DAY_S, FloatArray
from client_sdk.signals.features.context import DEVICES, REGIONS
from client_sdk.signals.features.reading import Reading
from client_sdk.signals.features.subkinds import Subkind

Finish = Callable[[Reading], npt.NDArray[Any]]

BOUGHT: Final = (Subkind.PURCHASE, Subkind.PURCHASE_DISCOUNTED)
SHOWN: Final = (Subkind.MESSAGE_SHOWN, Subkind.OFFER_SHOWN)
HOUR_S: Final = 3600.0
_FIRST_WEEKDAY: Final = 3  # 1 January 1970 was a Thursday.


def count_in(subkinds: tuple[int, ...], days: int) -> Finish:
    """Count events of a window."""
    return lambda reading: reading.in_window(days)[:, subkinds].sum(axis=1)


def since(subkinds: tuple[int, ...], unit_s: float, cap: float) -> Finish:
    """Measure the time since the latest event, in a unit, up to a cap."""
    return lambda reading: np.minimum(reading.age_s(subkinds) / unit_s, cap)


def purchases(reading: Reading) -> npt.NDArray[np.int64]:
    """Count the purchases ever made."""
    made: npt.NDArray[np.int64] = reading.counts.totals[:, BOUGHT].sum(axis=1)
    return made


def discount_share(reading: Reading) -> FloatArray:
    """Give the share of purchases that had a discount."""
    discounted = reading.counts.totals[:, Subkind.PURCHASE_DISCOUNTED]
    return _ratio(discounted, purchases(reading))


def dismissed_share(reading: Reading) -> FloatArray:
    """Give the share of messages that were closed, in 30 days."""
    counts = reading.in_window(30)
    return _ratio(counts[:, Subkind.MESSAGE_DISMISSED], counts[:, SHOWN].sum(axis=1))


def top(shares: FloatArray) -> FloatArray:
    """Give the largest of each person's shares."""
    largest = shares.max(axis=1, initial=0.0)
    return np.where(largest > 0, largest, np.nan)


def hour(reading: Reading) -> FloatArray:
    """Give the local hour, 0 to 23."""
    return _local_s(reading) % DAY_S // HOUR_S


def weekday(reading: Reading) -> FloatArray:
    """Give the local day of the week, 0 for Monday."""
    return (_local_s(reading) // DAY_S + _FIRST_WEEKDAY) % 7


def device(reading: Reading) -> FloatArray:
    """Give the place of the device in `DEVICES`."""
    return _codes(DEVICES, [context.device for context in reading.contexts])


def region(reading: Reading) -> FloatArray:
    """Give the place of the region in `REGIONS`."""
    return _codes(REGIONS, [context.region for context in reading.contexts])


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> FloatArray:
    ratio = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    np.minimum(ratio, 1.0, out=ratio)
    return ratio


def _local_s(reading: Reading) -> FloatArray:
    offsets = [context.utc_offset_s for context in reading.contexts]
    known = [np.nan if offset is None else offset for offset in offsets]
    return reading.now_s + np.array(known, np.float64)


def _codes(words: tuple[str, ...], said: list[str]) -> FloatArray:
    code = {word: float(place) for place, word in enumerate(words)}
    return np.array([code.get(word, np.nan) for word in said])
