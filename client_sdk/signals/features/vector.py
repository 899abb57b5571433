"""The features of one person at one moment: numbers for a model, words for the person.

Rules a reader can check line by line:

1. Every value is finite. What is not known carries its definition's value and says so.
2. A vector is a value: later events don't change it.
3. `FeatureVector.in_words` says what is known, and only that, in sentences addressed to the person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from client_sdk.signals.features.columns import BoolArray, FloatArray, IntArray
from client_sdk.signals.features.definitions import FeatureDefinition
from client_sdk.signals.features.reading import Reading
from client_sdk.signals.features.standard import STANDARD
from client_sdk.signals.features.words import in_words

MAPS: Final[Mapping[str, str]] = {
    "category_affinity": "Each category's share of your interest.",
    "brand_affinity": "Each brand's share of your interest.",
    "replenishment_cycle_days": "After how many days you usually buy an item again.",
    "replenishment_last_day": "On which day you last bought it, days since 1970 (UTC).",
    "replenishment_due": "How far along it is: 1 is about now.",
}
"""The features that are maps, and what they mean: category, brand or item id to a number."""

_FAVOURITES: Final = {
    "top_category_share": "category_affinity",
    "top_brand_share": "brand_affinity",
}


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FeatureMap:
    """One feature that is a map: names, which of them, and their values."""

    names: Sequence[str]
    places: IntArray
    values: FloatArray

    def items(self) -> Iterator[tuple[str, float]]:
        """Name and value, in the order of the places."""
        for place, value in zip(self.places.tolist(), self.values.tolist(), strict=True):
            yield self.names[place], value


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureVector:
    """All features of one person at one moment.

    Attributes:
        definitions: What each place means.
        values: float64[F], finite.
        known: bool[F].
        maps: The features that are maps, by the names in `MAPS`.

    >>> vector = FeatureVector(definitions=STANDARD[:2], values=np.array([3.2, 365.0]),
    ...                        known=np.array([True, False]), maps={})
    >>> vector.get("days_since_last_event"), vector.get("days_since_last_purchase")
    (3.2, None)
    >>> vector.in_words()
    ['You were last here 3 days ago.']
    """

    definitions: tuple[FeatureDefinition, ...]
    values: FloatArray
    known: BoolArray
    maps: Mapping[str, FeatureMap]

    def __post_init__(self) -> None:
        for array in (self.values, self.known):
            if array.shape != (len(self.definitions),):
                raise ValueError("values and known: expected one for each definition")
            array.setflags(write=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the values."""
        return tuple(definition.name for definition in self.definitions)

    def get(self, name: str) -> float | None:
        """Give one feature; None where it is not known.

        Raises:
            ValueError: there is no feature of that name.
        """
        for place, definition in enumerate(self.definitions):
            if definition.name == name:
                return float(self.values[place]) if self.known[place] else None
        raise ValueError("name: expected the name of a declared feature; got another")

    def map(self, name: str) -> dict[str, float]:
        """Give one feature that is a map; see `MAPS`. What is 0 or not known is not in it.

        Raises:
            ValueError: there is no map of that name.
        """
        if name not in MAPS:
            raise ValueError(f"name: expected one of {sorted(MAPS)}; got another")
        found = self.maps.get(name)
        return {} if found is None else dict(found.items())

    def rows(self) -> list[dict[str, Any]]:
        """Give every feature as plain JSON: its value, whether it is known, and what it means."""
        return [
            {
                "name": definition.name,
                "value": value,
                "known": known,
                "unit": definition.unit,
                "window": definition.window,
                "mode": definition.mode,
                "sensitivity": definition.sensitivity,
                "sources": list(definition.sources),
                "meaning": definition.meaning,
            }
            for definition, value, known in zip(
                self.definitions, self.values.tolist(), self.known.tolist(), strict=True
            )
        ]

    def in_words(self) -> list[str]:
        """Say what is known, in plain sentences: the standard features, then the app's own."""
        known = {
            definition.name: value
            for definition, value, is_known in zip(
                self.definitions, self.values.tolist(), self.known.tolist(), strict=True
            )
            if is_known
        }
        tops = {name: self.map(of) for name, of in _FAVOURITES.items()}
        favourites = {
            name: max(shares, key=shares.__getitem__) for name, shares in tops.items() if shares
        }
        own = [
            f"{definition.meaning.removesuffix('.')}: {known[definition.name]:g}."
            for definition in self.definitions[len(STANDARD) :]
            if definition.name in known
        ]
        return in_words(known, favourites) + own


def maps_of(reading: Reading) -> dict[str, FeatureMap]:
    """Read the maps of one person.

    Args:
        reading: Of one person.

    Raises:
        ValueError: of several.
    """
    if reading.n_people != 1:
        raise ValueError("reading: expected the state of one person; got several")
    catalogue, repeated = reading.catalogue, reading.replenishment
    cycles = {
        "replenishment_cycle_days": repeated.cycle_days,
        "replenishment_last_day": repeated.last_day.astype(np.float64),
        "replenishment_due": repeated.due,
    }
    return {
        "category_affinity": _shares(catalogue.categories, reading.category_shares[0]),
        "brand_affinity": _shares(catalogue.brands, reading.brand_shares[0]),
        **{
            name: FeatureMap(names=catalogue.item_ids, places=repeated.rows, values=values)
            for name, values in cycles.items()
        },
    }


def _shares(names: Sequence[str], shares: FloatArray) -> FeatureMap:
    places = np.flatnonzero(shares)
    return FeatureMap(names=names, places=places, values=shares[places])
