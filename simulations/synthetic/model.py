"""What a synthetic population is made from: a few distributions, as one small JSON file.

How a person comes about (`simulations.synthetic.generate`):

1. How many different items: drawn from ``sizes``.
2. Tastes: θ from a Dirichlet distribution with parameters ``tastes`` (Blei, Ng, Jordan 2003).
3. Each item: a taste from θ, an item from that row of ``items``; one that the person has is drawn
   again. So items occur together as far as they share tastes, and no further.
4. How often: drawn from ``repeats``.
5. When: a period from the taste's row of ``seasons``, then an hour of the week from ``hours``.
   Popularity drifts and has seasons because tastes do.

Not in it: visits (the items of one person come at independent times), prices, a size that depends
on taste, and the order in which somebody discovers things.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client_sdk.wire import canonical_json

FORMAT: Final = "homebody synthetic population 1"
HOURS: Final = 168
_SUM_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class PopulationModel:
    """The distributions.

    Attributes:
        sizes: float64[largest + 1], share of people with so many different items.
        repeats: float64[most + 1], share of a person's items that they took so often; [0] is 0.
        tastes: float64[t] > 0, Dirichlet parameters.
        items: float64[t, n_items], the shares of items in each taste.
        seasons: float64[t, periods], the shares of periods in each taste.
        hours: float64[168], shares of the hours of the week, from Monday 0:00 UTC.
        start_s: When the first period begins, seconds since 1970 (UTC).
        period_s: Length of a period, above 0.

    Raises:
        ValueError: shapes differ, or shares are negative or do not add up to 1.
    """

    sizes: NDArray[np.float64]
    repeats: NDArray[np.float64]
    tastes: NDArray[np.float64]
    items: NDArray[np.float64]
    seasons: NDArray[np.float64]
    hours: NDArray[np.float64]
    start_s: float
    period_s: float

    def __post_init__(self) -> None:
        if self.items.ndim != 2 or self.seasons.ndim != 2:
            raise ValueError("items and seasons must have a row for each taste")
        tastes = len(self.tastes)
        if not len(self.items) == len(self.seasons) == tastes or not tastes:
            raise ValueError("items, seasons and tastes must have as many rows, at least one")
        if len(self.hours) != HOURS or not (np.isfinite(self.tastes) & (self.tastes > 0)).all():
            raise ValueError(f"hours has {HOURS} entries, and tastes are finite and above 0")
        if not (np.isfinite([self.start_s, self.period_s]).all() and self.period_s > 0):
            raise ValueError("start_s and period_s must be finite, and period_s above 0")
        for name in ("sizes", "repeats", "hours", "items", "seasons"):
            shares = np.atleast_2d(getattr(self, name))
            sums = shares.sum(axis=1)
            fine = np.isfinite(shares).all() and (shares >= 0).all()
            if not fine or np.abs(sums - 1.0).max(initial=0.0) > _SUM_TOLERANCE:
                raise ValueError(f"{name} must be shares: at least 0, adding up to 1")
        if self.repeats[0] or len(self.sizes) > self.n_items:
            raise ValueError("repeats start at 1, and sizes stay below the number of items")

    @property
    def n_items(self) -> int:
        """Length of the catalogue."""
        return int(self.items.shape[1])

    @property
    def now_s(self) -> float:
        """The end of the last period."""
        return self.start_s + self.period_s * len(self.seasons[0])

    @property
    def sha256(self) -> str:
        """Names the model."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Give canonical JSON."""
        values: dict[str, Any] = {"format": FORMAT}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            values[name] = value.tolist() if isinstance(value, np.ndarray) else float(value)
        return canonical_json(values)

    @classmethod
    def from_json(cls, data: bytes) -> PopulationModel:
        """Read what `to_json` wrote.

        Raises:
            ValueError: anything else; the message says what was expected.
        """
        try:
            values = json.loads(data)
        except ValueError as error:
            raise ValueError(f"the model is no JSON: {error}") from error
        names = set(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise ValueError(f"expected a model of the format {FORMAT!r}")
        if set(values) != names | {"format"}:
            raise ValueError(f"fields missing or unknown: {sorted(set(values) ^ names)}")
        try:
            arrays: dict[str, Any] = {
                name: float(value) if name.endswith("_s") else np.array(value, np.float64)
                for name, value in values.items()
                if name != "format"
            }
        except (TypeError, ValueError) as error:
            raise ValueError("a field of the model is not made of numbers") from error
        return cls(**arrays)
