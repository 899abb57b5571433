"""The digest equals the fold of its events, in any order and any batches, and survives as bytes."""

import itertools
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sdk.signals.activity import Activity
from client_sdk.signals.digest import Digest
from client_sdk.signals.events import Event
from client_sdk.signals.features import Context, FeatureSet, PropertyFeature
from client_sdk.signals.features.snapshot import VERSION
from tests.client_sdk.signals.features import oracle

NOW_S = (oracle.FIRST_DAY + 46) * 86_400.0
GUESTS = PropertyFeature(
    name="guests",
    meaning="How many you bring.",
    kinds=("tasting_booked",),
    property="guests",
    reducer="mean",
    window="7 days",
    bins=(0.0, 2.0, 6.0),
)
WITH_GUESTS = FeatureSet(custom=(GUESTS,))
LIFE = [
    Event(kind="purchase", item_id="green", time_s=NOW_S - 5.0, price=3.0, event_id="1"),
    Event(kind="product_view", item_id="mug", time_s=NOW_S - 400.0, event_id="2"),
    Event(kind="search", time_s=NOW_S - 90_000.0, properties={"query": "secret"}, event_id="3"),
    Event(kind="tasting_booked", time_s=NOW_S - 7.0, properties={"guests": 2}, event_id="4"),
    Event(kind="return", item_id="ünïcode 🫖", time_s=NOW_S - 9.0, event_id="5"),
]


def _folded(batches: list[list[Event]]) -> Digest:
    digest = Digest(WITH_GUESTS)
    for batch in batches:
        digest.add(batch)
    return digest


def _batches(life: list[Event], size: int) -> list[list[Event]]:
    return [life[start : start + size] for start in range(0, len(life), size)]


@given(life=oracle.lives, seed=st.integers(0, 99), data=st.data())
def test_digest_of_any_order_and_batches_equals_the_fold(
    life: list[Event], seed: int, data: st.DataObject
) -> None:
    """Equal to the last bit: one by one (scalar code) or in batches (arrays), in any order."""
    one_by_one = _folded(_batches(life, 1))
    order = np.random.default_rng(seed).permutation(len(life))
    shuffled = [life[place] for place in order]
    size = data.draw(st.integers(1, 60) | st.just(48))
    batched = _folded(_batches(shuffled, size))
    at_once = _folded([shuffled])
    assert batched.to_bytes() == one_by_one.to_bytes() == at_once.to_bytes()
    assert batched.n_events == len(life)
    assert batched.latest_s == max((event.time_s for event in life), default=None)
    for kind in {event.kind for event in life}:
        times = [event.time_s for event in life if event.kind == kind]
        assert batched.n_by_kind[kind] == len(times)
        assert batched.oldest_s[kind] == min(times)


@given(life=oracle.lives, more=oracle.lives)
def test_digest_read_from_bytes_behaves_identically(life: list[Event], more: list[Event]) -> None:
    """What was kept goes on as if nothing had happened, and reads the same."""
    digest = _folded([life])
    again = Digest.from_bytes(digest.to_bytes(), WITH_GUESTS)
    assert again.to_bytes() == digest.to_bytes()
    for one in (digest, again):
        one.add(more)
    assert again.to_bytes() == digest.to_bytes()
    context = Context(utc_offset_s=3600, device="watch", region="asia")
    mine, theirs = (
        one.features(oracle.CATALOGUE, now_s=NOW_S, context=context) for one in (digest, again)
    )
    np.testing.assert_array_equal(mine.known, theirs.known)
    np.testing.assert_allclose(mine.values, theirs.values, rtol=0, atol=1e-9)
    assert mine.in_words() == theirs.in_words()
    position = oracle.CATALOGUE.position
    histories = [one.history(position, now_s=NOW_S) for one in (digest, again)]
    np.testing.assert_array_equal(histories[0].items, histories[1].items)
    np.testing.assert_array_equal(histories[0].counts, histories[1].counts)
    np.testing.assert_array_equal(histories[0].last_time_s, histories[1].last_time_s)
    assert again.activity.owned() == digest.activity.owned()


@given(life=oracle.lives)
def test_digest_activity_is_that_of_the_events(life: list[Event]) -> None:
    """The ranker gets the same from a digest as from an activity of its own."""
    digest, activity = _folded([life]), Activity(life)
    assert activity.owned() == digest.activity.owned()
    for item_id in oracle.ITEM_IDS:
        assert activity.of(item_id) == digest.activity.of(item_id)
        assert activity.purchase_days(item_id) == digest.activity.purchase_days(item_id)


def test_digest_from_bytes_of_wrong_bytes_is_refused() -> None:
    """A snapshot is read whole and unchanged, or not at all."""
    data = _folded([LIFE]).to_bytes()
    for wrong in (
        b"",
        data[:-1],
        data + b"\0",
        data[:4] + bytes([VERSION + 1]) + data[5:],
        b"JUNK" + data[4:],
        b'{"n": 1}',
    ):
        with pytest.raises(ValueError, match="snapshot: expected"):
            Digest.from_bytes(wrong, WITH_GUESTS)
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(ValueError, match="snapshot: expected"):
            Digest.from_bytes(changed, WITH_GUESTS)


@settings(max_examples=400)
@given(data=st.data())
def test_digest_from_bytes_of_forged_bytes_is_refused_or_sound(data: st.DataObject) -> None:
    """With a right checksum too: a `ValueError`, or a digest that can be read and kept."""
    body = bytearray(zlib.decompress(_folded([LIFE]).to_bytes()[9:]))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    try:
        digest = Digest.from_bytes(_sealed(bytes(body)), WITH_GUESTS)
    except ValueError:
        return
    digest.add(LIFE)
    vector = digest.features(oracle.CATALOGUE, now_s=NOW_S)
    assert np.isfinite(vector.values).all()
    assert Digest.from_bytes(digest.to_bytes(), WITH_GUESTS).to_bytes() == digest.to_bytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kinds", {"purchase": [9, 0.0, 1.0]}),
        ("kinds", {"purchase": [5, 3.0, 1.0]}),
        ("kinds", {"purchase": [5, 1, 2]}),
        ("kinds", []),
        ("counts", {"newest": 3.0, "seen": {}}),
        ("counts", {"newest": -1, "seen": {}}),
        ("counts", {"newest": 20_045, "seen": {"20045": [0]}}),
        ("counts", {"newest": 20_045, "seen": {"20045": [2, 1]}}),
        ("counts", {"newest": 20_045, "seen": {"20045": "many"}}),
        ("counts", {"newest": 20_045, "seen": {"20013": [1]}}),
        ("counts", {"newest": 20_045, "seen": {"020045": [1]}}),
        ("counts", None),
        ("custom", []),
        ("custom", [{"n": 1}]),
        ("custom", [None]),
        ("n_items", 2),
        ("n_items", -1),
        ("n_items", 10**30),
        ("n_days", "1"),
        ("more", 1),
    ],
)
def test_digest_from_bytes_with_a_wrong_head_is_refused(key: str, value: object) -> None:
    """Every part of the head is checked, whoever made the checksum."""
    body = zlib.decompress(_folded([LIFE]).to_bytes()[9:])
    (length,) = struct.unpack_from("<I", body)
    head = {**json.loads(body[4 : 4 + length]), key: value}
    written = json.dumps(head).encode()
    forged = struct.pack("<I", len(written)) + written + body[4 + length :]
    with pytest.raises(ValueError, match="expected"):
        Digest.from_bytes(_sealed(forged), WITH_GUESTS)


@pytest.mark.parametrize("names", [b"ba", b"aa", b"a"])
def test_digest_from_bytes_with_wrong_item_ids_is_refused(names: bytes) -> None:
    """Each item once, in one order: else an item could have two rows."""
    digest = Digest()
    digest.add([Event(kind="cart", item_id=item, time_s=1.0) for item in "ab"])
    body = zlib.decompress(digest.to_bytes()[9:])
    assert body.endswith(b"ab")
    with pytest.raises(ValueError, match="expected the ids of the items"):
        Digest.from_bytes(_sealed(body[:-2] + names))


def test_digest_of_other_custom_features_is_refused() -> None:
    """What was folded for one declaration is not read for another."""
    data = _folded([LIFE]).to_bytes()
    with pytest.raises(ValueError, match="features that are declared now"):
        Digest.from_bytes(data)
    other = FeatureSet(
        custom=(
            PropertyFeature(
                name="guests",
                meaning="How many you bring.",
                kinds=("tasting_booked",),
                property="guests",
                reducer="mean",
                window="8 days",
                bins=(0.0, 2.0, 6.0),
            ),
        )
    )
    with pytest.raises(ValueError, match="declared now"):
        Digest.from_bytes(data, other)


def test_digest_bytes_hold_no_text_of_a_search() -> None:
    """A query is kept as a hash, as long as its day is in the ring."""
    body = zlib.decompress(_folded([LIFE]).to_bytes()[9:])
    assert b"secret" not in body
    assert b"green" in body


def test_digest_reading_changes_nothing_and_a_vector_stays() -> None:
    """A vector is a value, and asking is free of effects."""
    digest = _folded([LIFE])
    before = digest.to_bytes()
    vector = digest.features(oracle.CATALOGUE, now_s=NOW_S)
    values = vector.values.tolist()
    affinity = vector.map("category_affinity")
    assert digest.to_bytes() == before
    digest.add(LIFE)
    assert vector.values.tolist() == values
    assert vector.map("category_affinity") == affinity
    assert affinity == pytest.approx({"tea": 1.0 / 1.3, "kitchen": 0.3 / 1.3})
    assert vector.get("guests") == 2.0
    assert vector.in_words()[-1] == "How many you bring: 2."


def test_digest_follows_the_catalogue() -> None:
    """A release that comes later has other items; what was done is seen in its light."""
    digest = _folded([LIFE])
    other = type(oracle.CATALOGUE)(items=oracle.CATALOGUE.items[3:])
    shares = [
        digest.features(catalogue, now_s=NOW_S).map("category_affinity")
        for catalogue in (oracle.CATALOGUE, other, oracle.CATALOGUE)
    ]
    assert shares[1] == {"kitchen": 1.0}
    assert shares[0] == shares[2] != shares[1]


def test_digest_keeps_the_32_latest_purchase_days_of_an_item() -> None:
    """Of many days the latest are kept, in any order, and a day counts once."""
    times = [day * 86_400.0 + 5 for day in range(50)] * 2
    events = [Event(kind="purchase", item_id="mug", time_s=time_s) for time_s in times]
    for order in (events, events[::-1], events[1::3] + events[::3] + events[2::3]):
        for batch in (1, 17, 100):
            digest = _folded(_batches(order, batch))
            assert digest.activity.purchase_days("mug") == tuple(range(18, 50))
    assert digest.activity.of("mug").first_purchase_s == 5.0
    assert digest.activity.of("mug").last_purchase_s == times[-1]
    assert digest.activity.purchase_days("cup") == ()


@pytest.mark.parametrize("times", [1, 20])
def test_digest_keeps_views_of_the_31_days_before_the_latest(times: int) -> None:
    """One by one and as columns, the latest first or last: day 31 back is kept, day 32 is not."""
    days_back = (0, 1, 31, 32, 50)
    views = [
        Event(kind="product_view", item_id="mug", time_s=(100 - back) * 86_400.0)
        for back in days_back
    ]
    for order in (views, views[::-1]):
        items = _folded([order * times]).activity.items
        viewed = items.viewed_on(np.zeros(1, np.int64), 100 - np.array([[*days_back, -1]]))
        assert viewed.tolist() == [[True, True, True, False, False, False]]


def test_digest_grows_with_the_items() -> None:
    """A thousand items, one by one, are a thousand rows."""
    digest = Digest()
    names = [f"item {number}" for number in range(1000)]
    for name in names:
        digest.add([Event(kind="cart", item_id=name, time_s=1.0)])
    assert len(digest.activity.items) == 1000
    position = {name: row for row, name in enumerate(names)}
    history = digest.history(position, now_s=2.0)
    assert history.counts.tolist() == pytest.approx([0.6] * 1000)
    assert list(itertools.islice(digest.activity.item_ids, 2)) == ["item 0", "item 1"]


def _sealed(body: bytes) -> bytes:
    packed = zlib.compress(body)
    return struct.pack("<4sBI", b"HBDG", VERSION, zlib.crc32(packed)) + packed
