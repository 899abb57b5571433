"""Columns of events: the one form in which events are folded, of one person or of many.

Rules a reader can check line by line:

1. A person and an item are row numbers; the names end where the columns are made.
2. The columns do not depend on who makes them: a device from `Event`s, a simulation from its data.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from client_sdk.signals.events import Event
from client_sdk.signals.features.subkinds import (
    ITEM_COLUMNS,
    N_SUBKINDS,
    REPEATED,
    key_of,
    subkind_of,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

DAY_S: Final = 86_400.0
NO_ROW: Final = -1
NO_KEY: Final = 0
_KEYED: Final = tuple(REPEATED)
_COLUMNS: Final = (
    ("people", np.int64),
    ("subkinds", np.int64),
    ("times_s", np.float64),
    ("rows", np.int64),
    ("prices", np.float64),
    ("keys", np.int64),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class EventColumns:
    """Events as columns of one length e, in any order.

    Attributes:
        people: int64[e], the person's row, 0 or more; all 0 on a device.
        subkinds: int64[e], see `client_sdk.signals.features.subkinds.Subkind`.
        times_s: float64[e], seconds since 1970 (UTC), finite and 0 or more.
        rows: int64[e], the row of the person's item in an item table; -1 without an item.
        prices: float64[e], of one piece; NaN where unknown.
        keys: int64[e], what makes two searches or form errors the same; 0 for none.

    Raises:
        ValueError: the columns differ in length or type, or a value is out of range.
    """

    people: IntArray
    subkinds: IntArray
    times_s: FloatArray
    rows: IntArray
    prices: FloatArray
    keys: IntArray

    def __post_init__(self) -> None:
        for name, dtype in _COLUMNS:
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != (len(self.people),):
                raise ValueError(f"{name}: expected {np.dtype(dtype).name}[e], like people")
        if not len(self.people):
            return
        if self.people.min() < 0 or self.rows.min() < NO_ROW:
            raise ValueError("people and rows: expected row numbers; got one below the first")
        if self.subkinds.min() < 0 or self.subkinds.max() >= N_SUBKINDS:
            raise ValueError(f"subkinds: expected 0 to {N_SUBKINDS - 1}; got another number")
        if not (self.times_s.min() >= 0 and self.times_s.max() < np.inf):
            raise ValueError("times_s: expected finite seconds since 1970; got another number")

    def __len__(self) -> int:
        """The number of events."""
        return len(self.people)

    @property
    def days(self) -> IntArray:
        """int64[e]: the calendar day (UTC), days since 1970."""
        return (self.times_s // DAY_S).astype(np.int64)

    @classmethod
    def of(cls, events: Sequence[Event], rows: MutableMapping[str, int]) -> EventColumns:
        """Make the columns of one person's events.

        Args:
            events: Any number, in any order.
            rows: The row of each item. Items that are new get the next rows here, in the order in
                which they come; a kind that says nothing about items makes no row.
        """
        n = len(events)
        subkinds = [subkind_of(event) for event in events]
        found = [
            NO_ROW
            if event.item_id is None or ITEM_COLUMNS[subkind] < 0
            else rows.setdefault(event.item_id, len(rows))
            for event, subkind in zip(events, subkinds, strict=True)
        ]
        keys = np.zeros(n, np.int64)
        subkind_column = np.array(subkinds, np.int64)
        for place in np.flatnonzero(np.isin(subkind_column, _KEYED)).tolist():
            keys[place] = key_of(events[place])
        price = [np.nan if event.price is None else event.price for event in events]
        return cls(
            people=np.zeros(n, np.int64),
            subkinds=subkind_column,
            times_s=np.array([event.time_s for event in events], np.float64),
            rows=np.array(found, np.int64),
            prices=np.array(price, np.float64),
            keys=keys,
        )
