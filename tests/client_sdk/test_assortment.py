"""What can be shown: the release's rows in its order, and what changed since."""

import numpy as np
import pytest

from client_sdk.assortment import bring_up_to_date, prepare, topics_of
from client_sdk.catalogue_updates import NO_UPDATES, CatalogueUpdates
from client_sdk.installed import without_release
from client_sdk.intelligence import RankerTable
from client_sdk.wire import DEFAULT_POLICY, Catalogue, Item


@pytest.fixture
def described() -> Catalogue:
    """Six items; nothing was learned of the last two."""
    return Catalogue(
        items=(
            Item(item_id="a", name="Green tea", category="Tea", brand="Elm", price=1.0),
            Item(item_id="b", name="Black tea", category="Tea", brand="Elm", tags=("Organic",)),
            Item(item_id="c", name="Blue mug", category="Kitchen", brand="Oak", stock=0),
            Item(item_id="d", name="Red mug", category="Kitchen", brand="Oak", stock=5),
            Item(item_id="e", name="Mint tea", category="Tea", brand="Elm"),
            Item(item_id="f", name="Grey mug", category="Kitchen", brand="Oak"),
        )
    )


@pytest.fixture
def table() -> RankerTable:
    """Tea points one way, mugs another."""
    factors = np.array([[0.5, 0.0]] * 2 + [[0.0, 0.5]] * 2 + [[0.0, 0.0]] * 2)
    weight = (factors**2).sum(axis=1)
    return RankerTable.from_arrays(factors=factors, self_weight=weight, scale=1 / (1 - weight))


def test_prepare_guesses_what_was_not_learned(described: Catalogue, table: RankerTable) -> None:
    """New tea is like tea, a new mug like mugs, and learned rows are the release's."""
    filled = prepare(described, table).table.factors
    assert np.array_equal(filled[:4], table.factors[:4])
    assert filled[4, 0] > abs(filled[4, 1])
    assert filled[5, 1] > abs(filled[5, 0])


def test_topics_are_category_brand_and_tags_in_any_case(
    described: Catalogue, table: RankerTable
) -> None:
    """A topic finds each of its items once."""
    stock = prepare(described, table)
    assert np.flatnonzero(stock.about({"tea"})).tolist() == [0, 1, 4]
    assert np.flatnonzero(stock.about({"elm", "organic", "no such"})).tolist() == [0, 1, 4]
    assert np.flatnonzero(stock.about({"organic", "oak"})).tolist() == [1, 2, 3, 5]
    assert np.flatnonzero(stock.about(set())).tolist() == []
    assert topics_of(described.items[1]) == ["Tea", "Elm", "Organic"]


def test_bring_up_to_date_changes_price_and_stock_and_nothing_of_the_release(
    described: Catalogue, table: RankerTable
) -> None:
    """The release's catalogue is another value, and its identity stays."""
    identity = described.sha256
    base = prepare(described, table)
    now = bring_up_to_date(
        base,
        CatalogueUpdates(
            prices={"a": 2.0, "unknown": 1.0},
            stock={"c": 3, "d": 0},
            withdrawn=frozenset({"f", "unknown"}),
        ),
    )
    assert (now.catalogue.items[0].price, base.catalogue.items[0].price) == (2.0, 1.0)
    assert base.hidden(in_stock_only=True).tolist() == [2]
    assert now.hidden(in_stock_only=True).tolist() == [3, 5]
    assert now.hidden(in_stock_only=False).tolist() == [5]
    assert now.table is base.table
    assert now.position is base.position is described.position
    assert described.sha256 == identity


def test_bring_up_to_date_added_items_stand_behind_the_release(
    described: Catalogue, table: RankerTable
) -> None:
    """They have rows, topics, a guess; the others keep their rows and their numbers."""
    base = prepare(described, table)
    new = Item(item_id="g", name="White tea", category="Tea", brand="Elm", stock=0)
    known = Item(item_id="a", name="Not this one", category="Kitchen")
    now = bring_up_to_date(base, CatalogueUpdates(added=(new, known), prices={"g": 7.0}))
    assert [item.item_id for item in now.catalogue.items] == list("abcdefg")
    assert now.catalogue.items[0] == described.items[0]
    assert now.catalogue.items[6].price == 7.0
    assert now.position == {**described.position, "g": 6}
    assert np.flatnonzero(now.about({"tea"})).tolist() == [0, 1, 4, 6]
    assert now.hidden(in_stock_only=True).tolist() == [2, 6]
    assert np.array_equal(now.table.factors[:6], base.table.factors)
    assert now.table.factors[6, 0] > abs(now.table.factors[6, 1])
    assert now.rows_of(["g", "x", "a"]).tolist() == [6, 0]


def test_installed_assortment_is_prepared_once_for_each_value_of_updates(
    described: Catalogue,
) -> None:
    """Asking again costs nothing; no updates are the release as it came."""
    installed = without_release(described, DEFAULT_POLICY)
    first, second = CatalogueUpdates(stock={"a": 0}), CatalogueUpdates(stock={"b": 0})
    base = installed.assortment()
    assert installed.assortment(NO_UPDATES) is base
    now = installed.assortment(first)
    assert installed.assortment(first) is now
    assert installed.assortment(second).hidden(in_stock_only=True).tolist() == [1, 2]
    assert installed.assortment(NO_UPDATES) is base
    assert base.table is installed.table


def test_installed_homes_of_one_process_share_what_a_catalogue_says(described: Catalogue) -> None:
    """Two homes without a model have two tables, and one copy of everything else."""
    one, other = (without_release(described, DEFAULT_POLICY).assortment() for _ in range(2))
    assert one.table is not other.table
    assert one.words is other.words
    assert one.categories is other.categories
