"""The bundled sample of Online Retail, read from the installed package by the general loader.

798 customers of a British gift shop, 1,604 items, 5,853 invoices from December 2010 to December
2011: customers with at least three invoices, items with at least twenty lines. Source: Chen, Sain
and Guo (2012), doi 10.24432/C5BW33; see ``bundled/README.md`` for credit and licence.
"""

from __future__ import annotations

import dataclasses
import sys
from importlib import resources
from typing import Final

from client_sdk.wire.release import Catalogue
from simulations.data.categories import OTHER, coverage, derive_category
from simulations.data.interactions import LoadedData
from simulations.data.loader import load_events
from simulations.data.table import Column

_EVENT_COLUMNS: Final = (
    Column(field="user", names=("user",), required=True),
    Column(field="item", names=("stockcode",), required=True),
    Column(field="timestamp", names=("invoicedate",), required=True),
    Column(field="quantity", names=("quantity",), required=True),
    Column(field="price", names=("unitprice",), required=True),
    Column(field="session", names=("invoiceno",), required=True),
)
_ITEM_COLUMNS: Final = (
    Column(field="item", names=("stockcode",), required=True),
    Column(field="name", names=("description",), required=True),
    Column(field="price", names=("unitprice",), required=True),
)


def load_bundled() -> LoadedData:
    """Load the sample, with a category for each item and every occasion an invoice.

    Example:
        >>> load_bundled().quality.people
        798
    """
    folder = resources.files("simulations.data") / "bundled"
    with (
        resources.as_file(folder / "events.csv.gz") as events,
        resources.as_file(folder / "items.csv.gz") as items,
    ):
        loaded = load_events(
            events, items, event_columns=_EVENT_COLUMNS, item_columns=_ITEM_COLUMNS
        )
    derived = [derive_category(item.name) for item in loaded.catalogue.items]
    described = tuple(
        # "other" says nothing about an item, so it is no category to like.
        dataclasses.replace(item, category="" if category == OTHER else category)
        for item, category in zip(loaded.catalogue.items, derived, strict=True)
    )
    return dataclasses.replace(loaded, catalogue=Catalogue(items=described))


if __name__ == "__main__":
    counts = coverage(item.name for item in load_bundled().catalogue.items)
    lines = (f"{count / sum(counts.values()):6.1%}  {name}" for name, count in counts.items())
    sys.stdout.write("\n".join(lines) + "\n")
