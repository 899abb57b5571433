"""The bundled sample and the categories that are derived from its descriptions."""

from __future__ import annotations

from collections import Counter
from importlib import resources

import pytest

from simulations.data.bundled import load_bundled
from simulations.data.categories import CATEGORIES, OTHER, coverage, derive_category
from simulations.data.interactions import LoadedData


@pytest.fixture(scope="module")
def bundled() -> LoadedData:
    """The sample, read once."""
    return load_bundled()


def test_load_bundled_counts_are_those_of_the_credit(bundled: LoadedData) -> None:
    """The README's numbers, counted; 1,125 lines are there twice."""
    quality = bundled.quality
    assert (quality.people, quality.items, quality.occasions) == (798, 1604, 5853)
    assert (quality.rows, quality.duplicates, quality.out_of_order) == (110_577, 1_125, 0)
    assert quality.without_details == 0


def test_load_bundled_every_item_has_name_price_and_category(bundled: LoadedData) -> None:
    """A device can say what it shows and why."""
    for item in bundled.catalogue.items:
        assert item.name
        assert item.price is not None
        assert item.category in {"", *CATEGORIES} - {OTHER}


def test_load_bundled_every_occasion_is_one_invoice_of_one_person(bundled: LoadedData) -> None:
    """All lines of an invoice share a person: the split by occasion is the split by invoice."""
    events = bundled.interactions
    owners = {}
    for occasion, user in zip(events.occasions.tolist(), events.users.tolist(), strict=True):
        assert owners.setdefault(occasion, user) == user
    assert min(Counter(owners.values()).values()) == 2  # three, before rare items were cut


def test_bundled_folder_holds_credit_and_licence() -> None:
    """The data is never without its source."""
    text = (resources.files("simulations.data") / "bundled" / "README.md").read_text("utf-8")
    for part in ("Chen", "Sain", "Guo", "10.24432/C5BW33", "Attribution 4.0", "CC0"):
        assert part in text


def test_derive_category_few_items_of_the_sample_are_other(bundled: LoadedData) -> None:
    """At most 15 % may be unknown, and no category swallows a third of the shop."""
    counts = coverage(item.name for item in bundled.catalogue.items)
    total = sum(counts.values())
    assert counts.get(OTHER, 0) <= 0.15 * total
    assert max(counts.values()) < total / 3
    assert len(counts) >= 12


@pytest.mark.parametrize(
    ("description", "category"),
    [
        ("JUMBO BAG RED RETROSPOT", "bags & purses"),
        ("LUNCH BOX WITH CUTLERY RETROSPOT", "lunch & picnic"),
        ("WHITE HANGING HEART T-LIGHT HOLDER", "candles & lights"),
        ("VINTAGE CHRISTMAS STOCKING", "christmas"),
        ("KITCHEN METAL SIGN", "clocks, frames & signs"),
        ("PACK OF 72 RETROSPOT CAKE CASES", "baking"),
        ("RED RETROSPOT OVEN GLOVE DOUBLE", "kitchen & dining"),
        ("BIRD HOUSE HOT WATER BOTTLE", "hot water bottles & warmers"),
        ("BAG 250g SWIRLY MARBLES", "toys & games"),
        ("  herb   marker THYME", "garden"),
        ("STRAWBERRY BATH SPONGE", "bathroom"),
        ("ROSE COTTAGE KEEPSAKE BOX", "jewellery & trinkets"),
        ("SPOTTY BUNTING", "party"),
        ("DOORMAT FAIRY CAKE", "textiles"),
        ("ROUND STORAGE TIN VINTAGE LEAF", "storage"),
        ("WRAP RED APPLES", "cards & wrapping"),
        ("FILIGREE HEART BUTTERFLY WHITE", "home decoration"),
        ("", OTHER),
    ],
)
def test_derive_category_known_item_is_what_a_person_would_say(
    description: str, category: str
) -> None:
    """What a thing is stands before what is drawn on it or where it hangs."""
    assert derive_category(description) == category
