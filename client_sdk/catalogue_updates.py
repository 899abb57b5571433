"""What changed in the catalogue since the release: prices, stock, items gone, items new. Pure.

Rules a reader can check line by line:

1. Updates are a value beside the release's catalogue and never a part of it: its order, its bytes
   and its SHA-256, which federated orders check, stay the release's.
2. A change of an item that neither the release nor the updates have changes nothing.
3. Withdrawn wins: such an item is not shown, whatever else is said of it. Adding it again brings it
   back, and forgets what was said of it before.
4. The release wins over ``added``: of an item that the release has by now, only rule 3 counts.
5. `then` puts later updates on earlier ones: the later word counts, item by item.
6. Reading JSON is total: a value, or `WireFormatError`. Unknown fields are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from client_sdk.wire.frame import Fields, WireFormatError
from client_sdk.wire.release import Item, is_price, is_stock

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class CatalogueUpdates:
    """What changed since the release; empty by default.

    Attributes:
        prices: Item id to its new price, in the app's currency; None for "unknown".
        stock: Item id to the pieces there are, 0 for sold out; None where nobody counts.
        withdrawn: Ids of the items that are not to be shown any more.
        added: Items that the release does not have, in the order in which they came.

    Raises:
        ValueError: an id is empty, a price or a stock is none, or an item is added twice.

    Example:
        >>> morning = CatalogueUpdates(stock={"mug": 0}, added=(Item(item_id="cup"),))
        >>> noon = morning.then(CatalogueUpdates(stock={"mug": 3}, withdrawn=frozenset({"cup"})))
        >>> noon.stock, sorted(noon.withdrawn)
        ({'mug': 3}, ['cup'])
    """

    prices: Mapping[str, float | None] = field(default_factory=dict)
    stock: Mapping[str, int | None] = field(default_factory=dict)
    withdrawn: frozenset[str] = frozenset()
    added: tuple[Item, ...] = ()

    def __post_init__(self) -> None:
        _check_values("prices", self.prices, is_price, "a finite number or None")
        _check_values("stock", self.stock, is_stock, "a whole number of pieces or None")
        _check_ids("withdrawn", self.withdrawn)
        _check_ids("added", [item.item_id for item in self.added])
        if len({item.item_id for item in self.added}) != len(self.added):
            raise ValueError("added: expected each item once; got one twice")

    def __hash__(self) -> int:
        """Equal updates hash alike; prices and stock are compared, not hashed."""
        return hash((self.withdrawn, self.added))

    def __bool__(self) -> bool:
        """Say whether anything changed."""
        return bool(self.prices or self.stock or self.withdrawn or self.added)

    def then(self, later: CatalogueUpdates) -> CatalogueUpdates:
        """Put later updates on these; see rules 3 and 5."""
        again = {item.item_id for item in later.added}
        added = {item.item_id: item for item in (*self.added, *later.added)}
        return CatalogueUpdates(
            prices={**_without(self.prices, again), **later.prices},
            stock={**_without(self.stock, again), **later.stock},
            withdrawn=(self.withdrawn - again) | later.withdrawn,
            added=tuple(added.values()),
        )

    def to_json(self) -> dict[str, Any]:
        """Give the updates as plain JSON."""
        return {
            "prices": dict(self.prices),
            "stock": dict(self.stock),
            "withdrawn": sorted(self.withdrawn),
            "added": [item.to_json() for item in self.added],
        }

    @classmethod
    def from_json(cls, value: object) -> CatalogueUpdates:
        """Read what `to_json` wrote.

        Raises:
            WireFormatError: anything else.
        """
        if not isinstance(value, dict):
            raise WireFormatError(f"expected a JSON object; got {type(value).__name__}")
        fields = Fields(value)
        prices, stock = fields.take("prices", dict), fields.take("stock", dict)
        withdrawn = fields.take("withdrawn", list)
        added = tuple(Item.from_json(row) for row in fields.take("added", list))
        fields.done()
        try:
            _check_ids("withdrawn", withdrawn)
            return cls(prices=prices, stock=stock, withdrawn=frozenset(withdrawn), added=added)
        except ValueError as error:
            raise WireFormatError(str(error)) from error


def _without(values: Mapping[str, _T], item_ids: set[str]) -> dict[str, _T]:
    return {item_id: value for item_id, value in values.items() if item_id not in item_ids}


def _check_values(
    name: str, values: Mapping[str, _T], good: Callable[[object], bool], expected: str
) -> None:
    _check_ids(name, values)
    for item_id, value in values.items():
        if not good(value):
            raise ValueError(f"{name}: expected {expected} for {item_id!r}; got {value!r}")


def _check_ids(name: str, item_ids: Iterable[object]) -> None:
    if any(not isinstance(item_id, str) or not item_id for item_id in item_ids):
        raise ValueError(f"{name}: expected item ids, texts that are not empty; got something else")


NO_UPDATES: Final = CatalogueUpdates()
