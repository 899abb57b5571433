"""A catalogue as a matrix of public attributes."""

import numpy as np
import pytest

from client_sdk.wire import Catalogue, Item
from simulations.attributes import catalogue_attributes


def test_catalogue_attributes_share_what_items_share() -> None:
    """One category and one word give their weights; nothing in common gives nothing."""
    items = tuple(
        Item(item_id=str(at), name=name, category=category)
        for at, (name, category) in enumerate(
            [("red cup", "tea"), ("red cup", "tea"), ("blue hat", "wear"), ("blue hat", "")]
        )
    )
    rows = catalogue_attributes(Catalogue(items=items), word_weight=2.0, category_weight=0.5)
    alike = rows @ rows.T
    assert alike[0, 1] == pytest.approx(2.5, abs=1e-5)
    assert alike[0, 0] == pytest.approx(2.5, abs=1e-5)
    assert alike[0, 2] == 0
    assert alike[2, 3] == pytest.approx(2.0, abs=1e-5)
    assert np.isfinite(rows).all()
