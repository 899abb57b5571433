"""The two public data sets of `benchmarks.models`, read and split; neither is part of the product.

- Online Shoppers (UCI 468, CC BY 4.0, Sakar and Kastro): sessions of a shop, 1 where one bought.
- Hillstrom (MineThatData e-mail challenge): customers, two e-mails and none drawn at random.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parent.parent
SHOPPERS_FILE: Final = Path("online-shoppers") / "online_shoppers_intention.csv.gz"
HILLSTROM_FILE: Final = Path("hillstrom") / "hillstrom.csv.gz"
HILLSTROM_ARMS: Final[Mapping[str, tuple[str, ...]]] = {
    "womens": ("Womens E-Mail",),
    "mens": ("Mens E-Mail",),
    "either": ("Womens E-Mail", "Mens E-Mail"),
}

_NUMBERS: Final = (
    "Administrative", "Informational", "ProductRelated", "BounceRates", "ExitRates", "SpecialDay",
)  # fmt: skip
_LONG_TAILED: Final = (
    "Administrative_Duration", "Informational_Duration", "ProductRelated_Duration",
)  # fmt: skip
_NAMES: Final = ("Month", "OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType")
LEAK: Final = "PageValues"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """Cases of a data set.

    Attributes:
        features: float64[n, d].
        labels: float64[n], 0 or 1.
        treated: bool[n] for an experiment, or all False.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.float64]
    treated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> Cases:
        """Give some of them."""
        return Cases(
            features=self.features[rows], labels=self.labels[rows], treated=self.treated[rows]
        )


def data_folder(named: Path | None) -> Path:
    """Give the folder that was named, or ``$HOMEBODY_SHARED/data``, or ``../shared/data``."""
    shared = os.environ.get("HOMEBODY_SHARED")
    return named or (Path(shared) if shared else ROOT.parent / "shared") / "data"


def load_shoppers(folder: Path, *, page_values: bool) -> Cases:
    """Read the sessions; names become one column each, long tails their logarithm.

    Args:
        folder: That holds `SHOPPERS_FILE`.
        page_values: Whether to keep ``PageValues``, which is counted from past sales of the pages
            that were seen, and so partly knows the outcome.
    """
    rows = _read(folder / SHOPPERS_FILE)
    numbers = [_numbers(rows, name) for name in _NUMBERS]
    # A few durations are -1, for not known.
    tails = [np.log1p(np.maximum(_numbers(rows, name), 0.0)) for name in _LONG_TAILED]
    if page_values:
        known = _numbers(rows, LEAK)
        tails += [np.log1p(known), (known > 0).astype(np.float64)]
    weekend = [_is(rows, "Weekend", "TRUE")]
    names = [column for name in _NAMES for column in _one_hot(rows, name)]
    labels = _is(rows, "Revenue", "TRUE")
    return Cases(
        features=np.column_stack([*numbers, *tails, *weekend, *names]),
        labels=labels,
        treated=np.zeros(len(labels), np.bool_),
    )


def load_hillstrom(folder: Path, *, arm: str, outcome: str = "visit") -> Cases:
    """Read the customers of one arm and those who got no e-mail.

    Args:
        folder: That holds `HILLSTROM_FILE`.
        arm: One of `HILLSTROM_ARMS`.
        outcome: ``"visit"`` or ``"conversion"``.
    """
    wanted = HILLSTROM_ARMS[arm]
    rows = [
        row
        for row in _read(folder / HILLSTROM_FILE)
        if row["segment"] in wanted or row["segment"] == "No E-Mail"
    ]
    numbers = [_numbers(rows, "recency"), np.log1p(_numbers(rows, "history"))]
    flags = [_numbers(rows, name) for name in ("mens", "womens", "newbie")]
    names = [column for name in ("zip_code", "channel") for column in _one_hot(rows, name)]
    return Cases(
        features=np.column_stack([*numbers, *flags, *names]),
        labels=_numbers(rows, outcome),
        treated=np.array([row["segment"] in wanted for row in rows]),
    )


def split(cases: Cases, *, seed: int, shares: Sequence[float]) -> list[Cases]:
    """Cut the cases at random into parts of these shares, which sum to 1."""
    order = np.random.default_rng(seed).permutation(len(cases))
    ends = np.round(np.cumsum(shares) * len(cases)).astype(np.intp)
    return [cases.take(rows) for rows in np.split(order, ends[:-1])]


def area_under_roc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Give the chance that a positive has a higher score than a negative; a tie counts half.

    >>> area_under_roc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
    0.875
    """
    ranked = np.sort(scores)
    low = np.searchsorted(ranked, scores, side="left")
    high = np.searchsorted(ranked, scores, side="right")
    ranks, positive = (low + high + 1) / 2.0, labels > 0
    n_positive = int(positive.sum())
    n_negative = len(labels) - n_positive
    won = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2.0
    return won / (n_positive * n_negative)


def _read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _numbers(rows: Sequence[Mapping[str, str]], name: str) -> NDArray[np.float64]:
    """Read a column of numbers; the few empty cells of the shoppers' file count as 0."""
    return np.array([float(row[name] or 0.0) for row in rows])


def _is(rows: Sequence[Mapping[str, str]], name: str, word: str) -> NDArray[np.float64]:
    return np.array([float(row[name] == word) for row in rows])


def _one_hot(rows: Sequence[Mapping[str, str]], name: str) -> list[NDArray[np.float64]]:
    return [_is(rows, name, word) for word in sorted({row[name] for row in rows})]
