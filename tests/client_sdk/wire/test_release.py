"""Catalogue, policy and manifest: round trip, and refusal of everything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.testing import FakeAggregator
from client_sdk.wire import (
    CATALOGUE_FILE,
    DEFAULT_POLICY,
    POLICY_FILE,
    TABLE_FILE,
    Catalogue,
    ConsentPolicy,
    Item,
    Purpose,
    ReleaseManifest,
    WireFormatError,
)

ITEMS = st.builds(
    Item,
    item_id=st.text(min_size=1, max_size=8),
    name=st.text(max_size=8),
    category=st.text(max_size=4),
    price=st.none() | st.floats(0, 1e6),
    brand=st.text(max_size=4),
    stock=st.none() | st.integers(0, 10**12),
    tags=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    attributes=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
)


@given(items=st.lists(ITEMS, max_size=6, unique_by=lambda item: item.item_id))
def test_catalogue_written_and_read_is_the_same(items: list[Item]) -> None:
    """A catalogue survives its own bytes, and so does its identity."""
    catalogue = Catalogue(items=tuple(items))
    again = Catalogue.from_bytes(catalogue.to_bytes())
    assert again == catalogue
    assert again.sha256 == catalogue.sha256


@pytest.mark.parametrize(
    "changes",
    [
        {"item_id": ["a", "a"]},
        {"item_id": ["a", ""]},
        {"name": ["a"]},
        {"price": [1, "2"]},
        {"price": [True, 1]},
        {"price": [10**400, 1]},
        {"price": "12"},
        {"price": [float("nan"), 1]},
        {"colour": ["red", "blue"]},
        {"brand": ["Acme", None]},
        {"brand": ["Acme"]},
        {"stock": [1, -1]},
        {"stock": [1, 2.0]},
        {"stock": [True, 1]},
        {"stock": [1, 10**13]},
        {"stock": 3},
        {"tags": [["a"], "b"]},
        {"tags": [["a"], [1]]},
        {"attributes": [{}, []]},
        {"attributes": [{}, {"colour": 1}]},
    ],
)
def test_catalogue_with_a_wrong_column_is_refused(changes: dict[str, Any]) -> None:
    """Columns have one length, types and unique ids."""
    good = {"item_id": ["a", "b"], "name": ["", ""], "category": ["", ""], "price": [None, 1.5]}
    Catalogue.from_bytes(json.dumps(good).encode())
    with pytest.raises(WireFormatError):
        Catalogue.from_bytes(json.dumps({**good, **changes}).encode())


def test_catalogue_without_descriptions_has_the_bytes_that_it_always_had() -> None:
    """Columns that nobody filled are left out: old bytes are read, and keep their identity."""
    old = b'{"category":["tea"],"item_id":["a"],"name":["Green tea"],"price":[4.5]}'
    catalogue = Catalogue.from_bytes(old)
    assert catalogue.items == (Item(item_id="a", name="Green tea", category="tea", price=4.5),)
    assert catalogue.to_bytes() == old
    assert catalogue.sha256 == "13aac842708e2f7c025d0ea0a0f52a91b668a1e447f8e4e5d370950c4818082d"


def test_catalogue_with_one_described_item_has_that_column_alone() -> None:
    """One brand fills one column; each further fact changes the identity."""
    plain = Catalogue(items=(Item(item_id="a"), Item(item_id="b")))
    branded = Catalogue(items=(Item(item_id="a"), Item(item_id="b", brand="Acme")))
    assert json.loads(branded.to_bytes()).keys() - json.loads(plain.to_bytes()).keys() == {"brand"}
    assert branded.sha256 != plain.sha256


@given(item=ITEMS)
def test_item_written_and_read_is_the_same(item: Item) -> None:
    """An item survives its own JSON, also through text."""
    assert Item.from_json(json.loads(json.dumps(item.to_json()))) == item


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"item_id": "a"},
        {"item_id": "", "name": "", "category": "", "price": None},
        {"item_id": "a", "name": "", "category": "", "price": "1"},
        {"item_id": "a", "name": "", "category": "", "price": None, "colour": "red"},
        {"item_id": "a", "name": "", "category": "", "price": None, "stock": -1},
    ],
)
def test_item_from_anything_else_is_refused(value: object) -> None:
    """An item has its columns, and no other."""
    with pytest.raises(WireFormatError):
        Item.from_json(value)


@given(data=st.binary(max_size=60))
def test_release_files_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Reading what came in is total."""
    for reader in (Catalogue.from_bytes, ConsentPolicy.from_bytes, ReleaseManifest.from_bytes):
        with pytest.raises(WireFormatError):
            reader(data)


def test_policy_written_and_read_is_the_same() -> None:
    """A policy survives its own bytes; its hash is its identity."""
    again = ConsentPolicy.from_bytes(DEFAULT_POLICY.to_bytes())
    assert again == DEFAULT_POLICY
    assert again.sha256 == DEFAULT_POLICY.sha256


@pytest.mark.parametrize("texts", [{}, {"train": "x"}, {p.value: 1 for p in Purpose}])
def test_policy_without_a_text_for_each_purpose_is_refused(texts: dict[str, Any]) -> None:
    """Nobody is asked without a text."""
    data = json.dumps({"version": "1", "texts": texts, "valid_for_s": 10}).encode()
    with pytest.raises(WireFormatError):
        ConsentPolicy.from_bytes(data)


def test_manifest_written_and_read_is_the_same(
    aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A manifest survives its own bytes, and says where its files lie."""
    manifest = aggregator.release(catalogue, version=3).manifest
    assert ReleaseManifest.from_bytes(manifest.to_bytes()) == manifest
    assert not manifest.has_model
    assert manifest.target_path(CATALOGUE_FILE) == "3/catalogue.json"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"files": {}},
        {"files": {CATALOGUE_FILE: "a", POLICY_FILE: "b", TABLE_FILE: "c"}},
        {"files": {CATALOGUE_FILE: "a", POLICY_FILE: "b", "run.sh": "c"}},
        {"aggregator_key": "ab"},
        {"extra": 1},
    ],
)
def test_manifest_with_a_wrong_field_is_refused(
    changes: dict[str, Any], aggregator: FakeAggregator, catalogue: Catalogue
) -> None:
    """A release is whole, and holds nothing but what the SDK knows."""
    good = json.loads(aggregator.release(catalogue).manifest.to_bytes())
    with pytest.raises(WireFormatError):
        ReleaseManifest.from_bytes(json.dumps({**good, **changes}).encode())
