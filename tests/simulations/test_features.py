"""The simulator's features are the device's, for every customer of the bundled data."""

import dataclasses

import numpy as np
import pytest

from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features import Context
from client_sdk.wire import Catalogue
from simulations.data.bundled import load_bundled
from simulations.data.interactions import EVENT_KINDS, Interactions, LoadedData
from simulations.features import features_of

# Every kind of the taxonomy that can concern an item, purchases and views more often.
_DRAWN = ("purchase", "purchase", "product_view", "product_view", *EVENT_KINDS)


@pytest.fixture(scope="module")
def bundled() -> LoadedData:
    """The real customers, with a brand for most items and a sensitive tag for some."""
    data = load_bundled()
    items = tuple(
        dataclasses.replace(
            item,
            brand="" if row % 5 == 0 else f"brand {row % 7}",
            tags=("sensitive:health",) if row % 11 == 0 else (),
        )
        for row, item in enumerate(data.catalogue.items)
    )
    return dataclasses.replace(data, catalogue=Catalogue(items=items))


def _with_kinds_drawn(interactions: Interactions, *, seed: int) -> Interactions:
    """The same customers and times, closer together, as if they had done more than to buy."""
    rng = np.random.default_rng(seed)
    codes = np.array([EVENT_KINDS.index(kind) for kind in _DRAWN], np.int8)
    last_s = interactions.times_s.max()
    return dataclasses.replace(
        interactions,
        kinds=rng.choice(codes, len(interactions)),
        times_s=last_s - (last_s - interactions.times_s) / 10,
        prices=np.where(rng.random(len(interactions)) < 0.2, np.nan, interactions.prices),
    )


def _events_of(interactions: Interactions, catalogue: Catalogue, person: int) -> list[Event]:
    own = interactions.of_person(person)
    return [
        Event(
            kind=EVENT_KINDS[kind],
            item_id=catalogue.items[item].item_id,
            time_s=time_s,
            price=None if np.isnan(price) else price,
            event_id="same for all",
        )
        for kind, item, time_s, price in zip(
            own.kinds, own.items.tolist(), own.times_s.tolist(), own.prices.tolist(), strict=True
        )
    ]


def _digest_of(events: list[Event], *, way: int) -> Digest:
    """Feed a device: one by one in time order, in shuffled batches, or both after a restart."""
    digest = Digest()
    if way == 0:
        for event in events:
            digest.add((event,))
        return digest
    order = np.random.default_rng(way).permutation(len(events))
    events = [events[place] for place in order]
    for start in range(0, len(events), 60):
        digest.add(events[start : start + 60])
        if way == 2:
            digest = Digest.from_bytes(digest.to_bytes())
    return digest


@pytest.mark.parametrize("drawn", [False, True], ids=["as they bought", "all kinds"])
def test_features_of_every_bundled_customer_are_those_of_their_device(
    bundled: LoadedData, *, drawn: bool
) -> None:
    """One path: device and simulation agree on each value and on what is known."""
    interactions = bundled.interactions
    if drawn:
        interactions = _with_kinds_drawn(interactions, seed=7)
    n = interactions.n_people
    now_s = interactions.times_s.max() - np.random.default_rng(1).integers(0, 9, n) * 43_000.0
    contexts = [
        Context(utc_offset_s=900 * (person % 40), device="mobile" if person % 3 else "")
        for person in range(n)
    ]
    simulated = features_of(interactions, bundled.catalogue, now_s=now_s, contexts=contexts)
    for person in range(n):
        digest = _digest_of(_events_of(interactions, bundled.catalogue, person), way=person % 3)
        vector = digest.features(
            bundled.catalogue, now_s=float(now_s[person]), context=contexts[person]
        )
        np.testing.assert_array_equal(vector.known, simulated.known[person])
        np.testing.assert_allclose(vector.values, simulated.values[person], rtol=0, atol=1e-6)
    # The comparison says something only where the features differ between people.
    varied = {
        definition.name
        for definition, column in zip(simulated.definitions, simulated.values.T, strict=True)
        if len(np.unique(column)) > 3
    }
    assert {"purchases_ever", "price_sensitivity", "replenishment_due", "n_brands"} <= varied
    assert not drawn or {"comparison_views_7_days", "stalled_steps_7_days"} <= varied


def test_features_of_other_blocks_are_the_same(bundled: LoadedData) -> None:
    """The size of a block is a matter of memory only."""
    first = bundled.interactions.take(bundled.interactions.users < 40)
    small = dataclasses.replace(first, n_people=40)
    found = [
        features_of(small, bundled.catalogue, now_s=1.32e9, people_a_block=size).values
        for size in (1, 7, 100)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_features_of_a_person_without_a_row_are_those_of_nobody(bundled: LoadedData) -> None:
    """People without interactions are people."""
    none = dataclasses.replace(bundled.interactions.take(slice(0, 0)), n_people=2)
    simulated = features_of(none, bundled.catalogue, now_s=1.32e9)
    vector = Digest().features(bundled.catalogue, now_s=1.32e9)
    np.testing.assert_array_equal(simulated.values, np.stack([vector.values] * 2))
    np.testing.assert_array_equal(simulated.known, np.stack([vector.known] * 2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"contexts": (Context(), Context())},
        {"people_a_block": 0},
        {"now_s": np.zeros(3)},
        {"now_s": float("nan")},
        {"catalogue": Catalogue(items=())},
    ],
)
def test_features_of_what_does_not_fit_is_refused(
    bundled: LoadedData, wrong: dict[str, object]
) -> None:
    """A caller's mistake is told at once."""
    given: dict[str, object] = {"catalogue": bundled.catalogue, "now_s": 0.0, **wrong}
    with pytest.raises(ValueError, match=r"expected|broadcast"):
        features_of(bundled.interactions, **given)  # type: ignore[arg-type]
