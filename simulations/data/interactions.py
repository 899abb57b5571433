"""What happened, as columns: who did what, to which item, when, and on which occasion.

Rules a reader can check line by line:

1. A person is a row number. The names that a file used for people end at the loader.
2. Rows are sorted by person, then time; rows of one moment keep the order of the file.
3. Occasions are numbered by person, then by when they began, so a larger number of the
   same person is a later occasion.
4. A kind in `TASTE_KINDS` says that a person took an item or showed interest in it; only
   these are held out, counted as popular, or counted as "had".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.wire.release import Catalogue

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

EVENT_KINDS: Final = (
    "product_view",
    "search",
    "cart",
    "checkout_step",
    "purchase",
    "return",
    "content_view",
    "support",
    "message_shown",
    "message_opened",
    "message_dismissed",
    "screen",
)
DEFAULT_KIND: Final = "purchase"
TASTE_KINDS: Final = frozenset({"product_view", "cart", "purchase", "content_view"})
# These may concern no item at all; such a row says nothing about taste and is counted, not kept.
ITEM_OPTIONAL_KINDS: Final = frozenset(EVENT_KINDS) - TASTE_KINDS - {"return"}

_TASTE_CODES: Final = np.array([kind in TASTE_KINDS for kind in EVENT_KINDS])


class DataError(ValueError):
    """A file of events or items cannot be used; the message says where and what was expected.

    Attributes:
        file: The file's name, without its folder.
        line: The line number, from 1; None where the whole file is meant.
    """

    def __init__(self, problem: str, *, file: str, line: int | None = None) -> None:
        place = file if line is None else f"{file}, line {line}"
        super().__init__(f"{place}: {problem}")
        self.file = file
        self.line = line


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """Events as columns of one length, in the order of the rules above; made read-only.

    Attributes:
        n_people: How many people there are; some may have no row.
        n_items: How many items the catalogue has.
        users: int32[rows], the person, from 0 to n_people - 1.
        items: int32[rows], the item's row in the catalogue, from 0 to n_items - 1.
        times_s: float64[rows], seconds since 1970 (UTC).
        quantities: float64[rows], finite and >= 0.
        prices: float64[rows], the price of one piece, >= 0; NaN where unknown.
        kinds: int8[rows], positions in `EVENT_KINDS`.
        occasions: int32[rows], the invoice, session or moment that a row belongs to.

    Raises:
        ValueError: when the columns do not keep these promises.
    """

    n_people: int
    n_items: int
    users: IntArray
    items: IntArray
    times_s: FloatArray
    quantities: FloatArray
    prices: FloatArray
    kinds: npt.NDArray[np.int8]
    occasions: IntArray

    def __post_init__(self) -> None:
        """Check the promises once, so that nobody downstream has to."""
        columns = (
            ("users", np.int32),
            ("items", np.int32),
            ("times_s", np.float64),
            ("quantities", np.float64),
            ("prices", np.float64),
            ("kinds", np.int8),
            ("occasions", np.int32),
        )
        for name, dtype in columns:
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != self.users.shape or column.ndim != 1:
                raise ValueError(f"{name} must be {np.dtype(dtype).name}[rows], like users")
            column.setflags(write=False)
        for name, column, end in (
            ("users", self.users, self.n_people),
            ("items", self.items, self.n_items),
            ("kinds", self.kinds, len(EVENT_KINDS)),
        ):
            if len(column) and (column.min() < 0 or column.max() >= end):
                raise ValueError(f"{name} must be from 0 to {end - 1}")
        if not (np.isfinite(self.times_s).all() and np.isfinite(self.quantities).all()):
            raise ValueError("times_s and quantities must be finite")
        step, later = np.diff(self.users), np.diff(self.times_s)
        if bool(np.any((step < 0) | ((step == 0) & (later < 0)))):
            raise ValueError("rows must be sorted by person, then time")

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.users)

    @property
    def taste(self) -> BoolArray:
        """bool[rows]: whether the row's kind is in `TASTE_KINDS`."""
        mask: BoolArray = _TASTE_CODES[self.kinds]
        return mask

    def take(self, rows: BoolArray | slice) -> Interactions:
        """Keep some rows; people, items and occasions keep their numbers.

        Args:
            rows: bool[rows], or a slice: which to keep.
        """
        return Interactions(
            n_people=self.n_people,
            n_items=self.n_items,
            users=self.users[rows],
            items=self.items[rows],
            times_s=self.times_s[rows],
            quantities=self.quantities[rows],
            prices=self.prices[rows],
            kinds=self.kinds[rows],
            occasions=self.occasions[rows],
        )

    def of_person(self, person: int) -> Interactions:
        """One person's rows, found by bisection: what one device would hold."""
        first, end = np.searchsorted(self.users, (person, person + 1))
        return self.take(slice(int(first), int(end)))


@dataclass(frozen=True, kw_only=True)
class DataQuality:
    """What was found while loading, in counts: nothing here names a person.

    Attributes:
        rows: Data rows in the file.
        kept: Rows that became interactions.
        duplicates: Rows dropped because an equal one was there already.
        out_of_order: Rows earlier than the row before them of the same person; they were sorted.
        without_item: Rows dropped because they concern no item (a search, a screen).
        without_details: Items of the events that the items file did not list; they were added.
        people: Persons with a kept row.
        items: Items in the catalogue.
        occasions: Invoices, sessions or moments.
        first_time_s: Time of the earliest kept row, seconds since 1970 (UTC).
        last_time_s: Time of the latest kept row.
        ignored_columns: Columns of the events file that mean nothing here.
    """

    rows: int
    kept: int
    duplicates: int
    out_of_order: int
    without_item: int
    without_details: int
    people: int
    items: int
    occasions: int
    first_time_s: float
    last_time_s: float
    ignored_columns: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {**asdict(self), "ignored_columns": list(self.ignored_columns)}


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedData:
    """What a loader gives: the events, the items they are about, and what was found on the way."""

    interactions: Interactions
    catalogue: Catalogue
    quality: DataQuality

    def __post_init__(self) -> None:
        if self.interactions.n_items != len(self.catalogue.items):
            raise ValueError("the interactions and the catalogue must have the same items")
