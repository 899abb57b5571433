"""The digest: everything that is folded from one person's events, in a form that can be kept.

Rules a reader can check line by line:

1. A digest equals the fold of its events: their order, and how they were split into batches, does
   not matter (sums of the app's own features agree to rounding, everything else exactly).
2. One event costs O(1). Reading the features costs a little more than O(items that changed), and
   changes nothing of what is kept.
3. `Digest.to_bytes` is canonical: equal digests give equal bytes. `Digest.from_bytes` is strict:
   what is not a snapshot of this version, of these features, is a `ValueError`, and the caller
   folds the events again.
4. No text of an event is kept but kinds and item ids; queries and fields are keyed by a hash.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.history import History
from client_sdk.signals.activity import Activity
from client_sdk.signals.events import LAST_TIME_S, Event
from client_sdk.signals.features.catalogue import CatalogueColumns
from client_sdk.signals.features.columns import DAY_S
from client_sdk.signals.features.context import Context
from client_sdk.signals.features.counts import RING_DAYS, Counts
from client_sdk.signals.features.custom import PropertyState
from client_sdk.signals.features.feature_set import FeatureSet
from client_sdk.signals.features.items import ItemTable, columns_of_items
from client_sdk.signals.features.person_reading import ItemSums, PersonReading
from client_sdk.signals.features.snapshot import Unpacked, pack
from client_sdk.signals.features.standard import read_standard
from client_sdk.signals.features.subkinds import N_COUNTS, N_SUBKINDS, key_of, subkind_of
from client_sdk.signals.features.vector import FeatureVector, maps_of
from client_sdk.wire import Catalogue

_SMALL_BATCH: Final = 48
_HEAD: Final = frozenset({"kinds", "counts", "custom", "n_items", "n_days"})
_INT32, _INT64, _FLOAT64 = np.dtype("<i4"), np.dtype("<i8"), np.dtype("<f8")
_ID_LENGTH: Final = np.dtype("<u2")
_MALFORMED: Final = (
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeDecodeError,
    json.JSONDecodeError,
)


@dataclass(slots=True)
class _KindTimes:
    """How often one kind happened, and when first and last."""

    n: int
    oldest_s: float
    latest_s: float


class Digest:
    """The folded events of one person.

    Args:
        features: The app's features; the standard ones by default.

    >>> from client_sdk.testing import sample_catalogue
    >>> digest = Digest()
    >>> digest.add([Event(kind="purchase", item_id="mug", time_s=0.0)])
    >>> vector = digest.features(sample_catalogue(), now_s=3 * 86_400.0)
    >>> vector.get("days_since_last_purchase"), vector.in_words()[1]
    (3.0, 'You bought something 3 days ago.')
    >>> Digest.from_bytes(digest.to_bytes()).n_events
    1
    """

    def __init__(self, features: FeatureSet | None = None) -> None:
        self._set = FeatureSet() if features is None else features
        self._activity = Activity()
        self._counts = Counts(1)
        self._kinds: dict[str, _KindTimes] = {}
        self._custom = [PropertyState(feature) for feature in self._set.custom]
        self._columns: tuple[Catalogue, CatalogueColumns] | None = None
        self._sums: ItemSums | None = None

    @property
    def activity(self) -> Activity:
        """What the ranker needs; read it, and add events here."""
        return self._activity

    @property
    def feature_set(self) -> FeatureSet:
        """The features that are computed."""
        return self._set

    @property
    def n_events(self) -> int:
        """How many events were folded."""
        return sum(times.n for times in self._kinds.values())

    @property
    def n_by_kind(self) -> dict[str, int]:
        """How many events of each kind."""
        return {kind: times.n for kind, times in sorted(self._kinds.items())}

    @property
    def oldest_s(self) -> dict[str, float]:
        """The time of the first event of each kind."""
        return {kind: times.oldest_s for kind, times in sorted(self._kinds.items())}

    @property
    def latest_s(self) -> float | None:
        """The time of the latest event; None before any."""
        return max((times.latest_s for times in self._kinds.values()), default=None)

    def last_s(self, kind: str) -> float | None:
        """The time of the latest event of a kind; None where there is none."""
        times = self._kinds.get(kind)
        return None if times is None else times.latest_s

    def add(self, events: Sequence[Event]) -> None:
        """Fold events, in any order; each counts once for every time it is given."""
        if len(events) < _SMALL_BATCH:
            for event in events:
                self._add(event)
            return
        columns = self._activity.columns(events)
        self._activity.fold(columns)
        self._counts.fold(columns)
        self._add_kinds(events, columns.times_s)
        for state in self._custom:
            for event in events:
                state.add(event)

    def history(self, position: Mapping[str, int], *, now_s: float) -> History:
        """Give the ranker's history; see `Activity.history`."""
        return self._activity.history(position, now_s=now_s)

    def features(
        self, catalogue: Catalogue, *, now_s: float, context: Context | None = None
    ) -> FeatureVector:
        """Read all features.

        Args:
            catalogue: The items; what is not in it is in no feature that looks at items.
            now_s: The moment, seconds since 1970 (UTC).
            context: The local time, device and region; unknown by default.
        """
        items, item_rows = self._activity.items, self._activity.item_rows(catalogue.position)
        columns = self._columns_of(catalogue)
        sums = self._sums
        if sums is None or sums.items is not items or sums.columns is not columns:
            sums = self._sums = ItemSums(items, columns)
        sums.update(item_rows)
        reading = PersonReading(
            counts=self._counts,
            items=items,
            owners=np.zeros(len(items), np.int64),
            item_rows=item_rows,
            catalogue=columns,
            now_s=np.array([now_s], np.float64),
            contexts=(Context() if context is None else context,),
            sums=sums,
        )
        values, known = read_standard(reading)
        day = int(now_s // DAY_S)
        own = np.array([state.read(today=day) for state in self._custom], np.float64)
        return FeatureVector(
            definitions=self._set.definitions,
            values=np.concatenate([values[0], np.nan_to_num(own)]),
            known=np.concatenate([known[0], ~np.isnan(own)]),
            maps=maps_of(reading),
        )

    def to_bytes(self) -> bytes:
        """Give the whole state; equal digests give equal bytes."""
        item_ids = self._activity.item_ids
        order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
        names = [item_ids[row] for row in order]
        items = self._activity.items.to_arrays(np.array(order, np.int64))
        plain, counts = self._counts.to_parts()
        head = {
            "kinds": {
                str(kind): [times.n, times.oldest_s, times.latest_s]
                for kind, times in sorted(self._kinds.items())
            },
            "counts": plain,
            "custom": [state.to_json() for state in self._custom],
            "n_items": len(names),
            "n_days": len(items[-1]),
        }
        lengths = np.array([len(name) for name in names], _ID_LENGTH)
        return pack(head, [*counts, *items, lengths], "".join(names).encode())

    @classmethod
    def from_bytes(cls, data: bytes, features: FeatureSet | None = None) -> Digest:
        """Read what `to_bytes` gave.

        Args:
            data: The bytes.
            features: The app's features, as they are declared now.

        Raises:
            ValueError: not a snapshot of this version and these features; fold the events again.
        """
        digest = cls(features)
        try:
            digest._read(Unpacked(data))
        except _MALFORMED:
            # Without the cause: a decoder's error holds the bytes that it read.
            raise ValueError("snapshot: expected values of other types") from None
        return digest

    def _add(self, event: Event) -> None:
        time_s = event.time_s
        self._activity.add(event)
        self._counts.add(subkind=subkind_of(event), time_s=time_s, key=key_of(event))
        self._add_kind(event.kind, 1, time_s, time_s)
        for state in self._custom:
            state.add(event)

    def _add_kind(self, kind: str, n: int, oldest_s: float, latest_s: float) -> None:
        times = self._kinds.get(kind)
        if times is None:
            self._kinds[kind] = _KindTimes(n=n, oldest_s=oldest_s, latest_s=latest_s)
            return
        times.n += n
        times.oldest_s = min(times.oldest_s, oldest_s)
        times.latest_s = max(times.latest_s, latest_s)

    def _add_kinds(self, events: Sequence[Event], times_s: npt.NDArray[np.float64]) -> None:
        codes: dict[str, int] = {}
        found = [codes.setdefault(event.kind, len(codes)) for event in events]
        places = np.array(found, np.int64)
        for kind, code in codes.items():
            times = times_s[places == code]
            self._add_kind(kind, len(times), float(times.min()), float(times.max()))

    def _columns_of(self, catalogue: Catalogue) -> CatalogueColumns:
        if self._columns is None or self._columns[0] is not catalogue:
            columns = CatalogueColumns.of(catalogue, allowed=self._set.policy.features)
            self._columns = (catalogue, columns)
        return self._columns[1]

    def _read(self, unpacked: Unpacked) -> None:
        head = unpacked.head
        n_items, n_days = head["n_items"], head["n_days"]
        if set(head) != _HEAD or type(n_items) is not int or type(n_days) is not int:
            raise ValueError("snapshot: expected another head")
        counts = [
            unpacked.array(_INT32, (RING_DAYS, N_COUNTS)),
            unpacked.array(_FLOAT64, (N_SUBKINDS,)),
            unpacked.array(_INT64, (N_SUBKINDS,)),
        ]
        self._counts = Counts.from_parts(head["counts"], counts)
        items = [unpacked.array(dtype, shape) for dtype, shape in columns_of_items(n_items)]
        items.append(unpacked.array(_INT32, (n_days,)))
        names = _names(unpacked, n_items)
        unpacked.done()
        self._activity = Activity.of_table(names, ItemTable.from_arrays(n_items, items))
        self._kinds = {kind: _kind_times(value) for kind, value in head["kinds"].items()}
        if self.n_events != int(self._counts.totals.sum()):
            raise ValueError("snapshot: expected as many events by kind as in all")
        if len(head["custom"]) != len(self._custom):
            raise ValueError("snapshot: expected the features that are declared now")
        self._custom = [
            PropertyState.from_json(feature, value)
            for feature, value in zip(self._set.custom, head["custom"], strict=True)
        ]


def _names(unpacked: Unpacked, n_items: int) -> list[str]:
    lengths = unpacked.array(_ID_LENGTH, (n_items,)).tolist()
    text = unpacked.rest().decode()
    ends = list(itertools.accumulate(lengths, initial=0))
    names = [text[start:end] for start, end in itertools.pairwise(ends)]
    if ends[-1] != len(text) or 0 in lengths or names != sorted(set(names)):
        raise ValueError("snapshot: expected the ids of the items, sorted, each once")
    return names


def _kind_times(value: Any) -> _KindTimes:
    n, oldest_s, latest_s = value
    if type(n) is not int or n < 1 or type(oldest_s) is not float or type(latest_s) is not float:
        raise ValueError("snapshot: expected a number and two times of each kind")
    if not 0 <= oldest_s <= latest_s <= LAST_TIME_S:
        raise ValueError("snapshot: expected a first time before the last")
    return _KindTimes(n=n, oldest_s=oldest_s, latest_s=latest_s)
