"""Anyone's events and items from CSV files: read, check, fold into columns, count what was odd.

Columns of the events file: ``user``, ``item``, ``timestamp``, and where there, ``event``
(`EVENT_KINDS`, else purchase), ``quantity`` (else 1), ``price``, ``category``, ``session``.
Columns of the items file: ``item``, and where there, ``name``, ``category``, ``price``, ``brand``,
``stock`` (whole pieces), ``tags`` (``red; organic``), and any ``attribute:NAME``, such as
``attribute:colour``. Headers are read in any case; ``user_id``, ``item_id``, ``time`` and
``session_id`` are understood too, every other column is ignored and reported. An empty optional
field counts as not there.

Rows of one person with one session are one occasion. Without a session, rows of one moment are.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from client_sdk.wire.release import Catalogue, Item
from simulations.data.interactions import (
    DEFAULT_KIND,
    EVENT_KINDS,
    ITEM_OPTIONAL_KINDS,
    BoolArray,
    DataError,
    DataQuality,
    FloatArray,
    IntArray,
    Interactions,
    LoadedData,
)
from simulations.data.table import Column, Table, open_table, shown
from simulations.data.values import read_amount, read_kind, read_name, read_time_s

EVENT_COLUMNS: Final = (
    Column(field="user", names=("user", "user_id"), required=True),
    Column(field="item", names=("item", "item_id"), required=True),
    Column(field="timestamp", names=("timestamp", "time"), required=True),
    Column(field="event", names=("event",)),
    Column(field="quantity", names=("quantity",)),
    Column(field="price", names=("price",)),
    Column(field="category", names=("category",)),
    Column(field="session", names=("session", "session_id")),
)
ITEM_COLUMNS: Final = (
    Column(field="item", names=("item", "item_id"), required=True),
    Column(field="name", names=("name",)),
    Column(field="category", names=("category",)),
    Column(field="price", names=("price",)),
    Column(field="brand", names=("brand",)),
    Column(field="stock", names=("stock",)),
    Column(field="tags", names=("tags",)),
)
ATTRIBUTE_PREFIX: Final = "attribute:"

_DEFAULT_CODE: Final = EVENT_KINDS.index(DEFAULT_KIND)
_ITEM_OPTIONAL_CODES: Final = frozenset(
    code for code, kind in enumerate(EVENT_KINDS) if kind in ITEM_OPTIONAL_KINDS
)
_NO_SESSION: Final = -1
_MOST_STOCK_DIGITS: Final = 12

T = TypeVar("T")
D = TypeVar("D")


def load_events(
    events_path: Path | str,
    items_path: Path | str | None = None,
    *,
    event_columns: Sequence[Column] = EVENT_COLUMNS,
    item_columns: Sequence[Column] = ITEM_COLUMNS,
) -> LoadedData:
    """Load a file of events, and one of items where there is one.

    Args:
        events_path: CSV, plain or gzip.
        items_path: CSV, plain or gzip. Items of the events that it does not list are added.
        event_columns: What the columns of the events file are called.
        item_columns: What the columns of the items file are called.

    Returns:
        The events sorted by person and time, the catalogue (in the order of the items file, then
        the others by id), and what was found on the way. Exact duplicates are dropped.

    Raises:
        DataError: the first thing that is wrong, with file, line, field and what was expected.
    """
    listed = _read_items(Path(items_path), item_columns) if items_path is not None else {}
    events = _read_events(Path(events_path), event_columns)
    unlisted = sorted(set(events.item_ids) - listed.keys())
    catalogue = Catalogue(
        items=(*listed.values(), *(events.describe(item_id) for item_id in unlisted))
    )
    interactions, duplicates, out_of_order = _arrange(events, catalogue)
    quality = DataQuality(
        rows=events.rows,
        kept=len(interactions),
        duplicates=duplicates,
        out_of_order=out_of_order,
        without_item=events.without_item,
        without_details=len(unlisted) if items_path is not None else 0,
        people=interactions.n_people,
        items=interactions.n_items,
        occasions=int(interactions.occasions.max()) + 1,
        first_time_s=float(interactions.times_s.min()),
        last_time_s=float(interactions.times_s.max()),
        ignored_columns=events.ignored_columns,
    )
    return LoadedData(interactions=interactions, catalogue=catalogue, quality=quality)


@dataclass(kw_only=True)
class _Events:
    """The columns as they grow; persons, items and sessions are numbered as they appear."""

    ignored_columns: tuple[str, ...]
    rows: int = 0
    without_item: int = 0
    item_ids: dict[str, int] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    user: array[int] = field(default_factory=lambda: array("i"))
    item: array[int] = field(default_factory=lambda: array("i"))
    session: array[int] = field(default_factory=lambda: array("i"))
    kind: array[int] = field(default_factory=lambda: array("b"))
    time_s: array[float] = field(default_factory=lambda: array("d"))
    quantity: array[float] = field(default_factory=lambda: array("d"))
    price: array[float] = field(default_factory=lambda: array("d"))

    def describe(self, item_id: str) -> Item:
        """What the events alone say about an item: its latest category and price in the file."""
        return Item(
            item_id=item_id,
            category=self.categories.get(item_id, ""),
            price=self.prices.get(item_id),
        )


def _read_items(path: Path, columns: Sequence[Column]) -> dict[str, Item]:
    """Read the items file; an item listed twice is a mistake of the caller."""
    items: dict[str, Item] = {}
    with open_table(path, columns) as table:
        item_of = _required(table, "item", read_name)
        name_of = _optional(table, "name", str, "")
        category_of = _optional(table, "category", str, "")
        price_of = _optional(table, "price", read_amount, None)
        brand_of = _optional(table, "brand", str, "")
        stock_of = _optional(table, "stock", _read_stock, None)
        tags_of = _optional(table, "tags", _read_tags, ())
        attributes = _attribute_columns(table)
        for line, row in table.rows:
            item_id = item_of(row, line)
            if item_id in items:
                raise DataError(
                    f"item: {shown(item_id)} is listed twice", file=path.name, line=line
                )
            items[item_id] = Item(
                item_id=item_id,
                name=name_of(row, line),
                category=category_of(row, line),
                price=price_of(row, line),
                brand=brand_of(row, line),
                stock=stock_of(row, line),
                tags=tags_of(row, line),
                attributes={name: row[at] for name, at in attributes.items() if row[at]},
            )
    if not items:
        raise DataError("there is a header but no item", file=path.name)
    return items


def _attribute_columns(table: Table) -> dict[str, int]:
    """Find the columns that no name is known for but a prefix: attribute name to column number."""
    claimed = set(table.position.values())
    free = (at for at in range(len(claimed) + len(table.ignored)) if at not in claimed)
    found: dict[str, int] = {}
    for header, at in zip(table.ignored, free, strict=True):
        name = header.removeprefix(ATTRIBUTE_PREFIX).strip()
        if not header.startswith(ATTRIBUTE_PREFIX):
            continue
        if not name or name in found:
            raise DataError(
                f"column {shown(header)}: expected each attribute once, by its name",
                file=table.file,
                line=1,
            )
        found[name] = at
    return found


def _read_stock(text: str) -> int:
    """Read a number of pieces."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_STOCK_DIGITS):
        raise ValueError(f"expected a whole number of pieces >= 0, got {shown(text)}")
    return int(text)


def _read_tags(text: str) -> tuple[str, ...]:
    """Read tags with ``;`` between them, each once."""
    return tuple(dict.fromkeys(tag for part in text.split(";") if (tag := part.strip())))


def _read_events(path: Path, columns: Sequence[Column]) -> _Events:
    """Read the events file into columns, checking every field."""
    with open_table(path, columns) as table:
        user_of = _required(table, "user", read_name)
        item_of = _required(table, "item", read_name)
        maybe_item_of = _optional(table, "item", read_name, None)
        time_of = _required(table, "timestamp", read_time_s)
        kind_of = _optional(table, "event", read_kind, _DEFAULT_CODE)
        quantity_of = _optional(table, "quantity", read_amount, 1.0)
        price_of = _optional(table, "price", read_amount, np.nan)
        category_of = _optional(table, "category", str, "")
        session_of = _optional(table, "session", read_name, None)
        events = _Events(ignored_columns=table.ignored)
        people, item_ids, sessions = events.people, events.item_ids, events.sessions
        for line, row in table.rows:
            events.rows += 1
            user, time_s, kind = user_of(row, line), time_of(row, line), kind_of(row, line)
            quantity, price = quantity_of(row, line), price_of(row, line)
            session = session_of(row, line)
            if kind in _ITEM_OPTIONAL_CODES and maybe_item_of(row, line) is None:
                events.without_item += 1
                continue
            item_id = item_of(row, line)
            if category := category_of(row, line):
                events.categories[item_id] = category
            if not np.isnan(price):
                events.prices[item_id] = price
            events.user.append(people.setdefault(user, len(people)))
            events.item.append(item_ids.setdefault(item_id, len(item_ids)))
            events.time_s.append(time_s)
            events.kind.append(kind)
            events.quantity.append(quantity)
            events.price.append(price)
            events.session.append(
                _NO_SESSION if session is None else sessions.setdefault(session, len(sessions))
            )
    if not events.rows:
        raise DataError("there is a header but no data row", file=path.name)
    if not events.user:
        raise DataError("no row concerns an item", file=path.name)
    return events


def _required(table: Table, name: str, parse: Callable[[str], T]) -> Callable[[list[str], int], T]:
    """Give the reader of a field that every row has; each distinct text is parsed once."""
    at = table.position[name]
    known: dict[str, T] = {}

    def read(row: list[str], line: int) -> T:
        text = row[at]
        if text not in known:
            try:
                known[text] = parse(text)
            except ValueError as error:
                raise DataError(f"{name}: {error}", file=table.file, line=line) from error
        return known[text]

    return read


def _optional(
    table: Table, name: str, parse: Callable[[str], T], default: D
) -> Callable[[list[str], int], T | D]:
    """Give the reader of a field that may be empty, or missing from the whole file."""
    at = table.position.get(name)
    if at is None:
        return lambda _row, _line: default
    place, present = at, _required(table, name, parse)
    return lambda row, line: present(row, line) if row[place] else default


def _arrange(events: _Events, catalogue: Catalogue) -> tuple[Interactions, int, int]:
    """Drop duplicates, sort by person and time, and number the occasions.

    Returns:
        The interactions, the number of duplicates and the number of rows out of order.
    """
    row_of = np.array([catalogue.position[item_id] for item_id in events.item_ids], np.int32)
    users = np.array(events.user, np.int32)
    items = row_of[np.array(events.item)]
    times_s = np.array(events.time_s)
    sessions = np.array(events.session, np.int32)
    kinds = np.array(events.kind, np.int8)
    quantities = np.array(events.quantity)
    prices = np.array(events.price)
    columns = (users, items, times_s, sessions, kinds, quantities, np.nan_to_num(prices, nan=-1))
    kept = _first_of_equals(columns)
    order = np.lexsort((np.flatnonzero(kept), times_s[kept], users[kept]))
    rows = np.flatnonzero(kept)[order]
    interactions = Interactions(
        n_people=len(events.people),
        n_items=len(catalogue.items),
        users=users[rows],
        items=items[rows],
        times_s=times_s[rows],
        quantities=quantities[rows],
        prices=prices[rows],
        kinds=kinds[rows],
        occasions=_number_occasions(users[rows], times_s[rows], sessions[rows]),
    )
    return interactions, int(np.sum(~kept)), _count_out_of_order(users, times_s)


def _first_of_equals(columns: Sequence[npt.NDArray[Any]]) -> BoolArray:
    """Mark, of rows that agree in every column, the first."""
    order = np.lexsort(columns)  # stable: of equals, the first line comes first
    same = np.ones(len(order) - 1, np.bool_)
    for column in columns:
        arranged = column[order]
        same &= arranged[1:] == arranged[:-1]
    kept = np.ones(len(order), np.bool_)
    kept[order[1:][same]] = False
    return kept


def _count_out_of_order(users: IntArray, times_s: FloatArray) -> int:
    """Count the rows that are earlier than the row before them of the same person."""
    order = np.argsort(users, kind="stable")
    same = users[order][1:] == users[order][:-1]
    return int(np.sum(same & (np.diff(times_s[order]) < 0)))


def _number_occasions(users: IntArray, times_s: FloatArray, sessions: IntArray) -> IntArray:
    """Number the occasions of rows sorted by person and time: by person, then by first row."""
    # A row without a session belongs to its moment; one with a session to that, at any time.
    moment = np.where(sessions == _NO_SESSION, times_s, 0.0)
    order = np.lexsort((moment, sessions, users))
    new = np.ones(len(order), np.bool_)
    new[1:] = False
    for column in (users, sessions, moment):
        new[1:] |= np.diff(column[order]) != 0
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(new) - 1
    # The sort is stable, so the first row of a group in `order` is its earliest row.
    first_row = order[new]
    rank = np.empty(len(first_row), np.int32)
    rank[np.argsort(first_row)] = np.arange(len(first_row), dtype=np.int32)
    numbers: IntArray = rank[group]
    return numbers
