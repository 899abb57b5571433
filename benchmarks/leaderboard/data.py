"""The board's data sets, ready to learn from: `benchmarks.arms_data`'s, and the whole of a shop."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import movielens
from benchmarks.arms_data import Workload, movielens_workload, retail, retail_of
from benchmarks.leaderboard.entries import DATA, MOVIELENS, RETAIL
from client_sdk.wire import Catalogue
from simulations.data.categories import OTHER, derive_category
from simulations.data.interactions import LoadedData
from simulations.data.loader import load_events
from simulations.evaluation.split import Part

RETAIL_FILE: Final = "online_retail.csv.gz"
_COLUMNS: Final = {
    "user": "CustomerID",
    "item": "StockCode",
    "timestamp": "InvoiceDate",
    "quantity": "Quantity",
    "price": "UnitPrice",
    "session": "InvoiceNo",
}


class DataMissingError(Exception):
    """A data set that may not be bundled isn't there; the message says where it was looked for."""


def folder_of(data: str, named: Path | None) -> Path | None:
    """Give the folder of a data set, whether it is there or not; None for what is bundled."""
    shared = movielens.data_folder(named).parent
    return {MOVIELENS: shared / "ml-1m", RETAIL: shared / "online-retail"}.get(data)


def is_there(data: str, named: Path | None) -> bool:
    """Say whether a data set can be read."""
    folder = folder_of(data, named)
    if folder is None:
        return True
    return movielens.is_there(folder) if data == MOVIELENS else (folder / RETAIL_FILE).is_file()


def check_there(data: str, named: Path | None) -> None:
    """Refuse what can't be read.

    Raises:
        DataMissingError: the data set is not there.
    """
    folder = folder_of(data, named)
    if folder is not None and not is_there(data, named):
        raise DataMissingError(
            f"{DATA[data]} is not in {folder}; --data names the folder that holds {folder.name}/"
        )


def load(data: str, named: Path | None, *, part: Part = "test") -> Workload:
    """Read a data set.

    Args:
        data: One of `DATA`.
        named: The folder that holds ``ml-1m/`` and ``online-retail/``; the default when None.
        part: What is asked.

    Raises:
        DataMissingError: it is not there.
    """
    folder = folder_of(data, named)
    if folder is None:
        return retail(part)
    check_there(data, named)
    if data == MOVIELENS:
        return movielens_workload(folder, part)
    return retail_of(read_retail(folder / RETAIL_FILE), part, name=DATA[data])


def read_retail(path: Path) -> LoadedData:
    """Read the whole of Online Retail by the general loader.

    Kept are identified purchases: a customer's number, no cancellation (``C…``), a quantity and a
    price above 0. An item's name is the last that is given.

    Args:
        path: The CSV, gzip, with the columns of UCI's file.

    Returns:
        As `simulations.data.bundled.load_bundled`: categories by name, every occasion an invoice.
    """
    names: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        events, items = Path(folder, "events.csv"), Path(folder, "items.csv")
        with events.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for row in _purchases(path):
                if name := row["Description"].strip():
                    names[row["StockCode"]] = name
                names.setdefault(row["StockCode"], "")
                writer.writerow(row[column] for column in _COLUMNS.values())
        with items.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("item", "name"), *sorted(names.items())])
        loaded = load_events(events, items)
    described = tuple(
        dataclasses.replace(item, category="" if category == OTHER else category)
        for item in loaded.catalogue.items
        for category in (derive_category(item.name),)
    )
    return dataclasses.replace(loaded, catalogue=Catalogue(items=described))


def _purchases(path: Path) -> Iterator[dict[str, str]]:
    """Give the lines that say who bought what."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (
                row["CustomerID"]
                and not row["InvoiceNo"].startswith("C")
                and float(row["Quantity"]) > 0
                and float(row["UnitPrice"]) > 0
            ):
                yield row
