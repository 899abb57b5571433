"""Kept sums give what reading everything anew gives, to the last bit, whatever happened between."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.signals.activity import Activity
from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features import Context
from client_sdk.signals.features.catalogue import CatalogueColumns
from client_sdk.signals.features.columns import DAY_S
from client_sdk.signals.features.counts import Counts
from client_sdk.signals.features.reading import Reading
from client_sdk.signals.features.standard import read_standard
from client_sdk.signals.features.vector import FeatureVector, maps_of
from client_sdk.wire import Catalogue
from tests.client_sdk.signals.features import oracle

COLUMNS = CatalogueColumns.of(oracle.CATALOGUE)
FEWER = Catalogue(items=oracle.CATALOGUE.items[::2])
CONTEXT = Context()


def plain(life: list[Event], now_s: float) -> Reading:
    """The reading of many people, of one; it keeps nothing."""
    activity, counts = Activity(), Counts(1)
    columns = activity.columns(life)
    activity.fold(columns)
    counts.fold(columns)
    return Reading(
        counts=counts,
        items=activity.items,
        owners=np.zeros(len(activity.items), np.int64),
        item_rows=activity.item_rows(oracle.CATALOGUE.position),
        catalogue=COLUMNS,
        now_s=np.array([now_s]),
        contexts=(CONTEXT,),
    )


def check_same(vector: FeatureVector, reading: Reading) -> None:
    """Every number and every map, to the last bit."""
    values, known = read_standard(reading)
    assert vector.values.tobytes() == values[0].tobytes()
    assert vector.known.tolist() == known[0].tolist()
    for name, found in maps_of(reading).items():
        assert vector.map(name) == dict(found.items()), name


@given(
    life=oracle.lives,
    cuts=st.lists(st.integers(1, 60), max_size=12),
    days=st.lists(st.floats(0, oracle.N_DAYS + 9), min_size=1, max_size=4),
)
def test_person_reading_after_any_events_is_the_plain_one(
    life: list[Event], cuts: list[int], days: list[float]
) -> None:
    """One event or many between two looks, and the clock forwards and back."""
    digest, seen = Digest(), 0
    for turn, cut in enumerate([*cuts, len(life)]):
        digest.add(life[seen : seen + cut])
        seen = min(seen + cut, len(life))
        now_s = (oracle.FIRST_DAY + days[turn % len(days)]) * DAY_S
        vector = digest.features(oracle.CATALOGUE, now_s=now_s, context=CONTEXT)
        check_same(vector, plain(life[:seen], now_s))


@given(life=oracle.lives)
def test_person_reading_of_another_catalogue_keeps_nothing_of_the_first(life: list[Event]) -> None:
    """Sums are of one catalogue; a change of it makes them anew, there and back."""
    digest, now_s = Digest(), (oracle.FIRST_DAY + oracle.N_DAYS) * DAY_S
    digest.add(life)
    fewer = digest.features(FEWER, now_s=now_s)
    again = Digest()
    again.add(life)
    assert fewer.values.tobytes() == again.features(FEWER, now_s=now_s).values.tobytes()
    vector = digest.features(oracle.CATALOGUE, now_s=now_s, context=CONTEXT)
    check_same(vector, plain(life, now_s))
